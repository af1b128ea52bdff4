//! The rights that let every probe see, without the right to read a key.

use std::collections::BTreeSet;

use ops_core::Requirement;

use crate::probe::registry;
use crate::probes::{reachable, sentinel};
use crate::target::RedisTarget;

/// What lets `user` run what `target` and the built-in probes send, for an administrator to give to `redis-cli`: a
/// command for a server that holds data, and as comments what is optional there, and what a sentinel takes in its
/// place. One command for both would be refused by either, as each knows no command of the other's. It adds rights to
/// those that the user has, and none on any key.
///
/// ```
/// use ops_cache::{RedisOptions, RedisTarget, grants};
/// use ops_core::Secret;
/// for (url, selects) in [("redis://cache", false), ("redis://cache/3", true)] {
///     let cache = RedisTarget::connect_lazily("cache", &Secret::from(url), RedisOptions::default()).unwrap();
///     let script = grants(&cache, "ops");
///     let command = script.lines().next().unwrap();
///     assert!(command.starts_with("ACL SETUSER ops on ") && command.contains(" +info "));
///     assert_eq!(command.contains(" +select"), selects);
///     assert!(!command.contains("config") && script.contains("\n# ACL SETUSER ops +config|get\n"));
/// }
/// ```
pub fn grants(target: &RedisTarget, user: &str) -> String {
    let select = target.selects().then(|| "+select".to_owned());
    let data = command(user, commands(|probe| probe != sentinel::SPEC.name).chain(select));
    format!(
        "{data}\n\
         # Optional: whether the slow log and the latency monitor are kept, without which both are unknown while\n\
         # they are empty. It also shows the passwords that stand in the server's configuration.\n\
         # ACL SETUSER {user} +config|get\n\
         # A sentinel takes, in place of these:\n\
         # {}",
        grants_on_sentinel(user)
    )
}

/// The same for a sentinel, which knows no command that is about data.
///
/// ```
/// let command = ops_cache::grants_on_sentinel("ops");
/// assert!(command.starts_with("ACL SETUSER ops on +info +ping +sentinel|"));
/// ```
pub fn grants_on_sentinel(user: &str) -> String {
    command(user, commands(|probe| [reachable::SPEC.name, sentinel::SPEC.name].contains(&probe)))
}

/// What the probes that are `chosen` by name send.
fn commands(chosen: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    let specs = registry().iter().map(|probe| probe.spec()).filter(move |spec| chosen(spec.name));
    specs.flat_map(|spec| spec.requires).filter_map(|needed| match needed {
        Requirement::Command(command) => Some(format!("+{}", command.replace(' ', "|"))),
        _ => None,
    })
}

fn command(user: &str, commands: impl Iterator<Item = String>) -> String {
    let commands: BTreeSet<_> = commands.collect();
    format!("ACL SETUSER {user} on {}", commands.into_iter().collect::<Vec<_>>().join(" "))
}
