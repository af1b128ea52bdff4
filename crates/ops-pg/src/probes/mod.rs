//! The probes, one file each.

mod archiving;
mod blocking;
mod checkpoints;
mod checksums;
mod collation;
mod connections;
mod index_duplicate;
mod reachable;
mod replication_lag;
mod replication_slots;
mod rls;
mod role;
mod sequences;
mod slow_queries;
mod subscriptions;
mod sync_replication;
mod uptime;
mod version;
mod wal_size;
mod windowed;
mod wraparound;

use crate::probe::PgProbe;

/// In the order of the report: what decides whether the rest means anything comes first.
pub(crate) static ALL: &[&dyn PgProbe] = &[
    &reachable::Reachable,
    &version::Version,
    &uptime::Uptime,
    &role::Role,
    &checksums::Checksums,
    &collation::Collation,
    &replication_lag::ReplicationLag,
    &sync_replication::SyncReplication,
    &replication_slots::ReplicationSlots,
    &subscriptions::Subscriptions,
    &archiving::Archiving,
    &wal_size::WalSize,
    &checkpoints::Checkpoints,
    &connections::Connections,
    &blocking::Blocking,
    &wraparound::Wraparound,
    &sequences::Sequences,
    &slow_queries::SlowQueries,
    &index_duplicate::IndexDuplicate,
    &rls::Rls,
];
