//! `redis.no_ttl`: keys that nobody will expire.

use async_trait::async_trait;
use ops_core::words::count;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::info::{Info, Keyspace};
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.no_ttl",
    group: "cache",
    explanation: Explanation {
        why: "A cache key without a TTL stays until somebody deletes it: data that should have been refreshed is \
              served stale, and memory fills with what nobody reads.",
        measures: "keys less expires for each database, from the keyspace section of INFO: two counters, whatever \
                   the number of keys. Nothing is scanned, and no key is touched. Whether such keys are a mistake \
                   depends on what the server is for, so this only informs unless a threshold is configured.",
        queries: &[("# Keyspace: db0:keys=…,expires=…", "INFO")],
        codes: &[("redis.keys.no_ttl", "a database holds keys that never expire")],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the INFO that all probes share",
        remedy: "Give the key its TTL where it is written: SET key value EX seconds. EXPIRE … NX gives one to keys \
                 that have none, without shortening others (Redis 7).",
    },
    thresholds: &[ThresholdSpec {
        name: "without_ttl",
        meaning: "the share of a database's keys that have no TTL",
        unit: Unit::Percent,
        direction: Direction::Above,
        warning: None,
        critical: None,
        source: "none by default: a queue or a store keeps all of its keys, and rightly",
    }],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct NoTtl;

#[async_trait]
impl RedisProbe for NoTtl {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        judge(&redis.info(cx).await?.info, &redis.cli(), limits)
    }
}

fn judge(info: &Info, cli: &str, limits: &Limits) -> Result<ProbeReport> {
    let databases = info.databases()?;
    let keys: u64 = databases.iter().map(|database| database.keys).sum();
    let without: u64 = databases.iter().map(Keyspace::without_ttl).sum();
    let counted = |name, value: u64| Measurement::new(name, value as f64, Unit::Count);
    let summary = match (keys, without) {
        (0, _) => "it holds no keys".to_owned(),
        (1, 0) => "its only key has a TTL".to_owned(),
        (_, 0) => format!("all {} have a TTL", count(keys as f64, "key", "keys")),
        _ => format!("{} {} no TTL", share_of(without, keys), if without == 1 { "has" } else { "have" }),
    };
    let mut report = ProbeReport::new(summary)
        .measure(counted("keys", keys))
        .measure(counted("keys_without_ttl", without));
    for database in databases.iter().filter(|database| database.keys > 0) {
        let (share, finding) = judge_database(database, cli, limits);
        report = report.measure(share).findings(finding);
    }
    Ok(report)
}

/// `1 of 5 keys`.
fn share_of(part: u64, keys: u64) -> String {
    format!("{} of {}", Unit::Count.format(part as f64), count(keys as f64, "key", "keys"))
}

fn judge_database(database: &Keyspace, cli: &str, limits: &Limits) -> (Measurement, Option<Finding>) {
    let name = format!("db{}", database.database);
    let without = database.without_ttl();
    let share = Measurement::new("without_ttl", without as f64 / database.keys as f64 * 100.0, Unit::Percent)
        .judged_by(limits.get("without_ttl"))
        .label("database", &name);
    let finding = (without > 0).then(|| {
        let severity = Severity::of(share.status()).unwrap_or(Severity::Info);
        let expire = if without == 1 { "expires" } else { "expire" };
        let keys = share_of(without, database.keys);
        let message = format!("{keys} in {name} never {expire} ({})", share.format());
        Finding::new(severity, "redis.keys.no_ttl", message)
            .evidence(json!({
                "database": name, "keys": database.keys, "expires": database.expires, "without_ttl": without,
            }))
            .remedy(
                Remedy::statement(format!("{cli} -n {} --scan --count 100 | head -50", database.database)).because(
                    "A sample of the names tells who writes them (scanning counts as no hit). Give the key its TTL \
                     where it is written: SET key value EX seconds.",
                ),
            )
            .object(name)
    });
    (share, finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{REDIS_7, without};
    use ops_core::{Bounds, Status};

    fn found(reply: &str, limits: &Limits) -> Vec<(String, Severity, u64)> {
        judge(&Info::parse(reply), "redis-cli", limits)
            .unwrap()
            .found()
            .iter()
            .map(|finding| {
                let count = finding.evidence[0]["without_ttl"].as_u64().unwrap();
                (finding.object.clone().unwrap(), finding.severity, count)
            })
            .collect()
    }

    #[test]
    fn each_database_is_named_and_only_informs() {
        let limits = Limits::defaults(&SPEC);
        assert_eq!(
            found(REDIS_7, &limits),
            [("db0".to_owned(), Severity::Info, 5), ("db3".to_owned(), Severity::Info, 1)]
        );
        assert_eq!(judge(&Info::parse(REDIS_7), "redis-cli", &limits).unwrap().status(), Status::Ok);
    }

    #[test]
    fn a_configured_share_alarms_where_it_is_reached() {
        let limits = Limits::defaults(&SPEC)
            .with("without_ttl", Bounds { warning: Some(90.0), critical: None })
            .unwrap();
        assert_eq!(
            found(REDIS_7, &limits),
            [("db0".to_owned(), Severity::Info, 5), ("db3".to_owned(), Severity::Warning, 1)]
        );
    }

    #[test]
    fn one_key_is_no_keys() {
        for (keyspace, message) in [
            ("keys=1,expires=0", "1 of 1 key in db0 never expires (100.0 %)"),
            ("keys=4,expires=3", "1 of 4 keys in db0 never expires (25.0 %)"),
            ("keys=4,expires=2", "2 of 4 keys in db0 never expire (50.0 %)"),
        ] {
            let reply = format!("# Keyspace\ndb0:{keyspace},avg_ttl=0\n");
            let report = judge(&Info::parse(&reply), "redis-cli", &Limits::defaults(&SPEC)).unwrap();
            assert_eq!(report.found()[0].message, message);
        }
    }

    #[test]
    fn keys_that_all_expire_and_no_keys_at_all_are_fine() {
        let limits = Limits::defaults(&SPEC);
        for reply in ["# Keyspace\ndb0:keys=3,expires=3,avg_ttl=9\n", "# Keyspace\n"] {
            let report = judge(&Info::parse(reply), "redis-cli", &limits).unwrap();
            assert_eq!((report.status(), report.found().len()), (Status::Ok, 0), "{reply}");
        }
    }

    #[test]
    fn a_hidden_keyspace_is_not_an_empty_one() {
        let hidden = without(&without(REDIS_7, "db0"), "db3").replace("# Keyspace", "");
        assert!(judge(&Info::parse(&hidden), "redis-cli", &Limits::defaults(&SPEC)).is_err());
    }
}
