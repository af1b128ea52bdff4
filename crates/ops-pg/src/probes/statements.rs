//! `pg.statements`: can pg_stat_statements be relied on?

use std::time::Duration;

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::slow_queries::blind;
use super::windowed::{length, rise};
use super::words::counted;
use crate::capabilities::Extension;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves every version of the extension: `pg_stat_statements(false)` leaves the texts in their file.
const STATE: &str = "
SELECT (SELECT count(*) FROM {schema}.pg_stat_statements(false))      AS entries,
       current_setting('pg_stat_statements.max')::int8                AS max,
       (SELECT a.default_version::text FROM pg_available_extensions a
         WHERE a.name = 'pg_stat_statements')                         AS available";

/// Serves the extension from 1.9, which counts the passes in which it made room.
const EVICTIONS: &str = "
SELECT 'evictions' AS name, i.dealloc::float8 AS value, i.stats_reset::text AS epoch
  FROM {schema}.pg_stat_statements_info i";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.statements",
    group: "queries",
    explanation: Explanation {
        why: "pg_stat_statements is how anybody finds out which statement is slow. When it forgets statements as \
              fast as they come, or was never updated after an upgrade of the server, what it shows is incomplete, \
              and nobody notices.",
        measures: "That the extension is there and counts, that its version is the one the server brings along, how \
                   full it is, and how often per hour it made room by forgetting the 5 % least used (from its \
                   version 1.9), over the window since the last look. A window shorter than ten minutes counts as \
                   ten minutes.",
        queries: &[("entries and versions", STATE), ("passes that made room", EVICTIONS)],
        codes: &[
            ("pg.statements.outdated", "the extension is older than the server's own version of it"),
            ("pg.statements.evicted", "statements are forgotten again and again to make room"),
            ("pg.statements.full", "there is almost no room for further statements"),
        ],
        versions: "PostgreSQL 14 and later, pg_stat_statements of any version",
        cost: "one read of pg_stat_statements' counters without texts, and two small reads",
        remedy: "ALTER EXTENSION pg_stat_statements UPDATE after each upgrade. Raise pg_stat_statements.max (needs a \
                 restart), or find the client that sends each statement with values of its own in the text.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "evictions",
            meaning: "passes that forgot the least used 5 % of all statements",
            unit: Unit::PerHour,
            direction: Direction::Above,
            warning: Some(20.0),
            critical: None,
            source: "20 passes of 5 % are as many statements as there is room for: what is shown is an hour old",
        },
        ThresholdSpec {
            name: "entries",
            meaning: "statements kept, of pg_stat_statements.max; told, never an alarm",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(95.0),
            critical: None,
            source: "making room removes 5 % (PostgreSQL's source, USAGE_DEALLOC_PERCENT)",
        },
    ],
    requires: &[Requirement::Extension("pg_stat_statements")],
};

/// A shorter window counts as this long.
const SHORTEST: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Statements;

#[async_trait]
impl PgProbe for Statements {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let capabilities = pg.capabilities(cx).await?;
        let Some(extension) = capabilities.extension("pg_stat_statements") else {
            return Ok(ProbeReport::unknown("pg_stat_statements is not installed", None));
        };
        if let Some(blind) = blind(capabilities.statements_tracked.as_deref()) {
            return Ok(blind);
        }
        let rows = pg.read(cx, &STATE.replace("{schema}", &extension.schema)).await?;
        let row =
            rows.first().ok_or_else(|| ops_core::Error::new(ops_core::ErrorKind::Bug, "read one row"))?;
        let state = State {
            entries: row.get("entries")?,
            max: row.get("max")?,
            installed: extension.clone(),
            available: row.get("available")?,
            database: capabilities.database.clone(),
        };
        let report = state.judge(limits);
        if !extension.at_least(1, 9) {
            return Ok(report);
        }
        let sql = EVICTIONS.replace("{schema}", &extension.schema);
        Ok(match rise(cx, pg, SPEC.name, &sql).await? {
            Ok(window) => evictions(report, &window, limits, &state),
            Err(_) => report.unseen("evictions: nothing to compare with yet", None),
        })
    }
}

struct State {
    entries: i64,
    max: i64,
    installed: Extension,
    available: Option<String>,
    database: String,
}

impl State {
    fn judge(&self, limits: &Limits) -> ProbeReport {
        let share = 100.0 * self.entries as f64 / self.max.max(1) as f64;
        let used = Measurement::new("entries", share, Unit::Percent);
        let full = Severity::of(limits.get("entries").judge(share)).map(|_| {
            let message =
                format!("pg_stat_statements keeps {} of at most {} statements", self.entries, self.max);
            Finding::info("pg.statements.full", message)
                .object(self.database.clone())
                .evidence(json!({ "entries": self.entries, "max": self.max }))
        });
        ProbeReport::new(format!(
            "pg_stat_statements {} keeps {} of at most {} statements",
            self.installed.version, self.entries, self.max
        ))
        .measure(used)
        .findings(self.outdated())
        .findings(full)
    }

    /// The extension's own versions are `major.minor`, and one that is newer than the server's is a downgraded
    /// server's.
    fn outdated(&self) -> Option<Finding> {
        let available = self.available.as_deref()?;
        let mut parts = available.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        if self.installed.at_least(parts.next().unwrap_or(0), parts.next().unwrap_or(0)) {
            return None;
        }
        let message = format!(
            "pg_stat_statements is at version {}, and the server brings {available}",
            self.installed.version
        );
        Some(
            Finding::warning("pg.statements.outdated", message)
                .object(self.database.clone())
                .evidence(json!({ "installed": self.installed.version, "available": available }))
                .remedy(Remedy::statement("ALTER EXTENSION pg_stat_statements UPDATE;").because(
                    "views of your own over pg_stat_statements must be dropped first and made again",
                )),
        )
    }
}

fn evictions(report: ProbeReport, window: &Window, limits: &Limits, state: &State) -> ProbeReport {
    let passes = window.delta("evictions");
    let rate = Measurement::new("evictions", window.per_hour_over(passes, SHORTEST), Unit::PerHour)
        .judged_by(limits.get("evictions"));
    let found = Severity::of(rate.status()).map(|severity| {
        let message = format!(
            "pg_stat_statements made room {} in {}, forgetting 5 % of its {} statements each time",
            counted(passes as usize, "time", "times"),
            length(window),
            state.max,
        );
        Finding::new(severity, "pg.statements.evicted", message)
            .object(state.database.clone())
            .evidence(
                json!({ "passes": passes, "window_seconds": window.length.as_secs_f64(), "max": state.max }),
            )
            .remedy(
                Remedy::statement(format!(
                    "ALTER SYSTEM SET pg_stat_statements.max = {}; -- and restart",
                    state.max.saturating_mul(2)
                ))
                .because(
                    "look first for statements that differ in nothing but their values or their IN lists",
                ),
            )
    });
    report.measure(rate).findings(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_older_extension_is_outdated() {
        for (installed, available, expected) in [
            ("1.9", Some("1.10"), true),
            ("1.10", Some("1.10"), false),
            ("1.12", Some("1.10"), false),
            ("1.10", None, false),
        ] {
            let state = State {
                entries: 10,
                max: 5000,
                installed: Extension { version: installed.into(), schema: "public".into(), usable: true },
                available: available.map(str::to_owned),
                database: "shop".into(),
            };
            assert_eq!(state.outdated().is_some(), expected, "{installed} {available:?}");
        }
    }
}
