//! `redis.hit_rate`: of the keys asked for lately, how many were there.

use std::time::Duration;

use async_trait::async_trait;
use ops_core::window::{SampleOutcome, Window};
use ops_core::words::count;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed;
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

const HITS: &str = "keyspace_hits";
const MISSES: &str = "keyspace_misses";

/// Below this many look-ups a share is chance: at 100, one miss is one point.
const FLOOR: f64 = 100.0;
/// In a window shorter than this, fewer look-ups than that are one request of one client, and wake nobody up.
const SHORT: Duration = Duration::from_secs(10);
const FLOOR_OF_SHORT: f64 = 500.0;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.hit_rate",
    group: "cache",
    explanation: Explanation {
        why: "Every miss is a query to the database behind the cache. A rate that falls after a deployment or a flush \
              is the first sign of load there.",
        measures: "keyspace_hits / (keyspace_hits + keyspace_misses) over the time since the last check, or over two \
                   samples 1 s apart where there is none; never since the server's start, which hides an hour of \
                   trouble in a month of calm. Below 100 look-ups nothing is judged, and below 500 in less than 10 s \
                   a warning is the most. PING and INFO count as neither.",
        queries: &[("keyspace_hits, keyspace_misses, run_id", "INFO")],
        codes: &[("redis.cache.hit_rate", "too few of the keys asked for were there")],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the shared INFO; one more INFO where no earlier sample is stored",
        remedy: "Find out what changed: a deployment with new key names, a flush, a TTL that is too short, or \
                 evictions (redis.evictions). Warm the cache where it was emptied.",
    },
    thresholds: &[ThresholdSpec {
        name: "hit_rate",
        meaning: "hits, of all look-ups in the window",
        unit: Unit::Percent,
        direction: Direction::Below,
        warning: Some(80.0),
        critical: Some(70.0),
        source: "the runbook analytics-operations: target above 80 %, investigate below 70 %. How many look-ups it \
                 takes to be critical is this project's choice",
    }],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct HitRate;

#[async_trait]
impl RedisProbe for HitRate {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        Ok(match windowed::rise(cx, redis, SPEC.name, &[HITS, MISSES]).await? {
            SampleOutcome::Window(window) => judge(&window, limits),
            SampleOutcome::NewBaseline { reason } => windowed::no_window(reason),
        })
    }
}

fn judge(window: &Window, limits: &Limits) -> ProbeReport {
    let (hits, misses) = (window.delta(HITS), window.delta(MISSES));
    let lookups = hits + misses;
    let over = windowed::length(window);
    let counted = Measurement::new("lookups", lookups, Unit::Count);
    if lookups < FLOOR {
        let summary = format!("{} in {over}: too few to judge", count(lookups, "look-up", "look-ups"));
        return ProbeReport::new(summary).measure(counted);
    }
    let mut threshold = limits.get("hit_rate");
    if window.length < SHORT && lookups < FLOOR_OF_SHORT {
        threshold.warning = threshold.warning.or(threshold.critical);
        threshold.critical = None;
    }
    let rate = Measurement::new("hit_rate", hits / lookups * 100.0, Unit::Percent).judged_by(threshold);
    let summary = format!("{} of {} look-ups hit in {over}", rate.format(), counted.format());
    let finding = Severity::of(rate.status()).map(|severity| {
        let message =
            format!("only {} of {} look-ups in the keyspace hit in {over}", rate.format(), counted.format());
        Finding::new(severity, "redis.cache.hit_rate", message)
            .object("keyspace")
            .evidence(
                json!({"hits": hits as u64, "misses": misses as u64, "seconds": window.length.as_secs_f64()}),
            )
            .remedy(Remedy::advice(SPEC.explanation.remedy))
    });
    ProbeReport::new(summary).measure(rate).measure(counted).findings(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;
    use ops_core::window::Sample;

    fn window(seconds: i64, hits: f64, misses: f64) -> Window {
        let at = |second, hits, misses| Sample {
            at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
            epoch: "run".into(),
            counters: [(HITS.to_owned(), hits), (MISSES.to_owned(), misses)].into(),
        };
        match Window::between(&at(0, 9e6, 1e3), &at(seconds, 9e6 + hits, 1e3 + misses)) {
            SampleOutcome::Window(window) => window,
            SampleOutcome::NewBaseline { reason } => panic!("{reason}"),
        }
    }

    #[test]
    fn the_window_is_judged_and_not_the_lifetime() {
        for (seconds, hits, misses, status) in [
            (60, 950.0, 50.0, Status::Ok),
            (60, 80.0, 20.0, Status::Warning),
            (60, 700.0, 300.0, Status::Critical),
            (10, 0.0, 100.0, Status::Critical),
            (60, 0.0, 99.0, Status::Ok),
            (60, 0.0, 0.0, Status::Ok),
            // A second in which one client asks for what is not there.
            (1, 0.0, 100.0, Status::Warning),
            (9, 0.0, 499.0, Status::Warning),
            (1, 0.0, 500.0, Status::Critical),
        ] {
            let report = judge(&window(seconds, hits, misses), &Limits::defaults(&SPEC));
            assert_eq!(report.status(), status, "{hits} hits, {misses} misses in {seconds} s");
        }
    }
}
