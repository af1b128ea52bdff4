//! The tables, version by version. A version that has been released is never changed: the next one mends it.

/// What each version adds to the one before. Both engines take the same statements: SQLite knows `bigint`, `text`
/// and `double precision` by their affinities.
pub(super) const VERSIONS: &[&[&str]] = &[&[
    "CREATE TABLE baseline (
        server text NOT NULL, probe text NOT NULL,
        at bigint NOT NULL, epoch text NOT NULL, counters text NOT NULL,
        PRIMARY KEY (server, probe))",
    // The series as JSON, whose keys are in a fixed order.
    "CREATE TABLE series (id bigint NOT NULL PRIMARY KEY, series text NOT NULL UNIQUE)",
    "CREATE TABLE point (
        series bigint NOT NULL, at bigint NOT NULL, value double precision NOT NULL,
        PRIMARY KEY (series, at))",
    "CREATE TABLE hour (
        series bigint NOT NULL, at bigint NOT NULL, count bigint NOT NULL,
        min double precision NOT NULL, max double precision NOT NULL,
        mean double precision NOT NULL, last double precision NOT NULL,
        PRIMARY KEY (series, at))",
    "CREATE INDEX point_at ON point (at)",
    "CREATE INDEX hour_at ON hour (at)",
    "CREATE TABLE heartbeat (job text NOT NULL PRIMARY KEY, succeeded bigint, failed bigint)",
    "CREATE TABLE run (
        id text NOT NULL PRIMARY KEY, procedure text NOT NULL, target text NOT NULL,
        started bigint NOT NULL, latest bigint NOT NULL, outcome text)",
    "CREATE TABLE entry (
        run text NOT NULL REFERENCES run ON DELETE CASCADE,
        seq bigint NOT NULL, at bigint NOT NULL, event text NOT NULL,
        PRIMARY KEY (run, seq))",
    // Without an end, it was given back.
    "CREATE TABLE lease (
        name text NOT NULL PRIMARY KEY, holder text NOT NULL, token bigint NOT NULL, expires bigint)",
]];
