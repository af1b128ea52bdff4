//! `pg.dead_tuples`: how much of a table is rows that nobody can see any more.

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

/// Serves PostgreSQL 14 and later. After a reset the counter of live rows starts at nothing, so the last VACUUM's or
/// ANALYZE's figure counts where it is larger. What is being vacuumed (told by the lock, which every role may see), or
/// was within two of autovacuum's rounds, is in good hands. The worst few are enough.
const SQL: &str = "
WITH busy AS MATERIALIZED (
  SELECT DISTINCT l.relation FROM pg_locks l JOIN pg_stat_progress_vacuum v ON v.pid = l.pid
   WHERE l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
SELECT quote_ident(n.nspname) || '.' || quote_ident(coalesce(o.relname, c.relname)) AS name,
       c.relkind = 't' AS toast, s.dead, s.live,
       extract(epoch FROM now() - s.vacuumed)::float8 AS vacuumed_ago
  FROM pg_class c
 CROSS JOIN LATERAL (SELECT pg_stat_get_dead_tuples(c.oid)::float8 AS dead,
                            greatest(pg_stat_get_live_tuples(c.oid), c.reltuples, 0)::float8 AS live,
                            greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid))
                              AS vacuumed) s
  LEFT JOIN pg_class o ON o.reltoastrelid = c.oid AND c.relkind = 't'
  JOIN pg_namespace n ON n.oid = coalesce(o.relnamespace, c.relnamespace)
 WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't' AND s.dead > 0
   AND (s.vacuumed IS NULL OR s.vacuumed < now() - 2 * current_setting('autovacuum_naptime')::interval)
   AND c.oid NOT IN (SELECT relation FROM busy)
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = coalesce(o.oid, c.oid) AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY s.dead DESC LIMIT 1000";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.dead_tuples",
    group: "tables",
    explanation: Explanation {
        why: "Every sequential scan reads dead rows along with the living, and index scans visit them until they \
              are marked. The space comes back for reuse by VACUUM, and to the disk almost never.",
        measures: "Dead rows as a share of all rows, by the server's counters, for each table and its TOAST, above a \
                   floor of dead rows. Autovacuum's defaults let 17 % be dead before they act. A table that is being \
                   vacuumed is not judged, nor one that was within the last two of autovacuum_naptime: what is dead \
                   there died since, or something still sees it (pg.xmin_horizon). After a large DELETE it is a \
                   warning until autovacuum has come round.",
        queries: &[("tables with most dead rows", SQL), ("whether anybody counts", counting::SQL)],
        codes: &[("pg.table.dead_rows", "much of a table is dead rows")],
        versions: "PostgreSQL 14 and later; not on a standby, which is vacuumed by its primary",
        cost: "one pass over pg_class and the counters of its tables, in memory",
        remedy: "VACUUM the table. Where the dead rows stay, something still sees them: an old transaction, a \
                 prepared one, a replication slot (pg.xmin_horizon).",
    },
    thresholds: &[
        ThresholdSpec {
            name: "dead",
            meaning: "dead rows as a share of all rows of a table",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(25.0),
            critical: None,
            source: "one and a half times what autovacuum_vacuum_scale_factor's default lets be (PostgreSQL \
                     documentation, 'Automatic Vacuuming'); never critical by itself: a purge leaves as much behind, \
                     and slow scans are the worst that comes of it",
        },
        ThresholdSpec {
            name: "rows",
            meaning: "dead rows below which nothing is judged",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: Some(10_000.0),
            critical: None,
            source: "this project's choice: a small table is vacuumed in a moment",
        },
    ],
    requires: &[],
};

/// Findings at most, those with most dead rows first.
const REPORTED: usize = 20;

#[derive(Debug)]
pub(super) struct DeadTuples;

#[async_trait]
impl PgProbe for DeadTuples {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        if pg.capabilities(cx).await?.in_recovery {
            return Ok(ProbeReport::not_applicable("a standby is vacuumed by its primary"));
        }
        let mut rows = pg.read(cx, &format!("{};{SQL}", counting::SQL)).await?.into_iter();
        let counting = Counting::read(&mut rows)?;
        if let Some(nobody) = counting.off() {
            return Ok(nobody);
        }
        let tables = rows.map(|row| Table::read(&row)).collect::<Result<Vec<_>>>()?;
        Ok(counting.unseen(report(&tables, limits)))
    }
}

fn report(tables: &[Table], limits: &Limits) -> ProbeReport {
    let floor = limits.get("rows").warning.unwrap_or(0.0);
    let judged: Vec<_> = tables.iter().filter(|table| table.dead >= floor).collect();
    let over: Vec<_> = judged
        .iter()
        .filter_map(|table| Some((*table, Severity::of(limits.get("dead").judge(table.share()))?)))
        .collect();
    let most = judged.iter().map(|table| table.share()).fold(0.0, f64::max);
    let summary = match over.len() {
        0 => format!("no table of over {} dead rows has too many of them", Unit::Count.format(floor)),
        n => format!("{} too many dead rows", counted(n, "table has", "tables have")),
    };
    over.iter().take(REPORTED).fold(
        ProbeReport::new(summary).measure(Measurement::new("most", most, Unit::Percent)),
        |report, (table, severity)| {
            let measured = Measurement::new("dead", table.share(), Unit::Percent)
                .label("table", table.label())
                .judged_by(limits.get("dead"));
            report.measure(measured).finding(table.finding(*severity))
        },
    )
}

#[derive(Debug)]
struct Table {
    name: String,
    toast: bool,
    dead: f64,
    live: f64,
    vacuumed_ago: Option<f64>,
}

impl Table {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.get("name")?,
            toast: row.get("toast")?,
            dead: row.get("dead")?,
            live: row.get("live")?,
            vacuumed_ago: row.get("vacuumed_ago")?,
        })
    }

    fn share(&self) -> f64 {
        100.0 * self.dead / (self.dead + self.live).max(1.0)
    }

    fn label(&self) -> String {
        if self.toast { format!("{} (TOAST)", self.name) } else { self.name.clone() }
    }

    fn finding(&self, severity: Severity) -> Finding {
        let message = format!(
            "{:.0} % of the rows of {} are dead ({}); last vacuumed {}",
            self.share(),
            self.label(),
            Unit::Count.format(self.dead),
            ago(self.vacuumed_ago),
        );
        Finding::new(severity, "pg.table.dead_rows", message)
            .object(&self.name)
            .evidence(json!({
                "table": self.name, "toast": self.toast, "dead_rows": self.dead, "live_rows": self.live,
                "seconds_since_vacuum": self.vacuumed_ago,
            }))
            .remedy(
                Remedy::statement(format!("VACUUM (VERBOSE) {};", self.name))
                    .because("what it cannot remove yet, an old transaction or a slot still sees"),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    #[test]
    fn a_share_alarms_above_a_floor_of_rows() {
        let status = |dead: f64, live: f64| {
            let table = Table { name: "public.t".into(), toast: false, dead, live, vacuumed_ago: None };
            report(&[table], &Limits::defaults(&SPEC)).status()
        };
        for (dead, live, expected) in [
            (9_999.0, 0.0, Status::Ok),
            (10_000.0, 0.0, Status::Warning),
            (20_000.0, 100_000.0, Status::Ok),
            (25_000.0, 75_000.0, Status::Warning),
        ] {
            assert_eq!(status(dead, live), expected, "{dead} of {live}");
        }
    }
}
