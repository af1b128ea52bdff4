//! `pg.cache_hit`: which share of the blocks asked for was in shared buffers.

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed::{length, rise};
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later.
const SQL: &str = "
SELECT c.name, c.value, d.stats_reset::text AS epoch
  FROM pg_stat_database d,
       LATERAL (VALUES ('hit', d.blks_hit::float8), ('read', d.blks_read::float8)) c (name, value)
 WHERE d.datname = current_database()";

/// Below this nothing is judged: a few blocks of the catalogs make no ratio.
pub(super) const FLOOR: ThresholdSpec = ThresholdSpec {
    name: "blocks",
    meaning: "blocks asked for in the window below which nothing is judged",
    unit: Unit::Count,
    direction: Direction::Below,
    warning: Some(1000.0),
    critical: None,
    source: "this project's choice: 8 MB of traffic",
};

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.cache_hit",
    group: "disk I/O",
    explanation: Explanation {
        why: "A database whose working set no longer fits into memory reads from the disk what it used to find in \
              its buffers; response times change by a factor of ten while nothing else has changed.",
        measures: "Blocks found in shared buffers as a share of all blocks asked for in this database, over the \
                   window since the last look (or one second, where there was none); never since the server \
                   started. What the operating system caches counts as read. It is shown, and alarms only where \
                   bounds are set.",
        queries: &[("blocks found and read", SQL)],
        codes: &[("pg.cache_hit.low", "the share is under the configured bound")],
        versions: "PostgreSQL 14 and later",
        cost: "one row of pg_stat_database; two where there is no baseline",
        remedy: "Find what reads so much (`ops explain pg.slow_queries`, pg.seq_scans) before adding memory: one \
                 missing index can read more than all the rest.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "hit",
            meaning: "blocks found in shared buffers, of those asked for in the window",
            unit: Unit::Percent,
            direction: Direction::Below,
            warning: None,
            critical: None,
            source: "none: a reporting database reads by design, and a hit rate of 99 % can hide a bad plan",
        },
        FLOOR,
    ],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct CacheHit;

#[async_trait]
impl PgProbe for CacheHit {
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
        Ok(judge(&window, limits, "blocks", "pg.cache_hit.low", &database))
    }
}

/// The share of `hit` in `hit` and `read`, of blocks of what `what` names.
pub(super) fn judge(
    window: &Window,
    limits: &Limits,
    what: &str,
    code: &'static str,
    database: &str,
) -> ProbeReport {
    let (hit, read) = (window.delta("hit"), window.delta("read"));
    let (blocks, over) = (hit + read, length(window));
    let traffic = |report: ProbeReport| {
        report
            .measure(Measurement::new("asked", blocks / window.length.as_secs_f64(), Unit::PerSecond))
            .measure(Measurement::new("read", window.per_second("read"), Unit::PerSecond))
    };
    let asked = Unit::Count.format(blocks);
    if blocks < limits.get(FLOOR.name).warning.unwrap_or(0.0).max(1.0) {
        return traffic(ProbeReport::new(format!(
            "only {asked} {what} asked for in {over}: too few for a ratio"
        )));
    }
    let share = Measurement::new("hit", 100.0 * hit / blocks, Unit::Percent).judged_by(limits.get("hit"));
    let summary = format!("{} of {asked} {what} found in shared buffers in {over}", share.format());
    let low = Severity::of(share.status()).map(|severity| {
        Finding::new(severity, code, summary.clone())
            .object(database)
            .evidence(json!({ "hit": hit, "read": read, "window_seconds": window.length.as_secs_f64() }))
            .remedy(Remedy::advice("look for the statements that read most before adding memory"))
    });
    traffic(ProbeReport::new(summary).measure(share).findings(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::window::{Sample, SampleOutcome};
    use ops_core::{Bounds, Status};

    #[test]
    fn a_ratio_needs_traffic_and_a_bound_to_alarm() {
        let at = |second, hit, read| Sample {
            at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
            epoch: "e".into(),
            counters: [("hit".to_owned(), hit), ("read".to_owned(), read)].into(),
        };
        let bounded = Bounds { warning: Some(90.0), critical: None };
        for (hit, read, bound, expected) in [
            (500.0, 499.0, Some(bounded), Status::Ok),
            (500.0, 500.0, None, Status::Ok),
            (500.0, 500.0, Some(bounded), Status::Warning),
            (950.0, 50.0, Some(bounded), Status::Ok),
        ] {
            // Most of the lifetime was cold: it does not count.
            let outcome = Window::between(&at(0, 10.0, 1e9), &at(10, 10.0 + hit, 1e9 + read));
            let SampleOutcome::Window(window) = outcome else { panic!("a window") };
            let limits = Limits::defaults(&SPEC);
            let limits = bound.map_or(limits.clone(), |bound| limits.with("hit", bound).unwrap());
            let report = judge(&window, &limits, "blocks", "pg.cache_hit.low", "shop");
            assert_eq!(report.status(), expected, "{hit} {read} {bound:?}");
        }
    }
}
