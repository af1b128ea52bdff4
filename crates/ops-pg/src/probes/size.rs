//! `pg.size`: how large the database is, and which tables make it so.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use ops_core::state::Series;
use ops_core::trend::{self, Trend};
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Result, Severity,
    ThresholdSpec, Unit,
};
use serde_json::json;

use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. Table sizes by `relpages`, with indexes and TOAST: the size functions open each
/// relation, wait behind an ALTER, and take half a second for 5,000 tables. The database's own is a walk through its
/// directory, which takes no lock; it wants CONNECT or `pg_read_all_stats`.
const SQL: &str = "
WITH database AS MATERIALIZED (
  SELECT CASE WHEN has_database_privilege(current_database(), 'CONNECT')
                   OR pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
              THEN pg_database_size(current_database()) END AS bytes),
pages AS (
  SELECT coalesce(o.oid, c.oid) AS relid, sum(c.relpages + coalesce(i.pages, 0)) AS pages,
         sum(c.relpages) FILTER (WHERE c.relkind <> 't') AS heap
    FROM pg_class c
    LEFT JOIN pg_class o ON o.reltoastrelid = c.oid AND c.relkind = 't'
    LEFT JOIN (SELECT x.indrelid, sum(ic.relpages) AS pages FROM pg_index x JOIN pg_class ic ON ic.oid = x.indexrelid
                GROUP BY x.indrelid) i ON i.indrelid = c.oid
   WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't'
   GROUP BY 1)
SELECT current_database()::text AS database, s.bytes AS database_bytes,
       t.name, t.bytes, t.heap_bytes, t.rows
  FROM database s
  LEFT JOIN LATERAL (
         SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
                (p.pages * current_setting('block_size')::int8)::int8 AS bytes,
                (p.heap * current_setting('block_size')::int8)::int8 AS heap_bytes,
                greatest(c.reltuples, 0)::float8 AS rows
           FROM pages p
           JOIN pg_class c ON c.oid = p.relid
           JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                               AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
          ORDER BY p.pages DESC, c.oid LIMIT 20) t ON true";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.size",
    group: "tables",
    explanation: Explanation {
        why: "Size decides how long backups, restores and upgrades take, and when the disk is full.",
        measures: "The database's size on disk, and its 20 largest tables with their indexes and TOAST, by the pages \
                   that the last VACUUM or ANALYZE counted: a table that was never vacuumed counts as nothing. And how much the database grows a day, from the history of \
                   the last 30 days (six hours of it at least, as `ops check` with an ops.toml keeps it), by a slope \
                   that outliers do not move.",
        queries: &[("the database and its largest tables", SQL)],
        codes: &[
            ("pg.size.largest", "the largest table, from 1 MiB (info)"),
            ("pg.size.database", "the database is over the bound"),
            ("pg.size.table", "a table is over the bound"),
            ("pg.size.growth", "the database grows faster than the bound"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one pass over pg_class, and one walk through the database's directory (about 10 µs a file)",
        remedy: "Archive or drop what is no longer needed: whole partitions where there are any. Look for bloat and \
                 unused indexes first.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "database",
            meaning: "size of the database on disk",
            unit: Unit::Bytes,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: only the disk knows",
        },
        ThresholdSpec {
            name: "table",
            meaning: "size of one table with indexes and TOAST",
            unit: Unit::Bytes,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default",
        },
        ThresholdSpec {
            name: "growth",
            meaning: "how much the database grows a day",
            unit: Unit::BytesPerDay,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: host.disk tells when the disk is full",
        },
    ],
    requires: &[],
};

/// A largest table smaller than this is not worth a line.
const NOTABLE: i64 = 1024 * 1024;

/// How far back the growth is looked at.
const TREND: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug)]
pub(super) struct Size;

#[async_trait]
impl PgProbe for Size {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let Some(first) = rows.first() else { return Ok(ProbeReport::unknown("no answer", None)) };
        let tables =
            rows.iter().filter_map(|row| Table::read(row).transpose()).collect::<Result<Vec<_>>>()?;
        let (database, bytes): (String, Option<i64>) = (first.get("database")?, first.get("database_bytes")?);
        let mut report = ProbeReport::new("");
        let size = match bytes {
            Some(bytes) => {
                report = grow(report, self.growth(cx, pg, &database).await?, &database, limits);
                let measured =
                    Measurement::new("database", bytes as f64, Unit::Bytes).judged_by(limits.get("database"));
                let size = measured.format();
                let finding = Severity::of(measured.status()).map(|severity| {
                    Finding::new(severity, "pg.size.database", format!("database {database} is {size}"))
                        .object(&database)
                });
                report = report.measure(measured).findings(finding);
                size
            }
            None => {
                let role = pg.capabilities(cx).await?.quoted_role();
                let what = format!("the size of database {database} is hidden from role {role}");
                report = report.unseen(what, Some(format!("GRANT pg_read_all_stats TO {role};")));
                "of unknown size".to_owned()
            }
        };
        let summary = match tables.first() {
            Some(table) => format!("database {database} is {size}; the largest table is {}", table.name),
            None => format!("database {database} is {size} and has no tables"),
        };
        for table in &tables {
            let measured = Measurement::new("table", table.bytes as f64, Unit::Bytes)
                .label("table", table.name.clone())
                .judged_by(limits.get("table"));
            let over = Severity::of(measured.status());
            report = report.findings(over.map(|severity| {
                let message = format!("{} is {}", table.name, measured.format());
                Finding::new(severity, "pg.size.table", message)
                    .object(&table.name)
                    .evidence(table.evidence())
            }));
            report = report.measure(measured);
        }
        Ok(report.findings(largest(&tables, bytes)).summary(summary))
    }
}

impl Size {
    /// Of what is measured as `database`.
    async fn growth(&self, cx: &Context, pg: &PgTarget, database: &str) -> Result<Option<Trend>> {
        let series = Series {
            target: pg.name().to_owned(),
            database: Some(database.to_owned()),
            probe: SPEC.name.to_owned(),
            measurement: "database".to_owned(),
            labels: BTreeMap::new(),
            unit: Unit::Bytes,
        };
        trend::of_series(cx, &series, TREND).await
    }
}

fn grow(report: ProbeReport, trend: Option<Trend>, database: &str, limits: &Limits) -> ProbeReport {
    let limit = limits.get("growth");
    let Some(trend) = trend else {
        return match limit.warning.or(limit.critical) {
            Some(_) => report.unseen("how fast it grows: there is no history of six hours yet", None),
            None => report,
        };
    };
    let growth = Measurement::new("growth", trend.per_day, Unit::BytesPerDay).judged_by(limit);
    let fast = Severity::of(growth.status()).map(|severity| {
        let (least, most) = trend.range;
        let message = format!("database {database} grows by {}", growth.format());
        Finding::new(severity, "pg.size.growth", message).object(database).evidence(json!({
            "bytes_per_day": trend.per_day.round(), "least": least.round(), "most": most.round(),
            "seen_over": Unit::Seconds.format(trend.over.as_secs_f64()),
        }))
    });
    report.measure(growth).findings(fast)
}

fn largest(tables: &[Table], database: Option<i64>) -> Option<Finding> {
    let first = tables.first().filter(|table| table.bytes >= NOTABLE)?;
    let share = match database {
        Some(bytes) if bytes > 0 => {
            format!(", {:.0} % of the database", 100.0 * first.bytes as f64 / bytes as f64)
        }
        _ => String::new(),
    };
    let message = format!(
        "the largest table is {} with {}{share}, indexes and TOAST included",
        first.name,
        Unit::Bytes.format(first.bytes as f64)
    );
    let finding = Finding::info("pg.size.largest", message).object(&first.name);
    Some(tables.iter().fold(finding, |finding, table| finding.evidence(table.evidence())))
}

#[derive(Debug)]
struct Table {
    name: String,
    bytes: i64,
    heap_bytes: i64,
    rows: f64,
}

impl Table {
    fn read(row: &Row) -> Result<Option<Self>> {
        let Some(name) = row.get("name")? else { return Ok(None) };
        Ok(Some(Self {
            name,
            bytes: row.get("bytes")?,
            heap_bytes: row.get("heap_bytes")?,
            rows: row.get("rows")?,
        }))
    }

    fn evidence(&self) -> serde_json::Value {
        json!({ "table": self.name, "bytes": self.bytes, "heap_bytes": self.heap_bytes, "rows": self.rows })
    }
}
