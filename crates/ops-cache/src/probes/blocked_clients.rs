//! `redis.blocked_clients`: clients that wait inside a command.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::info::Info;
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.blocked_clients",
    group: "sessions",
    explanation: Explanation {
        why: "A client in BLPOP, XREAD BLOCK or WAIT waits for another one. Consumers of an empty queue are blocked \
              when all is well; many in WAIT are waiting for replicas that do not follow, and many under CLIENT PAUSE \
              for somebody who forgot to end it.",
        measures: "blocked_clients, and where the server tells: the keys that clients block on (Redis 7.2), and \
                   whether clients are paused and why (Redis 8, Valkey 8). Which number is right depends on what \
                   the server is for, so this only informs unless a threshold is configured.",
        queries: &[("blocked_clients, connected_clients, total_blocking_keys, paused_reason", "INFO")],
        codes: &[("redis.clients.blocked", "more clients wait inside a command than configured")],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the INFO that all probes share",
        remedy: "CLIENT LIST shows them: flag b, and their command. For WAIT look at redis.replication; CLIENT \
                 UNPAUSE ends a pause.",
    },
    thresholds: &[ThresholdSpec {
        name: "blocked",
        meaning: "clients that wait inside a command",
        unit: Unit::Count,
        direction: Direction::Above,
        warning: None,
        critical: None,
        source: "none by default: consumers of a queue are blocked when all is well",
    }],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct BlockedClients;

#[async_trait]
impl RedisProbe for BlockedClients {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        judge(&redis.info(cx).await?.info, limits)
    }
}

fn judge(info: &Info, limits: &Limits) -> Result<ProbeReport> {
    let blocked = Measurement::new("blocked", info.need("blocked_clients")?, Unit::Count)
        .judged_by(limits.get("blocked"));
    let paused = info.text("paused_reason").filter(|reason| *reason != "none");
    let pause = paused.map(|reason| format!("; clients are paused ({reason})")).unwrap_or_default();
    let clients = match blocked.value {
        0.0 => "no client waits".to_owned(),
        1.0 => "1 client waits".to_owned(),
        _ => format!("{} clients wait", blocked.format()),
    };
    let summary = format!("{clients} inside a command{pause}");
    let finding = Severity::of(blocked.status()).map(|severity| {
        Finding::new(severity, "redis.clients.blocked", summary.clone())
            .object("blocked_clients")
            .evidence(json!({
                "blocked": blocked.value,
                "connected": info.number::<u64>("connected_clients"),
                "blocking_keys": info.number::<u64>("total_blocking_keys"),
                "paused": paused,
            }))
            .remedy(Remedy::statement("CLIENT LIST").because("the flag b marks who waits, and cmd in what"))
    });
    Ok(ProbeReport::new(summary).measure(blocked).findings(finding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{REDIS_7, with, without};
    use ops_core::{Bounds, Status};

    #[test]
    fn waiting_is_shown_and_alarms_only_where_asked() {
        let info = Info::parse(&with(REDIS_7, "blocked_clients", "12"));
        let limits = Limits::defaults(&SPEC);
        assert_eq!(judge(&info, &limits).unwrap().status(), Status::Ok);
        let limits = limits.with("blocked", Bounds { warning: Some(10.0), critical: None }).unwrap();
        assert_eq!(judge(&info, &limits).unwrap().status(), Status::Warning);
        assert!(judge(&Info::parse(&without(REDIS_7, "blocked_clients")), &limits).is_err());
    }

    #[test]
    fn a_pause_is_named() {
        let info = Info::parse("blocked_clients:3\r\npaused_reason:client_pause\r\n");
        let report = judge(&info, &Limits::defaults(&SPEC)).unwrap();
        assert!(
            format!("{report:?}")
                .contains("3 clients wait inside a command; clients are paused (client_pause)")
        );
    }
}
