//! The probes, one file each.

mod blocking;
mod cache_hit;
mod connections;
mod deadlocks;
mod idle_in_transaction;
mod index_duplicate;
mod index_hit;
mod io;
mod long_queries;
mod long_transactions;
mod notify_latency;
mod pgbouncer;
mod prepared_transactions;
mod reachable;
mod rls;
mod rls_isolation;
mod sequences;
mod session_row;
mod settings;
mod slow_queries;
mod ssl;
mod statements;
mod temp_files;
mod wait_events;
mod windowed;
mod wraparound;
mod xmin_horizon;

use crate::probe::PgProbe;

/// In the order of the report: what decides whether the rest means anything comes first.
pub(crate) static ALL: &[&dyn PgProbe] = &[
    &reachable::Reachable,
    &connections::Connections,
    &idle_in_transaction::IdleInTransaction,
    &long_transactions::LongTransactions,
    &long_queries::LongQueries,
    &prepared_transactions::PreparedTransactions,
    &wait_events::WaitEvents,
    &pgbouncer::PgBouncer,
    &blocking::Blocking,
    &deadlocks::Deadlocks,
    &wraparound::Wraparound,
    &xmin_horizon::XminHorizon,
    &cache_hit::CacheHit,
    &index_hit::IndexHit,
    &temp_files::TempFiles,
    &io::Io,
    &sequences::Sequences,
    &slow_queries::SlowQueries,
    &statements::Statements,
    &index_duplicate::IndexDuplicate,
    &settings::ServerSettings,
    &notify_latency::NotifyLatency,
    &rls::Rls,
    &rls_isolation::RlsIsolation,
    &ssl::Ssl,
];
