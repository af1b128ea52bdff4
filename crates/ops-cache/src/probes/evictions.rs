//! `redis.evictions`: keys dropped to make room.

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

const EVICTED: &str = "evicted_keys";

/// A shorter window counts as this long.
const SHORTEST: Duration = Duration::from_secs(600);

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.evictions",
    group: "cache",
    explanation: Explanation {
        why: "Evicted keys were dropped before their time to make room. Some are what a cache does; many mean that \
              the working set no longer fits, and the hit rate follows.",
        measures: "The rise of evicted_keys over the time since the last check, or over two samples 1 s apart where \
                   there is none, per hour; a time shorter than ten minutes counts as ten minutes, so that a burst is \
                   no alarm. Keys that expired are not counted.",
        queries: &[("evicted_keys, run_id", "INFO")],
        codes: &[("redis.cache.evictions", "many keys are dropped to make room")],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the shared INFO; one more INFO where no earlier sample is stored",
        remedy: "Raise maxmemory within the machine's memory, shorten TTLs of what is read once, or drop what nobody \
                 reads (redis.no_ttl).",
    },
    thresholds: &[ThresholdSpec {
        name: "evictions",
        meaning: "keys evicted per hour",
        unit: Unit::PerHour,
        direction: Direction::Above,
        warning: Some(1000.0),
        critical: None,
        source: "the runbook analytics-operations: above 1000 per hour, increase memory; eviction alone is never \
                 critical, since nothing fails",
    }],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Evictions;

#[async_trait]
impl RedisProbe for Evictions {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        Ok(match windowed::rise(cx, redis, SPEC.name, &[EVICTED]).await? {
            SampleOutcome::Window(window) => judge(&window, limits),
            SampleOutcome::NewBaseline { reason } => windowed::no_window(reason),
        })
    }
}

fn judge(window: &Window, limits: &Limits) -> ProbeReport {
    let rate = window.per_hour_over(window.delta(EVICTED), SHORTEST);
    let rate = Measurement::new("evictions", rate, Unit::PerHour).judged_by(limits.get("evictions"));
    let evicted = count(window.delta(EVICTED), "key", "keys");
    let over = windowed::length(window);
    let summary = match window.delta(EVICTED) {
        0.0 => format!("no key evicted in {over}"),
        _ => format!("{evicted} evicted in {over} ({})", rate.format()),
    };
    let finding = Severity::of(rate.status()).map(|severity| {
        Finding::new(severity, "redis.cache.evictions", summary.clone())
            .object("keyspace")
            .evidence(
                json!({"evicted": window.delta(EVICTED) as u64, "seconds": window.length.as_secs_f64()}),
            )
            .remedy(Remedy::advice(SPEC.explanation.remedy))
    });
    ProbeReport::new(summary).measure(rate).findings(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;
    use ops_core::window::Sample;

    #[test]
    fn evictions_are_counted_per_hour() {
        let at = |second, evicted| Sample {
            at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
            epoch: "run".into(),
            counters: [(EVICTED.to_owned(), evicted)].into(),
        };
        for (rise, seconds, status) in [
            (0.0, 60, Status::Ok),
            (10.0, 60, Status::Ok),
            (166.0, 60, Status::Ok),
            (167.0, 60, Status::Warning),
            (999.0, 3600, Status::Ok),
        ] {
            let SampleOutcome::Window(window) = Window::between(&at(0, 5e6), &at(seconds, 5e6 + rise)) else {
                panic!("a window")
            };
            assert_eq!(judge(&window, &Limits::defaults(&SPEC)).status(), status, "{rise} in {seconds} s");
        }
    }
}
