//! The probes, one file each.

mod bloat;
mod blocking;
mod connections;
mod dead_tuples;
mod event_triggers;
mod extensions;
mod functions;
mod index_bloat;
mod index_duplicate;
mod index_invalid;
mod index_missing_fk;
mod index_unused;
mod matviews;
mod partitions;
mod primary_keys;
mod public_grants;
mod reachable;
mod rls;
mod roles;
mod search_path;
mod seq_scans;
mod sequences;
mod size;
mod slow_queries;
mod stale_statistics;
mod table_bloat;
mod vacuum_backlog;
mod windowed;
mod words;
mod wraparound;

use crate::probe::PgProbe;

/// In the order of the report: what decides whether the rest means anything comes first.
pub(crate) static ALL: &[&dyn PgProbe] = &[
    &reachable::Reachable,
    &connections::Connections,
    &blocking::Blocking,
    &wraparound::Wraparound,
    &sequences::Sequences,
    &slow_queries::SlowQueries,
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
    &extensions::Extensions,
    &event_triggers::EventTriggers,
    &functions::Functions,
    &matviews::Matviews,
    &rls::Rls,
    &search_path::SearchPath,
    &primary_keys::PrimaryKeys,
    &roles::Roles,
    &public_grants::PublicGrants,
];
