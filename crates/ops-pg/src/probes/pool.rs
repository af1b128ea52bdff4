//! `pg.pool`: does the service's own pool have a connection to lend?

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::probe::{PgProbe, Scope};
use crate::target::{Lending, PgTarget};

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.pool",
    group: "sessions",
    explanation: Explanation {
        why: "A request that waits for a connection of its own service's pool is slow before the database has heard \
              of it: the database looks idle, and the service looks broken.",
        measures: "Of the pool that a service hands to ops (PgTarget::from_pool): how long it takes to be lent a \
                   connection, at most 2.5 s; how many it has, how many of them are idle, and how many it may have. \
                   Where ops connects by itself, as the command line does, there is no such pool.",
        queries: &[("borrow a connection, and give it back", "sqlx's Pool::acquire")],
        codes: &[("pg.pool.slow", "a connection of the pool is long in coming, or does not come")],
        versions: "every version",
        cost: "one connection of the pool, for a moment",
        remedy: "Look for what holds the connections: transactions that wait for something else than the database \
                 (`ops explain pg.idle_in_transaction`), queries that are slow. Raise max_connections of the pool \
                 only as far as the server can bear it, all instances of the service together.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "acquire_time",
            meaning: "time until the pool lends a connection",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(0.1),
            critical: Some(2.0),
            source: "critical is sqlx's own acquire_slow_threshold; the warning is this project's choice: a user notices \
                     a tenth of a second",
        },
        ThresholdSpec {
            name: "used",
            meaning: "connections that are lent, of those that the pool may have",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: a pool that is lent out for a moment does its work",
        },
    ],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Pool;

#[async_trait]
impl PgProbe for Pool {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        Ok(match pg.lending(cx).await? {
            Some(pool) => judge(pool, pg.address(), limits),
            None => ProbeReport::not_applicable("no pool of a service is configured: ops connects by itself"),
        })
    }
}

fn judge(pool: Lending, address: &str, limits: &Limits) -> ProbeReport {
    let lent = pool.size - pool.idle;
    let time = Measurement::new("acquire_time", pool.waited.as_secs_f64(), Unit::Seconds)
        .judged_by(limits.get("acquire_time"));
    let used = 100.0 * f64::from(lent) / f64::from(pool.most.max(1));
    let used = Measurement::new("used", used, Unit::Percent).judged_by(limits.get("used"));
    let of = format!("{lent} of at most {} connections were lent", pool.most);
    let summary = match pool.lent {
        true => format!("a connection came after {}; {of}", time.format()),
        false => format!("no connection came within {}; {of}", time.format()),
    };
    let slow = Severity::of(time.status()).max(Severity::of(used.status())).map(|severity| {
        Finding::new(severity, "pg.pool.slow", summary.clone())
            .object(address)
            .evidence(json!({
                "size": pool.size, "idle": pool.idle, "max_connections": pool.most, "lent": pool.lent,
            }))
            .remedy(Remedy::advice(
                "look for what holds the pool's connections before giving it more of them",
            ))
    });
    ProbeReport::new(summary)
        .measure(time)
        .measure(used)
        .measure(Measurement::new("size", f64::from(pool.size), Unit::Count))
        .measure(Measurement::new("idle", f64::from(pool.idle), Unit::Count))
        .findings(slow)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ops_core::Status;

    use super::*;

    #[test]
    fn a_pool_is_judged_by_the_wait() {
        for (millis, lent, expected) in [
            (1, true, Status::Ok),
            (100, true, Status::Warning),
            (2000, true, Status::Critical),
            (2500, false, Status::Critical),
        ] {
            let pool = Lending { size: 5, idle: 0, most: 5, waited: Duration::from_millis(millis), lent };
            let report = judge(pool, "db", &Limits::defaults(&SPEC));
            assert_eq!(report.status(), expected, "{millis} ms");
        }
    }
}
