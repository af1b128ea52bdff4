//! `pg.stale_statistics`: does the planner know the tables as they are?

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::counting::{self, Counting};
use super::words::{ago, counted};
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. The threshold is autovacuum's own arithmetic, table by table. After an upgrade
/// that carried no statistics over every counter is nil; rows that a sequential scan returned prove that such a table
/// is not empty. Autovacuum never analyses the parent of partitions: there, what its leaves hold now is compared with
/// what the last ANALYZE counted. A session's counters come after its ANALYZE, and autovacuum looks once in
/// `autovacuum_naptime`: what was analysed within two of these is not judged yet. The tree is walked by
/// `pg_inherits`: `pg_partition_tree` would lock every leaf.
const SQL: &str = "
WITH RECURSIVE leaf AS (
  SELECT c.oid AS root, c.oid AS relid FROM pg_class c WHERE c.relkind = 'p'
  UNION ALL
  SELECT l.root, h.inhrelid FROM leaf l JOIN pg_inherits h ON h.inhparent = l.relid),
held AS (
  SELECT l.root, sum(greatest(pg_stat_get_live_tuples(c.oid), c.reltuples, 0))::float8 AS rows
    FROM leaf l JOIN pg_class c ON c.oid = l.relid AND c.relkind = 'r' GROUP BY l.root),
tables AS (
  SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, c.relkind = 'p' AS parent,
         greatest(c.reltuples, 0)::float8 AS known, c.reltuples < 0 AS never_counted,
         CASE WHEN c.relkind = 'p' THEN coalesce(h.rows, 0)
              ELSE greatest(pg_stat_get_live_tuples(c.oid), c.reltuples,
                            pg_stat_get_tuples_returned(c.oid) / greatest(pg_stat_get_numscans(c.oid), 1))::float8 END AS rows,
         pg_stat_get_mod_since_analyze(c.oid)::float8 AS modified,
         greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analysed,
         coalesce(x.base, current_setting('autovacuum_analyze_threshold')::float8)
           + coalesce(x.scale, current_setting('autovacuum_analyze_scale_factor')::float8) * greatest(c.reltuples, 0)
           AS threshold
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN held h ON h.root = c.oid
    LEFT JOIN LATERAL (
         SELECT max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_analyze_threshold')    AS base,
                max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_analyze_scale_factor') AS scale
           FROM pg_options_to_table(c.reloptions)) x ON c.reloptions IS NOT NULL
   WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                        AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'))
SELECT name, parent, never_counted AND analysed IS NULL AS never, rows, threshold,
       CASE WHEN parent THEN abs(rows - known) ELSE modified END AS modified,
       extract(epoch FROM now() - analysed)::float8 AS analysed_ago
  FROM tables
 WHERE (never_counted AND analysed IS NULL AND rows > 0)
    OR CASE WHEN parent THEN abs(rows - known)
            WHEN analysed > now() - 2 * current_setting('autovacuum_naptime')::interval THEN 0
            ELSE modified END > threshold
 ORDER BY rows DESC LIMIT 1000";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.stale_statistics",
    group: "tables",
    explanation: Explanation {
        why: "The planner chooses by what ANALYZE saw. When a table is no longer what it was, plans turn bad at \
              once and for no visible reason: a nested loop over a million rows that were a hundred.",
        measures: "Tables that were never analysed, and those whose rows changed several times what sets autovacuum \
                   to analyse them, and that were not analysed within the last two of autovacuum_naptime: it had no \
                   chance yet. Autovacuum never analyses the parent of partitions: its rows by the leaves' \
                   counters are compared with those of its last ANALYZE, which misses changes that leave their \
                   number alone.",
        queries: &[
            ("tables with changes over their threshold", SQL),
            ("whether anybody counts", counting::SQL),
        ],
        codes: &[
            ("pg.statistics.never", "a table with rows was never analysed"),
            ("pg.statistics.stale", "a table changed several times what sets autovacuum to analyse it"),
            (
                "pg.statistics.parent",
                "the parent of partitions has no statistics, or those of another time: autovacuum never makes them",
            ),
        ],
        versions: "PostgreSQL 14 and later; not on a standby, which gets its primary's statistics",
        cost: "one pass over pg_class and the counters of its tables, in memory",
        remedy: "ANALYZE the table; it takes no lock that readers or writers wait for. Parents of partitions need a \
                 job that does it. Where autovacuum falls behind, see pg.vacuum_backlog.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "changes",
            meaning: "rows changed since the last ANALYZE, as a multiple of what sets autovacuum to analyse",
            unit: Unit::Ratio,
            direction: Direction::Above,
            warning: Some(3.0),
            critical: None,
            source: "this project's choice: at 1 autovacuum sets to work within autovacuum_naptime (PostgreSQL \
                     documentation, 'The Autovacuum Daemon'); at 3 it did not come",
        },
        ThresholdSpec {
            name: "rows",
            meaning: "rows below which a table is not judged",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: Some(10_000.0),
            critical: None,
            source: "this project's choice: of a small table every plan is good enough",
        },
    ],
    requires: &[],
};

/// Findings at most, the largest tables first.
const REPORTED: usize = 20;

#[derive(Debug)]
pub(super) struct StaleStatistics;

#[async_trait]
impl PgProbe for StaleStatistics {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        if pg.capabilities(cx).await?.in_recovery {
            return Ok(ProbeReport::not_applicable("a standby has its primary's statistics"));
        }
        let mut rows = pg.read(cx, &format!("{};{SQL}", counting::SQL)).await?.into_iter();
        let counting = Counting::read(&mut rows)?;
        if let Some(nobody) = counting.off() {
            return Ok(nobody);
        }
        let tables = rows.map(|row| Table::read(&row)).collect::<Result<Vec<_>>>()?;
        let stale: Vec<_> = tables.iter().filter_map(|table| table.finding(limits)).collect();
        let summary = match stale.len() {
            0 => "the planner's statistics are up to date".to_owned(),
            n => format!("{} to be analysed", counted(n, "table wants", "tables want")),
        };
        let report = ProbeReport::new(summary)
            .measure(Measurement::new("stale", stale.len() as f64, Unit::Count))
            .findings(stale.into_iter().take(REPORTED));
        Ok(counting.unseen(report))
    }
}

#[derive(Debug)]
struct Table {
    name: String,
    /// Of partitions.
    parent: bool,
    never: bool,
    rows: f64,
    modified: f64,
    threshold: f64,
    analysed_ago: Option<f64>,
}

impl Table {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.get("name")?,
            parent: row.get("parent")?,
            never: row.get("never")?,
            rows: row.get("rows")?,
            modified: row.get("modified")?,
            threshold: row.get("threshold")?,
            analysed_ago: row.get("analysed_ago")?,
        })
    }

    fn finding(&self, limits: &Limits) -> Option<Finding> {
        let changes = self.modified / self.threshold.max(1.0);
        let judged = limits.get("changes").judge(changes);
        let floor = limits.get("rows").warning.unwrap_or(0.0);
        let severity = match self.never {
            _ if self.rows.max(self.modified) < floor => None,
            true => Some(Severity::of(judged).unwrap_or(Severity::Warning)),
            false => Severity::of(judged),
        }?;
        let (name, rows) = (&self.name, Unit::Count.format(self.rows));
        let (code, message) = match (self.parent, self.never) {
            (true, true) => (
                "pg.statistics.parent",
                format!(
                    "{name}, the parent of partitions with {rows} rows, was never analysed; autovacuum never does it"
                ),
            ),
            (true, false) => (
                "pg.statistics.parent",
                format!(
                    "{name}, the parent of partitions, holds {} rows more or fewer than when it was analysed; autovacuum \
                     never does it",
                    Unit::Count.format(self.modified)
                ),
            ),
            (false, true) => {
                ("pg.statistics.never", format!("{name}, of about {rows} rows, was never analysed"))
            }
            (false, false) => (
                "pg.statistics.stale",
                format!(
                    "{} rows of {name} changed since it was analysed{}, {changes:.1} times what sets autovacuum to it",
                    Unit::Count.format(self.modified),
                    // Without a time, it was before the counters began.
                    self.analysed_ago.map_or_else(String::new, |seconds| format!(" {}", ago(Some(seconds)))),
                ),
            ),
        };
        Some(
            Finding::new(severity, code, message)
                .object(name)
                .evidence(json!({
                    "table": name, "rows": self.rows, "modified": self.modified, "threshold": self.threshold,
                    "seconds_since_analyze": self.analysed_ago, "partitioned": self.parent,
                }))
                .remedy(Remedy::statement(format!("ANALYZE {name};"))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tables_and_few_changes_are_let_be() {
        let limits = Limits::defaults(&SPEC);
        let code = |parent, never, rows, modified| {
            let table = Table {
                name: "t".into(),
                parent,
                never,
                rows,
                modified,
                threshold: 1_000.0,
                analysed_ago: None,
            };
            table.finding(&limits).map(|finding| finding.code.into_owned())
        };
        assert_eq!(code(false, true, 9_999.0, 9_999.0), None);
        assert_eq!(code(false, true, 10_000.0, 0.0).as_deref(), Some("pg.statistics.never"));
        assert_eq!(code(false, false, 90_000.0, 2_999.0), None);
        assert_eq!(code(false, false, 90_000.0, 3_000.0).as_deref(), Some("pg.statistics.stale"));
        assert_eq!(code(true, true, 10_000.0, 0.0).as_deref(), Some("pg.statistics.parent"));
        assert_eq!(code(true, false, 10_000.0, 3_000.0).as_deref(), Some("pg.statistics.parent"));
    }
}
