//! `redis.rejected_connections`: clients turned away at the limit.

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

const REJECTED: &str = "rejected_connections";

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.rejected_connections",
    group: "sessions",
    explanation: Explanation {
        why: "A rejected connection is a request that failed. The server was full when it came, even if it is not \
              now.",
        measures: "The rise of rejected_connections over the time since the last check, or over two samples 1 s apart \
                   where there is none.",
        queries: &[("rejected_connections, run_id", "INFO")],
        codes: &[("redis.connections.rejected", "connections were refused because maxclients was reached")],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the shared INFO; one more INFO where no earlier sample is stored",
        remedy: "CLIENT LIST shows who holds the connections. Pool them, set timeout for idle ones, or raise \
                 maxclients together with the limit on open files.",
    },
    thresholds: &[ThresholdSpec {
        name: "rejected",
        meaning: "connections rejected in the window",
        unit: Unit::Count,
        direction: Direction::Above,
        warning: Some(1.0),
        critical: None,
        source: "awesome-prometheus-alerts, Redis rejected connections: any; a full server is critical on \
                 redis.reachable",
    }],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct RejectedConnections;

#[async_trait]
impl RedisProbe for RejectedConnections {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        Ok(match windowed::rise(cx, redis, SPEC.name, &[REJECTED]).await? {
            SampleOutcome::Window(window) => judge(&window, limits),
            SampleOutcome::NewBaseline { reason } => windowed::no_window(reason),
        })
    }
}

fn judge(window: &Window, limits: &Limits) -> ProbeReport {
    let rejected =
        Measurement::new("rejected", window.delta(REJECTED), Unit::Count).judged_by(limits.get("rejected"));
    let over = windowed::length(window);
    let summary = match rejected.value {
        0.0 => format!("no connection rejected in {over}"),
        some => {
            let connections = count(some, "connection", "connections");
            format!("{connections} rejected in {over}: maxclients was reached")
        }
    };
    let finding = Severity::of(rejected.status()).map(|severity| {
        Finding::new(severity, "redis.connections.rejected", summary.clone())
            .object("maxclients")
            .evidence(json!({"rejected": rejected.value as u64, "seconds": window.length.as_secs_f64()}))
            .remedy(
                Remedy::statement("CLIENT LIST")
                    .because("Shows who holds connections, and how long they idle."),
            )
    });
    ProbeReport::new(summary).measure(rejected).findings(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;
    use ops_core::window::Sample;

    #[test]
    fn one_rejection_in_the_window_is_enough() {
        let at = |second, rejected| Sample {
            at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
            epoch: "run".into(),
            counters: [(REJECTED.to_owned(), rejected)].into(),
        };
        for (rise, status) in [(0.0, Status::Ok), (1.0, Status::Warning)] {
            let SampleOutcome::Window(window) = Window::between(&at(0, 7.0), &at(60, 7.0 + rise)) else {
                panic!("a window")
            };
            assert_eq!(judge(&window, &Limits::defaults(&SPEC)).status(), status);
        }
    }
}
