//! `pg.temp_files`: how much statements write to temporary files, because work_mem does not hold it.

use std::time::Duration;

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed::{length, rise};
use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later.
const SQL: &str = "
SELECT c.name, c.value, d.stats_reset::text AS epoch
  FROM pg_stat_database d,
       LATERAL (VALUES ('files', d.temp_files::float8), ('bytes', d.temp_bytes::float8)) c (name, value)
 WHERE d.datname = current_database()";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.temp_files",
    group: "disk I/O",
    explanation: Explanation {
        why: "A sort or a hash that does not fit into work_mem goes to the disk: it is many times slower, and a \
              runaway one fills the volume that the database itself is on.",
        measures: "Temporary files and bytes written by statements in this database, over the window since the last \
                   look (or one second, where there was none); a window shorter than ten minutes counts as ten minutes. A \
                   file counts when its statement is done with it. It \
                   is shown, and alarms only where bounds are set.",
        queries: &[("temporary files and bytes", SQL)],
        codes: &[(
            "pg.temp_files.high",
            "more is written to temporary files than the configured bound allows",
        )],
        versions: "PostgreSQL 14 and later",
        cost: "one row of pg_stat_database; two where there is no baseline",
        remedy: "log_temp_files names the statements. Raise work_mem for the role or the statement that needs it \
                 (SET LOCAL work_mem), not for everybody; temp_file_limit bounds a runaway one.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "bytes",
            meaning: "written to temporary files, per hour",
            unit: Unit::BytesPerHour,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none: reports and index builds write temporary files by design",
        },
        ThresholdSpec {
            name: "files",
            meaning: "temporary files in the window below which nothing is judged",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: Some(5.0),
            critical: None,
            source: "this project's choice: one large report a day is no trend",
        },
    ],
    requires: &[],
};

/// A shorter window counts as this long.
const SHORTEST: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct TempFiles;

#[async_trait]
impl PgProbe for TempFiles {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let window = match rise(cx, pg, SPEC.name, SQL).await? {
            Ok(window) => window,
            Err(report) => return Ok(report),
        };
        let database = pg.capabilities(cx).await?.database.clone();
        Ok(judge(&window, limits, &database))
    }
}

fn judge(window: &Window, limits: &Limits, database: &str) -> ProbeReport {
    let (files, bytes, over) = (window.delta("files"), window.delta("bytes"), length(window));
    let summary = match files as usize {
        0 => format!("no temporary file in {over}"),
        n => format!(
            "{} with {} in {over}",
            counted(n, "temporary file", "temporary files"),
            Unit::Bytes.format(bytes)
        ),
    };
    let enough = files >= limits.get("files").warning.unwrap_or(0.0);
    let rate = |rise| window.per_hour_over(rise, SHORTEST);
    let written = Measurement::new("bytes", rate(bytes), Unit::BytesPerHour);
    let written = if enough { written.judged_by(limits.get("bytes")) } else { written };
    let high = Severity::of(written.status()).map(|severity| {
        Finding::new(severity, "pg.temp_files.high", summary.clone())
            .object(database)
            .evidence(
                json!({ "files": files, "bytes": bytes, "window_seconds": window.length.as_secs_f64() }),
            )
            .remedy(
                Remedy::statement("ALTER SYSTEM SET log_temp_files = '10MB'; SELECT pg_reload_conf();")
                    .because("the server's log then names the statements"),
            )
    });
    ProbeReport::new(summary)
        .measure(written)
        .measure(Measurement::new("files", rate(files), Unit::PerHour))
        .findings(high)
}
