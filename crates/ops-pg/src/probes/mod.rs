//! The probes, one file each.

mod blocking;
mod connections;
mod dead_tuples;
mod index_duplicate;
mod index_invalid;
mod index_missing_fk;
mod index_unused;
mod partitions;
mod reachable;
mod rls;
mod seq_scans;
mod sequences;
mod size;
mod slow_queries;
mod stale_statistics;
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
    &index_duplicate::IndexDuplicate,
    &index_invalid::IndexInvalid,
    &index_unused::IndexUnused,
    &index_missing_fk::IndexMissingFk,
    &rls::Rls,
];
