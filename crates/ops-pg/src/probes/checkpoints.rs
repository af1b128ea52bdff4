//! `pg.checkpoints`: do checkpoints come by the clock, or because too much is written?

use std::time::Duration;

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 17 and later. A standby makes restartpoints.
const SINCE_17: &str = "
SELECT c.name, c.value::float8 AS value, s.stats_reset::text AS epoch
  FROM pg_stat_checkpointer s
 CROSS JOIN LATERAL (VALUES ('timed', s.num_timed + s.restartpoints_timed),
                            ('requested', s.num_requested + s.restartpoints_req)) c (name, value)";

/// Serves PostgreSQL 14 to 16.
const BEFORE_17: &str = "
SELECT c.name, c.value::float8 AS value, s.stats_reset::text AS epoch
  FROM pg_stat_bgwriter s
 CROSS JOIN LATERAL (VALUES ('timed', s.checkpoints_timed), ('requested', s.checkpoints_req)) c (name, value)";

/// Requested checkpoints that a window must have seen before their share says something: one may be a backup's, or
/// of a DROP DATABASE. Within less than a minute a few of those come together by chance.
const FLOOR: f64 = 3.0;
const SHORT_FLOOR: f64 = 20.0;
const SHORT: Duration = Duration::from_secs(60);

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.checkpoints",
    group: "write-ahead log",
    explanation: Explanation {
        why: "A checkpoint writes out what has changed, and each page changed after it is written to the WAL as a \
              whole. When checkpoints come because max_wal_size is reached and not by the clock, both happen over \
              and over: twice the writes or more, and slow commits.",
        measures: "Of the checkpoints (on a standby: restartpoints) within the window, the share that was requested: \
                   by WAL volume, a base backup, CHECKPOINT, DROP DATABASE. Judged from 3 requested ones on, from 20 \
                   in a window of less than a minute: few are anybody's backup.",
        queries: &[("checkpoints (17 and later)", SINCE_17), ("checkpoints (14 to 16)", BEFORE_17)],
        codes: &[("pg.checkpoints.requested", "most checkpoints are requested and not timed")],
        versions: "PostgreSQL 14 and later",
        cost: "two reads of one row, a window apart; one where an earlier run left its sample",
        remedy: "Raise max_wal_size until checkpoints come by checkpoint_timeout; the disk and the time of a recovery \
                 after a crash must bear it. log_checkpoints (on since 15) says what asked for each: \"wal\" is volume.",
    },
    thresholds: &[ThresholdSpec {
        name: "requested",
        meaning: "share of checkpoints that were requested",
        unit: Unit::Percent,
        direction: Direction::Above,
        warning: Some(50.0),
        critical: None,
        source: "this project's choice: PostgreSQL's documentation wants checkpoints by time to be the rule (\"WAL \
                 Configuration\")",
    }],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Checkpoints;

#[async_trait]
impl PgProbe for Checkpoints {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let sql = if pg.capabilities(cx).await?.major() >= 17 { SINCE_17 } else { BEFORE_17 };
        Ok(match windowed::rise(cx, pg, SPEC.name, sql).await? {
            Ok(window) => judge(&window, limits, pg.address()),
            Err(unknown) => unknown,
        })
    }
}

fn judge(window: &Window, limits: &Limits, address: &str) -> ProbeReport {
    let (timed, requested) = (window.delta("timed"), window.delta("requested"));
    let summary =
        format!("{requested} requested and {timed} timed checkpoints in {}", windowed::length(window));
    let report = ProbeReport::new(summary)
        .measure(Measurement::new("timed_count", timed, Unit::Count))
        .measure(Measurement::new("requested_count", requested, Unit::Count));
    let floor = if window.length < SHORT { SHORT_FLOOR } else { FLOOR };
    if requested < floor {
        return report;
    }
    let share = Measurement::new("requested", 100.0 * requested / (requested + timed), Unit::Percent)
        .judged_by(limits.get("requested"));
    let finding = Severity::of(share.status()).map(|severity| {
        let message = format!(
            "{requested} of {} checkpoints in {} were requested: more is written than max_wal_size holds, or somebody \
             asks for them",
            requested + timed,
            windowed::length(window)
        );
        Finding::new(severity, "pg.checkpoints.requested", message)
            .object(address)
            .evidence(json!({ "requested": requested, "timed": timed, "window_seconds": window.length.as_secs() }))
            .remedy(Remedy::advice(
                "the server's log says what asked (\"checkpoint starting: wal\"); for wal, raise max_wal_size",
            ))
    });
    report.findings(finding).measure(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;
    use ops_core::window::{Sample, SampleOutcome};

    #[test]
    fn a_few_requests_are_somebodys_backup() {
        let sample = |second: i64, timed: f64, requested: f64| Sample {
            at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
            epoch: String::new(),
            counters: [("timed".to_owned(), timed), ("requested".to_owned(), requested)].into(),
        };
        for (seconds, timed, requested, expected) in [
            (300, 1.0, 0.0, Status::Ok),
            (300, 0.0, 2.0, Status::Ok),
            (300, 1.0, 3.0, Status::Warning),
            (3600, 12.0, 4.0, Status::Ok),
            (2, 0.0, 5.0, Status::Ok),
            (2, 0.0, 20.0, Status::Warning),
        ] {
            let outcome =
                Window::between(&sample(0, 7.0, 9.0), &sample(seconds, 7.0 + timed, 9.0 + requested));
            let SampleOutcome::Window(window) = outcome else { panic!("a window") };
            let report = judge(&window, &Limits::defaults(&SPEC), "db");
            assert_eq!(report.status(), expected, "{timed} and {requested} in {seconds} s");
        }
    }
}
