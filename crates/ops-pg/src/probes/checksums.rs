//! `pg.checksums`: has the server read a page that is not what it once wrote?

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::probe::{PgProbe, Scope};
use crate::provider::Managed;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. Without checksums the count is null. The row without a database counts the
/// relations that all databases share.
const SQL: &str = "
SELECT current_setting('data_checksums') = 'on'                    AS enabled,
       coalesce(d.datname, 'objects shared by all databases')::text AS database,
       coalesce(d.checksum_failures, 0)                            AS failures,
       d.checksum_last_failure                                     AS last_failure,
       d.stats_reset                                               AS counted_since
  FROM pg_stat_database d
 ORDER BY 3 DESC, 2";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.checksums",
    group: "availability",
    explanation: Explanation {
        why: "A page whose checksum is wrong was changed behind PostgreSQL's back: a failing disk, a controller, a \
              file system. Queries that need it fail, and there is rarely only one. Backups taken from now on may \
              hold the damage, and the good ones grow old.",
        measures: "The failures that each database has counted since its statistics were reset. The count is no rate: \
                   one is too many, and it stays until somebody has dealt with it and resets it. Only pages that were \
                   read are checked, by queries, base backups and amcheck. Without checksums damage goes unnoticed: the \
                   probe is then not applicable, never ok, and says so.",
        queries: &[("failures by database", SQL)],
        codes: &[
            ("pg.checksums.failed", "a page was read whose checksum is wrong"),
            ("pg.checksums.off", "the cluster has no data checksums"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_database",
        remedy: "Keep the last backups from being expired. Find the relation in the server's log (\"invalid page in \
                 block\"). An index is rebuilt by REINDEX; a table is restored from a standby or a backup. Then look \
                 at the disk, and reset the count with pg_stat_reset() in that database.",
    },
    thresholds: &[ThresholdSpec {
        name: "failures",
        meaning: "pages of a database that were read with a wrong checksum",
        unit: Unit::Count,
        direction: Direction::Above,
        warning: None,
        critical: Some(1.0),
        source: "pgMonitor: any failure is critical",
    }],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Checksums;

#[async_trait]
impl PgProbe for Checksums {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let enabled = rows.first().map(|row| row.get::<bool>("enabled")).transpose()?.unwrap_or(false);
        let managed = pg.capabilities(cx).await?.managed();
        if let Some(managed) = managed.filter(|_| !enabled) {
            let title = managed.title;
            return Ok(ProbeReport::not_applicable(format!(
                "data checksums are off, and the storage is {title}'s: nobody else can switch them on"
            )));
        }
        if !enabled {
            let message =
                "data checksums are off: damage to a page goes unnoticed until its contents make no sense";
            let off = Finding::info("pg.checksums.off", message).object(pg.address()).remedy(Remedy::advice(
                "with the server shut down cleanly, `pg_checksums --enable --pgdata=DIRECTORY` switches them on; \
                 it rewrites every page",
            ));
            // It cannot fail, and so says nothing about the pages.
            return Ok(
                ProbeReport::not_applicable("data checksums are off: no failure can be seen").finding(off)
            );
        }
        let mut report = ProbeReport::new("");
        let mut total = 0;
        for row in &rows {
            let (database, failures): (String, i64) = (row.get("database")?, row.get("failures")?);
            total += failures;
            let measured = Measurement::new("failures", failures as f64, Unit::Count)
                .label("database", database.clone())
                .judged_by(limits.get("failures"));
            let Some(severity) = Severity::of(measured.status()) else { continue };
            let last: Option<DateTime<Utc>> = row.get("last_failure")?;
            let finding = failed(severity, &database, failures, last, managed).evidence(json!({
                "database": database, "failures": failures, "last_failure": last,
                "counted_since": row.get::<Option<DateTime<Utc>>>("counted_since")?,
            }));
            report = report.finding(finding).measure(measured);
        }
        let summary = match total {
            0 => "no checksum has failed".to_owned(),
            1 => "1 checksum has failed".to_owned(),
            n => format!("{n} checksums have failed"),
        };
        Ok(report.summary(summary).measure(Measurement::new("total", total as f64, Unit::Count)))
    }
}

fn failed(
    severity: Severity,
    database: &str,
    failures: i64,
    last: Option<DateTime<Utc>>,
    managed: Option<&Managed>,
) -> Finding {
    let pages = if failures == 1 { "1 page".to_owned() } else { format!("{failures} pages") };
    let when =
        last.map(|last| format!(", last at {}", last.format("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default();
    let message = format!("{pages} of {database} read with a wrong checksum{when}");
    let disk = managed.map_or("look at the disk".to_owned(), |managed| {
        format!("open a case with {}, whose disk it is", managed.title)
    });
    Finding::new(severity, "pg.checksums.failed", message).object(database).remedy(Remedy::advice(format!(
        "stop backups from expiring, find the relation in the server's log (\"invalid page in block\"), and {disk}"
    )))
}
