//! `redis.clients`: connections, of those allowed.

use async_trait::async_trait;
use ops_core::words::count;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::info::Info;
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.clients",
    group: "sessions",
    explanation: Explanation {
        why: "At maxclients the server closes every new connection: the services that reconnect then are the ones \
              that were just restarted to help.",
        measures: "connected_clients, and cluster_connections where there are some, as a share of maxclients. \
                   Blocked clients (BLPOP and the like) are shown beside it: consumers of a queue are blocked when \
                   all is well.",
        queries: &[("connected_clients, cluster_connections, blocked_clients, maxclients", "INFO")],
        codes: &[("redis.clients.high", "it comes near the number of clients it accepts")],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the INFO that all probes share",
        remedy: "CLIENT LIST shows who holds connections, and how long they idle. Pool connections, set timeout, or \
                 raise maxclients together with the limit on open files.",
    },
    thresholds: &[ThresholdSpec {
        name: "used",
        meaning: "connections, of maxclients",
        unit: Unit::Percent,
        direction: Direction::Above,
        warning: Some(80.0),
        critical: Some(90.0),
        source: "awesome-prometheus-alerts, Redis too many connections: 90 %, with a warning before",
    }],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Clients;

#[async_trait]
impl RedisProbe for Clients {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        judge(&redis.info(cx).await?.info, limits)
    }
}

fn judge(info: &Info, limits: &Limits) -> Result<ProbeReport> {
    let connected =
        info.need::<f64>("connected_clients")? + info.number("cluster_connections").unwrap_or(0.0);
    let allowed: f64 = info.need("maxclients")?;
    let used =
        Measurement::new("used", connected / allowed * 100.0, Unit::Percent).judged_by(limits.get("used"));
    let counts =
        format!("{} of {}", Unit::Count.format(connected), count(allowed, "connection", "connections"));
    let finding = Severity::of(used.status()).map(|severity| {
        let message = format!("{counts} taken; at the limit new ones are closed");
        Finding::new(severity, "redis.clients.high", message)
            .object("maxclients")
            .evidence(json!({"connected": connected as u64, "maxclients": allowed as u64}))
            .remedy(
                Remedy::statement("CLIENT LIST")
                    .because("Shows who holds connections, and how long they idle."),
            )
    });
    let blocked =
        info.number("blocked_clients").map(|blocked| Measurement::new("blocked", blocked, Unit::Count));
    let mut report = ProbeReport::new(format!("{counts} taken")).measure(used);
    report = report.measure(Measurement::new("connected", connected, Unit::Count));
    Ok(blocked.into_iter().fold(report, ProbeReport::measure).findings(finding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{REDIS_7, with, without};
    use ops_core::Status;

    #[test]
    fn connections_are_judged_by_the_limit() {
        for (connected, status) in [("1", Status::Ok), ("8000", Status::Warning), ("9500", Status::Critical)]
        {
            let info = Info::parse(&with(REDIS_7, "connected_clients", connected));
            assert_eq!(judge(&info, &Limits::defaults(&SPEC)).unwrap().status(), status, "{connected}");
        }
        assert!(judge(&Info::parse(&without(REDIS_7, "maxclients")), &Limits::defaults(&SPEC)).is_err());
    }
}
