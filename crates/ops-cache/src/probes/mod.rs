//! One file a probe: its `SPEC`, what it reads, and how it judges that.

pub(crate) mod blocked_clients;
pub(crate) mod clients;
pub(crate) mod cluster;
pub(crate) mod evictions;
pub(crate) mod fragmentation;
pub(crate) mod hit_rate;
pub(crate) mod keys;
pub(crate) mod latency;
pub(crate) mod memory;
pub(crate) mod no_ttl;
pub(crate) mod persistence;
pub(crate) mod reachable;
pub(crate) mod rejected_connections;
pub(crate) mod replication;
mod reply;
pub(crate) mod sentinel;
pub(crate) mod settings;
pub(crate) mod slowlog;
mod windowed;
