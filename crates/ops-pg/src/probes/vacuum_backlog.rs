//! `pg.vacuum_backlog`: does autovacuum come round to the tables that it means to vacuum?

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, Status, ThresholdSpec, Unit,
};
use serde_json::json;

use super::counting::{self, Counting};
use super::words::{ago, counted};
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later; `{unfrozen}` is the share of pages that inserts are counted against (18 leaves out
/// frozen ones), and `autovacuum_vacuum_max_threshold` is null before 18. The arithmetic is autovacuum's own
/// (`relation_needs_vacanalyze`): a table that was never vacuumed counts as empty, and a TOAST table without options
/// takes those of its owner. Who vacuums what is read from the locks, which every role may see; a VACUUM or ANALYZE
/// holds SHARE UPDATE EXCLUSIVE.
const SQL: &str = "
WITH setting AS MATERIALIZED (
  SELECT current_setting('autovacuum')::bool   AS autovacuum,
         current_setting('autovacuum_max_workers')::int8                         AS workers,
         current_setting('autovacuum_vacuum_threshold')::float8                  AS base,
         current_setting('autovacuum_vacuum_scale_factor')::float8               AS scale,
         current_setting('autovacuum_vacuum_max_threshold', true)::float8        AS most,
         current_setting('autovacuum_vacuum_insert_threshold')::float8           AS insert_base,
         current_setting('autovacuum_vacuum_insert_scale_factor')::float8        AS insert_scale,
         (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker') AS running,
         pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')                 AS running_seen),
busy AS MATERIALIZED (
  SELECT DISTINCT l.relation FROM pg_locks l JOIN pg_stat_progress_vacuum v ON v.pid = l.pid
   WHERE l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())),
tables AS (
  SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(coalesce(o.relname, c.relname)) AS name,
         c.relkind = 't' AS toast, greatest(c.reltuples, 0)::float8 AS rows, {unfrozen} AS unfrozen,
         coalesce(c.reloptions, o.reloptions) AS options,
         pg_stat_get_dead_tuples(c.oid)::float8      AS dead,
         pg_stat_get_ins_since_vacuum(c.oid)::float8 AS inserted
    FROM pg_class c
    LEFT JOIN pg_class o ON o.reltoastrelid = c.oid AND c.relkind = 't'
    JOIN pg_namespace n ON n.oid = coalesce(o.relnamespace, c.relnamespace)
   WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't'
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                        AND d.objid = coalesce(o.oid, c.oid) AND d.objsubid = 0 AND d.deptype = 'e')),
judged AS (
  SELECT t.*, s.autovacuum AND coalesce(x.enabled, true) AS enabled, x.enabled IS FALSE AS switched_off,
         least(coalesce(x.base, s.base) + coalesce(x.scale, s.scale) * t.rows,
               nullif(coalesce(x.most, s.most), -1)) AS threshold,
         CASE WHEN coalesce(x.insert_base, s.insert_base) >= 0
              THEN coalesce(x.insert_base, s.insert_base)
                   + coalesce(x.insert_scale, s.insert_scale) * t.rows * t.unfrozen END AS insert_threshold
    FROM tables t CROSS JOIN setting s
    LEFT JOIN LATERAL (
         SELECT bool_and(option_value::bool) FILTER (WHERE option_name = 'autovacuum_enabled')                  AS enabled,
                max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold')            AS base,
                max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor')         AS scale,
                max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_max_threshold')        AS most,
                max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_insert_threshold')     AS insert_base,
                max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_insert_scale_factor')  AS insert_scale
           FROM pg_options_to_table(t.options)) x ON t.options IS NOT NULL)
SELECT s.autovacuum, s.workers, s.running, s.running_seen,
       j.name, j.toast, j.switched_off, j.dead, j.threshold, j.inserted, j.insert_threshold,
       b.relation IS NOT NULL AS busy,
       extract(epoch FROM now() - greatest(pg_stat_get_last_vacuum_time(j.oid), pg_stat_get_last_autovacuum_time(j.oid)))::float8
         AS vacuumed_ago
  FROM setting s
  LEFT JOIN LATERAL (
         SELECT * FROM judged
          WHERE switched_off OR dead > threshold OR inserted > insert_threshold
          ORDER BY greatest(dead / greatest(threshold, 1), inserted / greatest(insert_threshold, 1)) DESC LIMIT 1000) j ON true
  LEFT JOIN busy b ON b.relation = j.oid";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.vacuum_backlog",
    group: "tables",
    explanation: Explanation {
        why: "Dead rows that autovacuum does not come round to are read by every scan, and the table and its indexes \
              grow for good. It creeps: days where a large table is updated, hours where a queue is.",
        measures: "Dead rows, and rows inserted since the last VACUUM, as multiples of what sets autovacuum to work \
                   on that very table: the server's settings, the table's own, and 18's \
                   autovacuum_vacuum_max_threshold. Tables with autovacuum switched off, and workers that are all \
                   busy. Parents of partitions hold no rows and are left out; TOAST counts by itself. Nearing \
                   autovacuum_freeze_max_age is normal and no backlog: see pg.wraparound. What one statement \
                   deleted a moment ago counts too, until autovacuum's next round. The counters start \
                   anew after a crash.",
        queries: &[
            ("tables that autovacuum should be working on", SQL),
            ("whether anybody counts", counting::SQL),
        ],
        codes: &[
            (
                "pg.vacuum.overdue",
                "dead rows are several times what sets autovacuum to work (info while it is being vacuumed)",
            ),
            (
                "pg.vacuum.inserts_overdue",
                "inserted rows are several times what sets autovacuum to work: index-only scans and freezing suffer (info)",
            ),
            (
                "pg.vacuum.switched_off",
                "a table has autovacuum switched off (info until it would have been vacuumed)",
            ),
            ("pg.vacuum.saturated", "every autovacuum worker is busy while tables wait"),
        ],
        versions: "PostgreSQL 14 and later; not on a standby, which is vacuumed by its primary",
        cost: "one pass over pg_class and the counters of its tables, in memory",
        remedy: "VACUUM the table by hand once; then find why autovacuum does not: a horizon held back (old \
                 transaction, slot), locks that cancel it, workers that are all busy, or a cost limit that makes it \
                 crawl (raise autovacuum_vacuum_cost_limit before autovacuum_max_workers).",
    },
    thresholds: &[
        ThresholdSpec {
            name: "backlog",
            meaning: "dead or inserted rows, as a multiple of what sets autovacuum to work",
            unit: Unit::Ratio,
            direction: Direction::Above,
            warning: Some(2.0),
            critical: None,
            source: "this project's choice: at 1 autovacuum sets to work within autovacuum_naptime (PostgreSQL \
                     documentation, 'The Autovacuum Daemon'); at 2 it did not come",
        },
        ThresholdSpec {
            name: "rows",
            meaning: "dead or inserted rows below which nothing is judged",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: Some(10_000.0),
            critical: None,
            source: "this project's choice: a small table is vacuumed in a moment",
        },
    ],
    requires: &[],
};

/// Findings at most, the worst first.
const REPORTED: usize = 20;

#[derive(Debug)]
pub(super) struct VacuumBacklog;

#[async_trait]
impl PgProbe for VacuumBacklog {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let capabilities = pg.capabilities(cx).await?;
        if capabilities.in_recovery {
            return Ok(ProbeReport::not_applicable("a standby is vacuumed by its primary"));
        }
        let sql = SQL.replace("{unfrozen}", unfrozen(capabilities.major()));
        let mut rows = pg.read(cx, &format!("{};{sql}", counting::SQL)).await?.into_iter();
        let counting = Counting::read(&mut rows)?;
        if let Some(nobody) = counting.off() {
            return Ok(nobody);
        }
        let rows: Vec<Row> = rows.collect();
        let Some(first) = rows.first() else { return Ok(ProbeReport::unknown("no answer", None)) };
        let workers = Workers::read(first)?;
        let tables =
            rows.iter().filter_map(|row| Table::read(row).transpose()).collect::<Result<Vec<_>>>()?;
        Ok(counting.unseen(report(&tables, &workers, limits, &capabilities.quoted_role())))
    }
}

/// The share of pages that inserts are counted against, by version: 18 knows how many are frozen for good.
fn unfrozen(major: u32) -> &'static str {
    match major {
        18.. => "(1 - least(c.relallfrozen, c.relpages)::float8 / greatest(c.relpages, 1))",
        _ => "1.0::float8",
    }
}

fn report(tables: &[Table], workers: &Workers, limits: &Limits, role: &str) -> ProbeReport {
    let overdue: Vec<_> = tables.iter().filter(|table| table.alarms(limits)).collect();
    let worst = overdue.iter().map(|table| table.backlog(limits).0).fold(0.0, f64::max);
    let off = if workers.autovacuum { "" } else { "; autovacuum is off" };
    let summary = match overdue.len() {
        0 => format!("no table waits for autovacuum{off}"),
        n => format!("{} overdue for autovacuum{off}", counted(n, "table is", "tables are")),
    };
    let mut report = ProbeReport::new(summary)
        .measure(Measurement::new("overdue", overdue.len() as f64, Unit::Count))
        .measure(Measurement::new("worst", worst, Unit::Ratio))
        .findings(tables.iter().filter_map(|table| table.finding(limits)).take(REPORTED));
    let waiting = overdue.iter().filter(|table| !table.busy && !table.switched_off).count();
    if waiting > 0 && workers.autovacuum {
        report = match workers.seen {
            true => report.findings(workers.saturated(waiting)),
            false => report.unseen(
                format!("the autovacuum workers are hidden from role {role}"),
                Some(format!("GRANT pg_read_all_stats TO {role};")),
            ),
        };
    }
    report
}

#[derive(Debug)]
struct Workers {
    autovacuum: bool,
    most: i64,
    running: i64,
    /// Whether we may see them.
    seen: bool,
}

impl Workers {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            autovacuum: row.get("autovacuum")?,
            most: row.get("workers")?,
            running: row.get("running")?,
            seen: row.get("running_seen")?,
        })
    }

    fn saturated(&self, waiting: usize) -> Option<Finding> {
        (self.running >= self.most).then(|| {
            let message = format!(
                "all {} are busy while {}",
                counted(usize::try_from(self.most).unwrap_or(0), "autovacuum worker", "autovacuum workers"),
                counted(waiting, "overdue table waits", "overdue tables wait"),
            );
            Finding::warning("pg.vacuum.saturated", message)
                .evidence(json!({ "running": self.running, "autovacuum_max_workers": self.most, "waiting": waiting }))
                .remedy(Remedy::advice(
                    "raise autovacuum_vacuum_cost_limit first: the workers share it, so that more workers alone are \
                     slower workers",
                ))
        })
    }
}

#[derive(Debug)]
struct Table {
    name: String,
    toast: bool,
    switched_off: bool,
    /// Somebody vacuums it now.
    busy: bool,
    dead: f64,
    threshold: f64,
    inserted: f64,
    insert_threshold: Option<f64>,
    vacuumed_ago: Option<f64>,
}

impl Table {
    fn read(row: &Row) -> Result<Option<Self>> {
        let Some(name) = row.get("name")? else { return Ok(None) };
        Ok(Some(Self {
            name,
            toast: row.get("toast")?,
            switched_off: row.get("switched_off")?,
            busy: row.get("busy")?,
            dead: row.get("dead")?,
            threshold: row.get("threshold")?,
            inserted: row.get("inserted")?,
            insert_threshold: row.get("insert_threshold")?,
            vacuumed_ago: row.get("vacuumed_ago")?,
        }))
    }

    /// Dead rows as a multiple of their threshold; where they are no backlog, the inserted ones, and that it is they.
    fn backlog(&self, limits: &Limits) -> (f64, bool) {
        let floor = limits.get("rows").warning.unwrap_or(0.0);
        let ratio = |rows: f64, threshold: f64| if rows >= floor { rows / threshold.max(1.0) } else { 0.0 };
        let dead = ratio(self.dead, self.threshold);
        let inserted = self.insert_threshold.map_or(0.0, |threshold| ratio(self.inserted, threshold));
        let by_inserts = inserted > dead && limits.get("backlog").judge(dead) == Status::Ok;
        if by_inserts { (inserted, true) } else { (dead, false) }
    }

    /// Inserts alone cost an index-only scan now and a longer freeze later: nothing to alarm for.
    fn severity(&self, limits: &Limits) -> Option<Severity> {
        let (backlog, by_inserts) = self.backlog(limits);
        let judged = Severity::of(limits.get("backlog").judge(backlog))?;
        Some(if by_inserts || self.busy { Severity::Info } else { judged })
    }

    fn alarms(&self, limits: &Limits) -> bool {
        self.severity(limits).is_some_and(|severity| severity > Severity::Info)
    }

    fn finding(&self, limits: &Limits) -> Option<Finding> {
        let (backlog, by_inserts) = self.backlog(limits);
        let what = if self.toast { format!("the TOAST of {}", self.name) } else { self.name.clone() };
        let (rows, threshold, kind) = match by_inserts {
            true => (self.inserted, self.insert_threshold.unwrap_or(0.0), "inserted"),
            false => (self.dead, self.threshold, "dead"),
        };
        let figures = format!(
            "{} {kind} rows, {backlog:.1} times what sets autovacuum to work ({})",
            Unit::Count.format(rows),
            Unit::Count.format(threshold),
        );
        let vacuum = Remedy::statement(format!("VACUUM (VERBOSE) {};", self.name));
        let severity = self.severity(limits);
        let off = "pg.vacuum.switched_off";
        let (code, message, remedy) = match (severity, self.switched_off) {
            (None, false) => return None,
            (None, true) => (
                off,
                format!(
                    "autovacuum is switched off for {what}, which has {}",
                    counted(self.dead as usize, "dead row", "dead rows")
                ),
                Remedy::advice("vacuum it on a schedule of its own, or switch autovacuum on again"),
            ),
            (Some(_), true) => (
                off,
                format!("autovacuum is switched off for {what}, which has {figures}"),
                vacuum.because("then ALTER TABLE … RESET (autovacuum_enabled), unless a job vacuums it"),
            ),
            (Some(_), false) => (
                if by_inserts { "pg.vacuum.inserts_overdue" } else { "pg.vacuum.overdue" },
                match self.busy {
                    true => format!("{what} has {figures}; it is being vacuumed now"),
                    false => format!("{what} has {figures}; last vacuumed {}", ago(self.vacuumed_ago)),
                },
                vacuum.because(
                    "and look for what keeps autovacuum away: an old transaction, a slot, locks, its cost limit",
                ),
            ),
        };
        let severity = severity.unwrap_or(Severity::Info);
        Some(
            Finding::new(severity, code, message).object(&self.name).evidence(self.evidence()).remedy(remedy),
        )
    }

    fn evidence(&self) -> serde_json::Value {
        json!({
            "table": self.name, "toast": self.toast, "dead_rows": self.dead, "threshold": self.threshold,
            "inserted_rows": self.inserted, "insert_threshold": self.insert_threshold,
            "seconds_since_vacuum": self.vacuumed_ago, "autovacuum_enabled": !self.switched_off,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(dead: f64, inserted: f64) -> Table {
        Table {
            name: "public.t".into(),
            toast: false,
            switched_off: false,
            busy: false,
            dead,
            threshold: 10_000.0,
            inserted,
            insert_threshold: Some(50_000.0),
            vacuumed_ago: None,
        }
    }

    #[test]
    fn a_backlog_is_a_multiple_of_the_tables_own_threshold() {
        let limits = Limits::defaults(&SPEC);
        let found = |table: Table| table.finding(&limits).map(|f| (f.code.into_owned(), f.severity));
        let overdue = |code: &str, severity| Some((code.to_owned(), severity));
        assert_eq!(found(table(19_999.0, 0.0)), None);
        assert_eq!(found(table(20_000.0, 0.0)), overdue("pg.vacuum.overdue", Severity::Warning));
        assert_eq!(found(table(10_000.0, 200_000.0)), overdue("pg.vacuum.inserts_overdue", Severity::Info));
        assert_eq!(found(Table { threshold: 50.0, ..table(9_999.0, 0.0) }), None, "below the floor of rows");
        assert_eq!(
            found(Table { insert_threshold: None, ..table(0.0, 9e9) }),
            None,
            "switched off for inserts"
        );
        assert_eq!(
            found(Table { busy: true, ..table(90_000.0, 0.0) }),
            overdue("pg.vacuum.overdue", Severity::Info)
        );
        assert_eq!(
            found(Table { switched_off: true, ..table(0.0, 0.0) }),
            overdue("pg.vacuum.switched_off", Severity::Info)
        );
    }

    #[test]
    fn workers_are_saturated_when_all_of_them_run() {
        let workers = |running| Workers { autovacuum: true, most: 3, running, seen: true };
        assert!(workers(2).saturated(5).is_none());
        let message = workers(3).saturated(1).unwrap().message;
        assert_eq!(message, "all 3 autovacuum workers are busy while 1 overdue table waits");
    }
}
