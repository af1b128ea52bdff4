//! The probes, one file each.

mod archiving;
mod bloat;
mod blocking;
mod cache_hit;
mod checkpoints;
mod checksums;
mod collation;
mod connections;
mod counting;
mod dead_tuples;
mod deadlocks;
mod estimate;
mod event_triggers;
mod extensions;
mod functions;
mod idle_in_transaction;
mod index_bloat;
mod index_duplicate;
mod index_hit;
mod index_invalid;
mod index_missing_fk;
mod index_unused;
mod io;
mod long_queries;
mod long_transactions;
mod matviews;
mod notify_latency;
mod partitions;
mod pgbouncer;
mod pool;
mod prepared_transactions;
mod primary_keys;
mod public_grants;
mod reachable;
mod replication_lag;
mod replication_slots;
mod rls;
mod rls_isolation;
mod role;
mod roles;
mod search_path;
mod seq_scans;
mod sequences;
mod session_row;
mod settings;
mod size;
mod slow_queries;
mod ssl;
mod stale_statistics;
mod standby;
mod statements;
mod subscriptions;
mod sync_replication;
mod table_bloat;
mod temp_files;
mod uptime;
mod vacuum_backlog;
mod version;
mod wait_events;
mod wal_size;
mod windowed;
mod words;
mod wraparound;
mod xmin_horizon;

use crate::probe::PgProbe;

/// In the order of the report: what decides whether the rest means anything comes first.
pub(crate) static ALL: &[&dyn PgProbe] = &[
    &reachable::Reachable,
    &version::Version,
    &uptime::Uptime,
    &role::Role,
    &checksums::Checksums,
    &collation::Collation,
    &connections::Connections,
    &idle_in_transaction::IdleInTransaction,
    &long_transactions::LongTransactions,
    &long_queries::LongQueries,
    &prepared_transactions::PreparedTransactions,
    &wait_events::WaitEvents,
    &pgbouncer::PgBouncer,
    &pool::Pool,
    &blocking::Blocking,
    &deadlocks::Deadlocks,
    &wraparound::Wraparound,
    &xmin_horizon::XminHorizon,
    &replication_lag::ReplicationLag,
    &sync_replication::SyncReplication,
    &replication_slots::ReplicationSlots,
    &subscriptions::Subscriptions,
    &archiving::Archiving,
    &wal_size::WalSize,
    &checkpoints::Checkpoints,
    &cache_hit::CacheHit,
    &index_hit::IndexHit,
    &temp_files::TempFiles,
    &io::Io,
    &vacuum_backlog::VacuumBacklog,
    &dead_tuples::DeadTuples,
    &stale_statistics::StaleStatistics,
    &seq_scans::SeqScans,
    &size::Size,
    &partitions::Partitions,
    &table_bloat::TableBloat,
    &index_duplicate::IndexDuplicate,
    &index_invalid::IndexInvalid,
    &index_unused::IndexUnused,
    &index_missing_fk::IndexMissingFk,
    &index_bloat::IndexBloat,
    &slow_queries::SlowQueries,
    &statements::Statements,
    &sequences::Sequences,
    &extensions::Extensions,
    &event_triggers::EventTriggers,
    &functions::Functions,
    &matviews::Matviews,
    &settings::ServerSettings,
    &rls::Rls,
    &rls_isolation::RlsIsolation,
    &search_path::SearchPath,
    &primary_keys::PrimaryKeys,
    &roles::Roles,
    &public_grants::PublicGrants,
    &ssl::Ssl,
    &notify_latency::NotifyLatency,
];
