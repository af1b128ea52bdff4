//! The rights that let every probe see, without the right to read a key.

use std::collections::BTreeSet;

use ops_core::Requirement;

use crate::probe::registry;

/// The command that lets `user` run what the built-in probes send, for an administrator to give to `redis-cli`. It
/// adds rights to those that the user has, and none on any key.
///
/// ```
/// assert!(ops_cache::grants("ops").starts_with("ACL SETUSER ops on "));
/// ```
pub fn grants(user: &str) -> String {
    let commands: BTreeSet<_> = registry()
        .iter()
        .flat_map(|probe| probe.spec().requires)
        .filter_map(|needed| match needed {
            Requirement::Command(command) => Some(format!("+{}", command.replace(' ', "|"))),
            _ => None,
        })
        .collect();
    format!("ACL SETUSER {user} on {}", commands.into_iter().collect::<Vec<_>>().join(" "))
}
