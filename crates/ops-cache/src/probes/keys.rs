//! `redis.keys`: how many keys there are.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::info::{Info, Keyspace};
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.keys",
    group: "cache",
    explanation: Explanation {
        why: "A number of keys that only grows ends in evictions or in a full server; one that is suddenly gone was \
              flushed, or is a replica of an empty primary, and all of its readers go to the database.",
        measures: "The keys of each database, and of all together, from the keyspace section of INFO: a counter, \
                   whatever the number of keys. Nothing is scanned. How many there should be only you know, so this \
                   only informs unless a threshold is configured.",
        queries: &[("# Keyspace: db0:keys=…,expires=…", "INFO")],
        codes: &[
            ("redis.keys.many", "a database holds more keys than configured"),
            ("redis.keys.few", "the server holds fewer keys than configured"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the INFO that all probes share",
        remedy: "redis-cli --keystats (Redis 8) or --bigkeys names what takes the room, by scanning. Keys that are \
                 gone: INFO commandstats tells whether FLUSHALL or FLUSHDB was called.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "keys",
            meaning: "the keys of one database",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: what is many depends on what is kept",
        },
        ThresholdSpec {
            name: "total",
            meaning: "the keys of all databases together, where too few are trouble",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: None,
            critical: None,
            source: "none by default: a cache may be empty; critical = 0 alarms when it is",
        },
    ],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Keys;

#[async_trait]
impl RedisProbe for Keys {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        judge(&redis.info(cx).await?.info, &redis.cli(), limits)
    }
}

fn judge(info: &Info, cli: &str, limits: &Limits) -> Result<ProbeReport> {
    let databases = info.databases()?;
    let sum: u64 = databases.iter().map(|database| database.keys).sum();
    let total = Measurement::new("total", sum as f64, Unit::Count).judged_by(limits.get("total"));
    let few = Severity::of(total.status()).map(|severity| {
        let message = format!("the keyspace holds {}", keys(sum));
        Finding::new(severity, "redis.keys.few", message).object("keyspace").remedy(
            Remedy::statement("INFO commandstats").because("tells whether FLUSHALL or FLUSHDB was called"),
        )
    });
    let summary = match databases.as_slice() {
        [] => "it holds no keys".to_owned(),
        [one] => format!("{} in db{}", keys(one.keys), one.database),
        several => format!("{} in {} databases", keys(sum), several.len()),
    };
    let report = ProbeReport::new(summary).measure(total).findings(few);
    Ok(databases.iter().fold(report, |report, database| judge_database(report, database, cli, limits)))
}

fn judge_database(report: ProbeReport, database: &Keyspace, cli: &str, limits: &Limits) -> ProbeReport {
    let name = format!("db{}", database.database);
    let held = Measurement::new("keys", database.keys as f64, Unit::Count)
        .judged_by(limits.get("keys"))
        .label("database", &name);
    let many = Severity::of(held.status()).map(|severity| {
        Finding::new(severity, "redis.keys.many", format!("{name} holds {}", keys(database.keys)))
            .evidence(json!({"database": name, "keys": database.keys, "expires": database.expires}))
            .remedy(
                Remedy::statement(format!("{cli} -n {} --bigkeys", database.database))
                    .because("names what takes the room, by scanning in small steps"),
            )
            .object(&name)
    });
    report.measure(held).findings(many)
}

fn keys(count: u64) -> String {
    match count {
        0 => "no keys".to_owned(),
        1 => "1 key".to_owned(),
        _ => format!("{} keys", Unit::Count.format(count as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::REDIS_7;
    use ops_core::{Bounds, Status};

    #[test]
    fn databases_are_counted_and_alarm_only_where_asked() {
        let limits = Limits::defaults(&SPEC);
        let report = judge(&Info::parse(REDIS_7), "redis-cli", &limits).unwrap();
        let counts: Vec<_> = report.measured().iter().map(|measured| measured.value).collect();
        assert_eq!((report.status(), counts), (Status::Ok, vec![7.0, 6.0, 1.0]));

        let limits = limits.with("keys", Bounds { warning: Some(6.0), critical: None }).unwrap();
        let report = judge(&Info::parse(REDIS_7), "redis-cli", &limits).unwrap();
        let found: Vec<_> = report.found().iter().map(|finding| finding.object.as_deref()).collect();
        assert_eq!((report.status(), found), (Status::Warning, vec![Some("db0")]));
    }

    #[test]
    fn an_empty_server_is_trouble_only_where_asked() {
        let empty = Info::parse("# Keyspace\r\n");
        let limits = Limits::defaults(&SPEC);
        assert_eq!(judge(&empty, "redis-cli", &limits).unwrap().status(), Status::Ok);
        let limits = limits.with("total", Bounds { warning: None, critical: Some(0.0) }).unwrap();
        assert_eq!(judge(&empty, "redis-cli", &limits).unwrap().found()[0].code, "redis.keys.few");
        assert!(judge(&Info::parse("# Server\r\n"), "redis-cli", &limits).is_err(), "hidden is not empty");
    }
}
