//! The rights that let every probe see, without the right to read a row of a user's.

use ops_core::Requirement;

/// What bloat estimates need.
pub(crate) const COLUMN_STATISTICS: Requirement =
    Requirement::Grant { what: "the statistics of columns", statement: COLUMN_STATISTICS_VIEW };

/// The columns that both ways to the statistics have: widths and shares, none of the values that `pg_stats` shows
/// beside them.
pub(crate) const STATISTICS_OF_SUPERUSER: &str = "
(SELECT starelid AS relid, staattnum AS attnum, stainherit AS inherited, stanullfrac AS null_fraction,
        stawidth AS average_width, stadistinct AS distinct_values FROM pg_catalog.pg_statistic)";

/// A view runs with its owner's rights, so that the role itself needs none on `pg_statistic`.
const COLUMN_STATISTICS_VIEW: &str = "CREATE OR REPLACE VIEW ops.column_statistics AS \
     SELECT starelid AS relid, staattnum AS attnum, stainherit AS inherited, stanullfrac AS null_fraction, \
     stawidth AS average_width, stadistinct AS distinct_values FROM pg_catalog.pg_statistic";

/// The last value of any sequence: what `SELECT` on it would show, also of those that are made later.
const SEQUENCE_FUNCTION: &str = "CREATE OR REPLACE FUNCTION ops.sequence_last_value(sequence oid) RETURNS bigint \
     LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
     AS 'SELECT pg_sequence_last_value(sequence::regclass)'";

const SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS ops";

/// Lets `role`, as SQL names it, read the statistics of columns. For a superuser to run, in each database.
pub(crate) fn column_statistics(role: &str) -> String {
    format!(
        "{SCHEMA}; GRANT USAGE ON SCHEMA ops TO {role}; {COLUMN_STATISTICS_VIEW}; \
         GRANT SELECT ON ops.column_statistics TO {role};"
    )
}

/// Lets `role`, as SQL names it, read how far every sequence is. For a superuser to run, in each database.
pub(crate) fn sequence_values(role: &str) -> String {
    format!(
        "{SCHEMA}; GRANT USAGE ON SCHEMA ops TO {role}; {SEQUENCE_FUNCTION}; \
         REVOKE ALL ON FUNCTION ops.sequence_last_value(oid) FROM PUBLIC; \
         GRANT EXECUTE ON FUNCTION ops.sequence_last_value(oid) TO {role};"
    )
}
