//! The rights that let every probe see, without the right to read a key.

use std::collections::BTreeSet;

use ops_core::Requirement;

use crate::probe::registry;
use crate::target::RedisTarget;

/// The command that lets `user` run what `target` and the built-in probes send, for an administrator to give to
/// `redis-cli`. It adds rights to those that the user has, and none on any key.
///
/// ```
/// use ops_cache::{RedisOptions, RedisTarget, grants};
/// use ops_core::Secret;
/// for (url, selects) in [("redis://cache", false), ("redis://cache/3", true)] {
///     let cache = RedisTarget::connect_lazily("cache", &Secret::from(url), RedisOptions::default()).unwrap();
///     let command = grants(&cache, "ops");
///     assert!(command.starts_with("ACL SETUSER ops on ") && command.contains(" +info "));
///     assert_eq!(command.contains(" +select"), selects);
/// }
/// ```
pub fn grants(target: &RedisTarget, user: &str) -> String {
    let commands: BTreeSet<_> = registry()
        .iter()
        .flat_map(|probe| probe.spec().requires)
        .filter_map(|needed| match needed {
            Requirement::Command(command) => Some(format!("+{}", command.replace(' ', "|"))),
            _ => None,
        })
        .chain(target.selects().then(|| "+select".to_owned()))
        .collect();
    format!("ACL SETUSER {user} on {}", commands.into_iter().collect::<Vec<_>>().join(" "))
}
