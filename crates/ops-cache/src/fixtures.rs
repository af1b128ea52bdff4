//! Replies of `INFO` captured from real servers.

/// Redis 7.0.15, fresh, no `maxmemory`: six keys in db0, one with a TTL; one key in db3.
pub(crate) const REDIS_7: &str = include_str!("fixtures/redis-7.0.15.txt");
/// The same server over its `maxmemory` under `noeviction`: it refuses writes.
pub(crate) const NOEVICTION_FULL: &str = include_str!("fixtures/redis-7.0.15-noeviction-full.txt");

/// Valkey 8.1.1, fresh and empty.
pub(crate) const VALKEY_8: &str = include_str!("fixtures/valkey-8.1.1.txt");

/// A captured reply with one field changed.
pub(crate) fn with(reply: &str, field: &str, value: &str) -> String {
    let prefix = format!("{field}:");
    assert!(reply.lines().any(|line| line.starts_with(&prefix)), "the fixture has no {field}");
    reply
        .lines()
        .map(
            |line| if line.starts_with(&prefix) { format!("{prefix}{value}\n") } else { format!("{line}\n") },
        )
        .collect()
}

/// A captured reply with one field left out, as a managed service or a fork does.
pub(crate) fn without(reply: &str, field: &str) -> String {
    let prefix = format!("{field}:");
    reply.lines().filter(|line| !line.starts_with(&prefix)).map(|line| format!("{line}\n")).collect()
}
