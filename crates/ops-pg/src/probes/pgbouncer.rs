//! `pg.pgbouncer`: do clients wait for a server connection?

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, Status, ThresholdSpec, Unit,
};
use serde_json::json;

use super::session_row::REPORTED;
use super::words::counted;
use crate::pgbouncer::{Asked, Pool};
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PgBouncer 1.8 and later (`maxwait_us`).
const SHOW: &str = "SHOW POOLS";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.pgbouncer",
    group: "sessions",
    explanation: Explanation {
        why: "A client that waits inside PgBouncer looks to the application like a slow database, and to the \
              database like no client at all. After query_wait_timeout (120 s) it is cut off.",
        measures: "Per pool (database and user): clients that wait for a server connection, and how long the first \
                   of them has waited, from the admin console. Looked at where `pgbouncer` in [postgres.NAME] gives \
                   the console's URL, such as postgres://stats@pooler:6432/pgbouncer, of a user in stats_users.",
        queries: &[("pools", SHOW)],
        codes: &[
            ("pg.pgbouncer.waiting", "clients of a pool wait for a server connection"),
            (
                "pg.pgbouncer.down",
                "nothing accepts connections where the console is configured, or answers in time",
            ),
        ],
        versions: "PgBouncer 1.8 and later",
        cost: "one connection to PgBouncer's console, which no server of PostgreSQL's sees",
        remedy: "Look at what holds the server connections: long transactions (`ops explain \
                 pg.idle_in_transaction`, pg.long_queries). Only then raise default_pool_size, by as much as the \
                 server can bear.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "maxwait",
            meaning: "how long the first client in a pool's queue has waited",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(1.0),
            critical: Some(15.0),
            source: "this project's choice; PgBouncer's documentation: 'if this starts increasing, then the current \
                     pool of servers does not handle requests quickly enough'",
        },
        ThresholdSpec {
            name: "waiting",
            meaning: "clients in a pool's queue",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: Some(20.0),
            critical: None,
            source: "default_pool_size of PgBouncer: as many wait as are served",
        },
    ],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct PgBouncer;

#[async_trait]
impl PgProbe for PgBouncer {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let Some(console) = pg.pgbouncer() else {
            return Ok(ProbeReport::not_applicable(
                "no console of PgBouncer is configured (pgbouncer = URL)",
            ));
        };
        Ok(match console.pools(cx).await? {
            Asked::Pools(pools) => judge(&pools, limits),
            Asked::Down(error) => {
                let what = error.report();
                let down = Finding::critical("pg.pgbouncer.down", what.clone())
                    .object(console.address.clone())
                    .remedy(Remedy::advice(
                        "check that PgBouncer runs, and that its address is what the URL says",
                    ));
                ProbeReport::new(what).finding(down)
            }
        })
    }
}

fn judge(pools: &[Pool], limits: &Limits) -> ProbeReport {
    let waiting: f64 = pools.iter().map(|pool| pool.clients_waiting).sum();
    let longest = pools.iter().map(|pool| pool.longest_wait).fold(0.0, f64::max);
    let all = counted(pools.len(), "pool", "pools");
    let summary = match waiting as usize {
        0 => format!("{all}, no client waits"),
        n => format!(
            "{all}, {} for a server connection, the longest for {}",
            counted(n, "client waits", "clients wait"),
            Unit::Seconds.format(longest)
        ),
    };
    let mut worst: Vec<&Pool> = pools.iter().collect();
    worst.sort_by(|a, b| b.longest_wait.total_cmp(&a.longest_wait));
    ProbeReport::new(summary)
        .measure(Measurement::new("maxwait", longest, Unit::Seconds).judged_by(limits.get("maxwait")))
        .measure(Measurement::new("waiting", waiting, Unit::Count))
        .findings(worst.into_iter().filter_map(|pool| pool.finding(limits)).take(REPORTED))
}

impl Pool {
    fn finding(&self, limits: &Limits) -> Option<Finding> {
        let judged = [
            limits.get("maxwait").judge(self.longest_wait),
            limits.get("waiting").judge(self.clients_waiting),
        ];
        let severity = Severity::of(Status::worst(judged))?;
        let message = format!(
            "{} of {}/{} for a server connection, the longest for {}; {} at work",
            counted(self.clients_waiting as usize, "client waits", "clients wait"),
            self.database,
            self.user,
            Unit::Seconds.format(self.longest_wait),
            counted(self.servers_active as usize, "connection is", "connections are"),
        );
        Some(
            Finding::new(severity, "pg.pgbouncer.waiting", message)
                .object(format!("{}/{}", self.database, self.user))
                .evidence(json!({
                    "database": self.database, "user": self.user, "pool_mode": self.mode,
                    "cl_active": self.clients_active, "cl_waiting": self.clients_waiting,
                    "sv_active": self.servers_active, "sv_idle": self.servers_idle,
                    "maxwait_seconds": self.longest_wait,
                }))
                .remedy(Remedy::advice(
                    "look for long transactions on the server before raising default_pool_size",
                )),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_judged_by_its_length_and_by_its_first() {
        let pool =
            |waiting, seconds| Pool { clients_waiting: waiting, longest_wait: seconds, ..Pool::default() };
        for (pool, expected) in [
            (pool(0.0, 0.0), Status::Ok),
            (pool(3.0, 0.2), Status::Ok),
            (pool(1.0, 1.0), Status::Warning),
            (pool(20.0, 0.1), Status::Warning),
            (pool(1.0, 15.0), Status::Critical),
        ] {
            assert_eq!(judge(&[pool], &Limits::defaults(&SPEC)).status(), expected);
        }
    }
}
