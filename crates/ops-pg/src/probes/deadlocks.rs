//! `pg.deadlocks`: how often PostgreSQL has to break a deadlock, by database.

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

/// Serves PostgreSQL 14 and later. Each database is reset by itself, and shows it as a counter that went down: a
/// reset time that all share would throw the others' window away.
const SQL: &str = "
SELECT d.datname::text AS name, d.deadlocks::float8 AS value, NULL::text AS epoch
  FROM pg_stat_database d WHERE d.datname IS NOT NULL";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.deadlocks",
    group: "locks",
    explanation: Explanation {
        why: "In a deadlock one of the transactions is rolled back: a client gets an error (SQLSTATE 40P01), and \
              all of them have waited for deadlock_timeout first. Many of them mean that two code paths lock the \
              same rows in different order.",
        measures: "Deadlocks per database and hour, over the window since the last look (or one second, where there \
                   was none). A window shorter than ten minutes counts as ten minutes, so that a single deadlock \
                   is no alarm.",
        queries: &[("deadlocks of every database", SQL)],
        codes: &[("pg.deadlocks.rate", "deadlocks are frequent in a database")],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_database; two where there is no baseline",
        remedy: "The server's log names both statements of each deadlock. Lock rows in one order everywhere (ORDER \
                 BY the key in SELECT … FOR UPDATE), keep transactions short, and retry on 40P01.",
    },
    thresholds: &[ThresholdSpec {
        name: "rate",
        meaning: "deadlocks in one database",
        unit: Unit::PerHour,
        direction: Direction::Above,
        warning: Some(12.0),
        critical: Some(360.0),
        source: "this project's choice: two in ten minutes, and one every ten seconds",
    }],
    requires: &[],
};

/// A shorter window counts as this long.
const SHORTEST: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Deadlocks;

#[async_trait]
impl PgProbe for Deadlocks {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        Ok(match rise(cx, pg, SPEC.name, SQL).await? {
            Ok(window) => judge(&window, limits),
            Err(report) => report,
        })
    }
}

fn judge(window: &Window, limits: &Limits) -> ProbeReport {
    let over = length(window);
    let total: f64 = window.deltas().map(|(_, deadlocks)| deadlocks).sum();
    let summary = match total as usize {
        0 => format!("no deadlock in {over}"),
        n => format!("{} in {over}", counted(n, "deadlock", "deadlocks")),
    };
    let mut report = ProbeReport::new(summary);
    for (database, deadlocks) in window.deltas() {
        let rate = window.per_hour_over(deadlocks, SHORTEST);
        let measured = Measurement::new("rate", rate, Unit::PerHour)
            .label("database", database)
            .judged_by(limits.get("rate"));
        if let Some(severity) = Severity::of(measured.status()) {
            report = report.finding(finding(severity, database, deadlocks, &over));
        }
        report = report.measure(measured);
    }
    report
}

fn finding(severity: Severity, database: &str, deadlocks: f64, over: &str) -> Finding {
    let times = counted(deadlocks as usize, "deadlock", "deadlocks");
    Finding::new(severity, "pg.deadlocks.rate", format!("{times} in database {database} in {over}"))
        .object(database)
        .evidence(json!({ "database": database, "deadlocks": deadlocks, "window": over }))
        .remedy(Remedy::advice("look for 'deadlock detected' in the server's log: it names both statements"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;
    use ops_core::window::{Sample, SampleOutcome};

    fn status(seconds: i64, before: f64, after: f64) -> Status {
        let at = |second, value| Sample {
            at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
            epoch: "e".into(),
            counters: [("shop".to_owned(), value)].into(),
        };
        match Window::between(&at(0, before), &at(seconds, after)) {
            SampleOutcome::Window(window) => judge(&window, &Limits::defaults(&SPEC)).status(),
            SampleOutcome::NewBaseline { reason } => panic!("{reason}"),
        }
    }

    #[test]
    fn one_deadlock_is_no_rate() {
        for (seconds, before, after, expected) in [
            (1, 0.0, 1.0, Status::Ok),
            (1, 0.0, 2.0, Status::Warning),
            (1, 0.0, 60.0, Status::Critical),
            (3600, 900.0, 911.0, Status::Ok),
            (3600, 900.0, 912.0, Status::Warning),
            // Reset in between: what it counts since.
            (3600, 900.0, 3.0, Status::Ok),
        ] {
            assert_eq!(status(seconds, before, after), expected, "{before} to {after} in {seconds} s");
        }
    }
}
