//! `pg.reachable`: does the server let us in, and how long does that take?

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Result, ThresholdSpec, Unit,
};

use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.reachable",
    group: "availability",
    explanation: Explanation {
        why: "When the database cannot be reached, nothing that depends on it works, and nothing else that this \
              report says about it can be known.",
        measures: "The time to connect, TLS and log-in included, and to answer a first statement. A connection \
                   that is refused, cut or not answered in time is critical. A failed log-in or TLS handshake is \
                   unknown: it says that ops could not look, not that the server is down.",
        queries: &[("what the server is and what the role may see", crate::capabilities::SQL)],
        codes: &[
            ("pg.reachable.down", "nothing accepts connections at the address, or it does not answer"),
            ("pg.reachable.full", "it has no connection left for us (SQLSTATE 53300)"),
            ("pg.reachable.slow", "it answers, and takes long to do so"),
            ("pg.reachable.gone", "it answered at first, and none of the last probes got an answer"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one connection and one round trip",
        remedy: "Look at the server's process, its log and its host; then at what lies between: pooler, network, \
                 DNS. `ops explain pg.connections` when it says that it has too many clients.",
    },
    thresholds: &[ThresholdSpec {
        name: "connect_time",
        meaning: "time to connect and log in",
        unit: Unit::Seconds,
        direction: Direction::Above,
        warning: Some(1.0),
        critical: None,
        source: "this project's choice: a local log-in takes 2 to 20 ms, one across a continent under 500 ms",
    }],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Reachable;

#[async_trait]
impl PgProbe for Reachable {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let connected_in = pg.connected_in(cx).await?.as_secs_f64();
        let capabilities = pg.capabilities(cx).await?;
        let time = Measurement::new("connect_time", connected_in, Unit::Seconds)
            .judged_by(limits.get("connect_time"));
        let role = if capabilities.in_recovery { "standby" } else { "primary" };
        let slow = ops_core::Severity::of(time.status()).map(|severity| {
            Finding::new(severity, "pg.reachable.slow", format!("connecting took {}", time.format()))
                .object(pg.address())
        });
        Ok(ProbeReport::new(format!(
            "PostgreSQL {} ({role}), connected in {}",
            capabilities.version,
            time.format()
        ))
        .measure(time)
        .findings(slow))
    }

    fn judge_failure(&self, error: &Error) -> Option<ProbeReport> {
        let (code, advice) = match error.kind() {
            ErrorKind::Unreachable | ErrorKind::Timeout => (
                "pg.reachable.down",
                "check that the server runs and that its address, port and firewall are what the URL says",
            ),
            ErrorKind::Exhausted => (
                "pg.reachable.full",
                "see pg.connections for who holds them: a superuser still gets in through the reserved ones",
            ),
            _ => return None,
        };
        let what = error.report();
        let finding = Finding::critical(code, what.clone()).remedy(Remedy::advice(advice));
        Some(ProbeReport::new(what).finding(match error.target() {
            Some(target) => finding.object(target),
            None => finding,
        }))
    }
}
