//! `pg.seq_scans`: which large tables are read from end to end, now.

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Result, Severity,
    ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed::{length, rise};
use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. Of a table two counters, scans and the rows that they returned; those under 8 MiB
/// are left to the sequential scan that suits them.
const SQL: &str = "
SELECT x.kind || ' ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, x.value,
       (SELECT stats_reset::text FROM pg_stat_database WHERE datname = current_database()) AS epoch
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (VALUES ('scans', pg_stat_get_numscans(c.oid)::float8),
                            ('rows', pg_stat_get_tuples_returned(c.oid)::float8)) x (kind, value)
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND c.relpages * current_setting('block_size')::int8 >= 8388608
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.seq_scans",
    group: "tables",
    explanation: Explanation {
        why: "A large table read from end to end for a few rows wants an index. One that is read for a report, or \
              dumped, does not: only you can tell, so this shows and does not alarm.",
        measures: "Tables of 8 MiB and more (by their last VACUUM or ANALYZE) that were read sequentially in the \
                   window since the last look, or in one second where there was none, and how many rows that took. \
                   A scan counts its rows when its statement ends.",
        queries: &[("scans and their rows", SQL)],
        codes: &[("pg.table.seq_scans", "a large table was read sequentially (info, unless bounds are set)")],
        versions: "PostgreSQL 14 and later",
        cost: "two passes over pg_class and the counters of its large tables, in memory",
        remedy: "Find the statement (pg.slow_queries), EXPLAIN it, and create an index concurrently for what it \
                 filters by, if it reads few of the rows.",
    },
    thresholds: &[ThresholdSpec {
        name: "rows_read",
        meaning: "rows of one large table that sequential scans returned",
        unit: Unit::PerSecond,
        direction: Direction::Above,
        warning: None,
        critical: None,
        source: "none by default: a report may well read a whole table",
    }],
    requires: &[],
};

/// Findings at most, those that read most first.
const REPORTED: usize = 10;

#[derive(Debug)]
pub(super) struct SeqScans;

#[async_trait]
impl PgProbe for SeqScans {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        Ok(match rise(cx, pg, SPEC.name, SQL).await? {
            Ok(window) => report(&window, limits),
            Err(unknown) => unknown,
        })
    }
}

fn report(window: &Window, limits: &Limits) -> ProbeReport {
    let mut read: Vec<_> = window
        .deltas()
        .filter_map(|(counter, scans)| {
            // One that has just grown large has scans from before.
            let table =
                counter.strip_prefix("scans ").filter(|_| scans > 0.0 && !window.appeared(counter))?;
            Some((table, scans, window.delta(&format!("rows {table}"))))
        })
        .collect();
    read.sort_by(|a, b| b.2.total_cmp(&a.2));
    let summary = match read.len() {
        0 => format!("no large table was read sequentially in {}", length(window)),
        n => format!(
            "{} read sequentially in {}",
            counted(n, "large table was", "large tables were"),
            length(window)
        ),
    };
    let rows: f64 = read.iter().map(|(.., rows)| rows).sum();
    let total = Measurement::new("rows", rows / window.length.as_secs_f64(), Unit::PerSecond);
    read.iter().take(REPORTED).fold(
        ProbeReport::new(summary).measure(total),
        |report, (table, scans, rows)| {
            let measured = Measurement::new("rows_read", rows / window.length.as_secs_f64(), Unit::PerSecond)
                .label("table", *table)
                .judged_by(limits.get("rows_read"));
            let severity = Severity::of(measured.status()).unwrap_or(Severity::Info);
            let message = format!(
                "{} of {table} in {} returned {} rows",
                counted(*scans as usize, "sequential scan", "sequential scans"),
                length(window),
                Unit::Count.format(*rows),
            );
            let evidence = json!({
                "table": table, "scans": scans, "rows": rows, "window_seconds": window.length.as_secs_f64(),
            });
            let finding =
                Finding::new(severity, "pg.table.seq_scans", message).object(*table).evidence(evidence);
            report.measure(measured).finding(finding)
        },
    )
}
