//! `redis.memory`: how full it is, and what happens when it is full.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, Status, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::info::Info;
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.memory",
    group: "memory",
    explanation: Explanation {
        why: "A full Redis that may not evict refuses every write with OOM; one without a limit grows until the \
              kernel kills it. A full cache that evicts any key is doing its work.",
        measures: "What counts towards maxmemory (used_memory less mem_not_counted_for_evict) as a share of it, \
                   judged under noeviction, and only shown under the allkeys policies, which make room by \
                   themselves. The volatile policies hover near 100 % while a key with a TTL is left: a warning at \
                   most until none is. So is a replica's share: it leaves maxmemory to its primary by default. With \
                   maxmemory 0 there is no such share: then the larger of used_memory and used_memory_rss is set \
                   against total_system_memory, as used_of_system. That is the machine's memory, of which other \
                   processes need some. A container's limit is not visible to Redis, and may be far below: \
                   host.memory sees it where ops runs inside.",
        queries: &[("used_memory, maxmemory, maxmemory_policy, total_system_memory", "INFO")],
        codes: &[
            (
                "redis.memory.full",
                "it has reached maxmemory and may not evict, or finds nothing to: writes fail now",
            ),
            ("redis.memory.high", "it comes near maxmemory, and will refuse writes there"),
            ("redis.memory.host", "it has no limit, and takes much of the machine's memory"),
            ("redis.memory.no_limit", "maxmemory is 0: nothing but the machine ends its growth"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the INFO that all probes share",
        remedy: "A cache: CONFIG SET maxmemory-policy allkeys-lru. A store: more memory, or fewer keys \
                 (redis.no_ttl shows those that nobody will expire). Write the change to the configuration file too.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "used",
            meaning: "memory used, of maxmemory, where the policy cannot evict any key",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(80.0),
            critical: Some(90.0),
            source: "the usual alerts on used memory (awesome-prometheus-alerts, Redis out of configured maxmemory: \
                     90 %), with a warning before",
        },
        ThresholdSpec {
            name: "used_of_system",
            meaning: "memory used, of the machine's, where maxmemory is 0",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(80.0),
            critical: Some(90.0),
            source: "awesome-prometheus-alerts, Redis out of system memory: 90 %, with a warning before; a fork for \
                     saving needs room of its own",
        },
    ],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Memory;

#[async_trait]
impl RedisProbe for Memory {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        judge(&redis.info(cx).await?.info, limits)
    }
}

fn judge(info: &Info, limits: &Limits) -> Result<ProbeReport> {
    let used: f64 = info.need("used_memory")?;
    match info.need::<f64>("maxmemory")? {
        0.0 => Ok(unlimited(info, used, limits)),
        limit => limited(info, used, limit, limits),
    }
}

fn limited(info: &Info, used: f64, limit: f64, limits: &Limits) -> Result<ProbeReport> {
    // Buffers of replicas and of the append-only file do not count towards the limit.
    let counted = used - info.number("mem_not_counted_for_evict").unwrap_or(0.0);
    let share = counted / limit * 100.0;
    let policy: String = info.need("maxmemory_policy")?;
    let evicts_any = policy.starts_with("allkeys-");
    let room = Room::of(info, &policy);
    let mut threshold = limits.get("used");
    if !matches!(room, Room::None) {
        threshold.warning = threshold.warning.or(threshold.critical);
        threshold.critical = None;
    }
    let measured = Measurement::new("used", share, Unit::Percent);
    let measured = if evicts_any { measured } else { measured.judged_by(threshold) };
    let sizes = format!("{} of {}", Unit::Bytes.format(counted), Unit::Bytes.format(limit));
    let report = ProbeReport::new(format!("{} used ({sizes}, {policy})", measured.format()))
        .measure(measured.clone())
        .measure(Measurement::new("used_bytes", used, Unit::Bytes));
    if evicts_any {
        return Ok(report);
    }
    let evidence = json!({"used": counted as u64, "maxmemory": limit as u64, "policy": policy, "keys_with_ttl": room.expiring()});
    let (code, severity, message) = if share >= 100.0 && matches!(room, Room::None) {
        let why = match policy.as_str() {
            "noeviction" => "noeviction keeps every key",
            _ => "no key with a TTL is left to evict",
        };
        let message = format!("maxmemory is reached ({sizes}) and {why}: writes fail now");
        ("redis.memory.full", Some(Severity::Critical), message)
    } else {
        let then = match (room, policy.as_str()) {
            (Room::Replica, _) => {
                "a replica leaves maxmemory to its primary (replica-ignore-maxmemory, by default)"
            }
            (Room::None, "noeviction") => "at 100 % writes fail",
            (Room::None, _) => "at 100 % writes fail: no key with a TTL is left",
            (Room::Expiring(_) | Room::Hidden, _) => "at 100 % writes fail once no key with a TTL is left",
        };
        let message = format!("{} of maxmemory is used ({sizes}); {then}", measured.format());
        ("redis.memory.high", Severity::of(measured.status()), message)
    };
    let Some(severity) = severity else { return Ok(report) };
    let remedy = match room {
        Room::Replica => Remedy::advice(
            "Look at its primary. Promoted, this server applies its own maxmemory: give it as much as the primary.",
        ),
        _ => make_room(limit),
    };
    let finding = Finding::new(severity, code, message).object("maxmemory").evidence(evidence).remedy(remedy);
    let report = report.finding(finding);
    Ok(match room {
        Room::Hidden => report.unseen("whether a key with a TTL is left: INFO has no # Keyspace", None),
        _ => report,
    })
}

/// What lets a server that may not evict any key stand near its limit.
#[derive(Clone, Copy, Debug)]
enum Room {
    /// Nothing: it refuses writes there.
    None,
    /// A replica deletes what its primary deletes, and by default looks at no limit of its own.
    Replica,
    /// So many keys with a TTL, which the policy may evict.
    Expiring(u64),
    /// Keys with a TTL, if there are any.
    Hidden,
}

impl Room {
    fn of(info: &Info, policy: &str) -> Self {
        if info.text("role") == Some("slave") {
            return Room::Replica;
        }
        if !policy.starts_with("volatile-") {
            return Room::None;
        }
        match info.databases().map(|databases| databases.iter().map(|database| database.expires).sum()) {
            Ok(0) => Room::None,
            Ok(expires) => Room::Expiring(expires),
            Err(_) => Room::Hidden,
        }
    }

    fn expiring(self) -> Option<u64> {
        match self {
            Room::Expiring(keys) => Some(keys),
            Room::None | Room::Replica | Room::Hidden => None,
        }
    }
}

fn make_room(limit: f64) -> Remedy {
    // No command to copy: the one for a cache drops keys at once, and would empty a store.
    Remedy::advice(format!(
        "A store: raise maxmemory ({} now) within the machine's memory, or delete keys. A cache, and a cache only: \
         maxmemory-policy allkeys-lru, under which it drops whatever was not used lately.",
        Unit::Bytes.format(limit)
    ))
}

fn unlimited(info: &Info, used: f64, limits: &Limits) -> ProbeReport {
    let resident = info.number::<f64>("used_memory_rss").unwrap_or(0.0).max(used);
    let report = ProbeReport::new("").measure(Measurement::new("used_bytes", used, Unit::Bytes));
    let no_limit = Finding::info(
        "redis.memory.no_limit",
        "maxmemory is 0: it grows until the memory of the machine or of its container ends, and the kernel ends it \
         then; a container's limit is not visible to Redis",
    )
    .object("maxmemory")
    .remedy(
        Remedy::statement("CONFIG SET maxmemory 2gb").because("Choose a size that leaves room for a fork."),
    );
    let Some(system) = info.number::<f64>("total_system_memory").filter(|total| *total > 0.0) else {
        return report
            .summary(format!("{} used, no limit", Unit::Bytes.format(used)))
            .finding(no_limit)
            .unseen("the machine's memory: INFO has no total_system_memory", None);
    };
    let share = Measurement::new("used_of_system", resident / system * 100.0, Unit::Percent)
        .judged_by(limits.get("used_of_system"));
    let sizes = format!("{} of the machine's {}", Unit::Bytes.format(resident), Unit::Bytes.format(system));
    let high = Severity::of(share.status()).map(|severity| {
        Finding::new(severity, "redis.memory.host", format!("maxmemory is 0, and it takes {sizes}"))
            .object("maxmemory")
            .evidence(json!({"resident": resident as u64, "total_system_memory": system as u64}))
            .remedy(
                Remedy::statement("CONFIG SET maxmemory 2gb")
                    .because("A limit and a policy, before the kernel."),
            )
    });
    let summary = format!(
        "{} used, no limit ({} of the machine's memory; a container's limit is not visible to Redis)",
        Unit::Bytes.format(used),
        share.format()
    );
    let calm = share.status() == Status::Ok;
    report.summary(summary).measure(share).findings(high).findings(calm.then_some(no_limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NOEVICTION_FULL, REDIS_7, with, without};

    fn report(reply: &str) -> ProbeReport {
        judge(&Info::parse(reply), &Limits::defaults(&SPEC)).unwrap()
    }

    fn codes(report: &ProbeReport) -> Vec<&str> {
        report.found().iter().map(|finding| finding.code.as_ref()).collect()
    }

    #[test]
    fn a_full_server_that_may_not_evict_refuses_writes() {
        let report = report(NOEVICTION_FULL);
        assert_eq!((report.status(), codes(&report)), (Status::Critical, vec!["redis.memory.full"]));
        assert!(report.found()[0].message.contains("writes fail now"));
    }

    #[test]
    fn the_policy_decides_what_a_share_means() {
        let at = |share: f64, policy: &str| {
            let used = with(NOEVICTION_FULL, "used_memory", &format!("{}", 11_000.0 * share));
            report(&with(&used, "maxmemory_policy", policy))
        };
        for (share, policy, status, code) in [
            (79.0, "noeviction", Status::Ok, None),
            (80.0, "noeviction", Status::Warning, Some("redis.memory.high")),
            (90.0, "noeviction", Status::Critical, Some("redis.memory.high")),
            (79.0, "volatile-lru", Status::Ok, None),
            (90.0, "volatile-lru", Status::Warning, Some("redis.memory.high")),
            (100.0, "volatile-ttl", Status::Warning, Some("redis.memory.high")),
            (100.0, "allkeys-lfu", Status::Ok, None),
            (104.0, "allkeys-random", Status::Ok, None),
        ] {
            let report = at(share, policy);
            assert_eq!(
                (report.status(), codes(&report).first().copied()),
                (status, code),
                "{share} {policy}"
            );
        }
    }

    #[test]
    fn volatile_policies_are_full_once_no_key_has_a_ttl() {
        let volatile = with(NOEVICTION_FULL, "maxmemory_policy", "volatile-lru");
        let hidden = without(&without(&volatile.replace("# Keyspace", ""), "db0"), "db3");
        for (reply, status, code) in [
            (volatile.clone(), Status::Warning, "redis.memory.high"),
            (with(&volatile, "db0", "keys=6,expires=0,avg_ttl=0"), Status::Critical, "redis.memory.full"),
            (without(&volatile, "db0"), Status::Critical, "redis.memory.full"),
            (hidden, Status::Warning, "redis.memory.high"),
        ] {
            let report = report(&reply);
            assert_eq!((report.status(), codes(&report)), (status, vec![code]));
        }
    }

    #[test]
    fn a_replica_leaves_the_limit_to_its_primary() {
        let report = report(&with(NOEVICTION_FULL, "role", "slave"));
        assert_eq!((report.status(), codes(&report)), (Status::Warning, vec!["redis.memory.high"]));
        assert!(report.found()[0].message.contains("leaves maxmemory to its primary"));
    }

    #[test]
    fn buffers_do_not_count_towards_the_limit() {
        let reply = with(NOEVICTION_FULL, "mem_not_counted_for_evict", "600000");
        assert_eq!(report(&reply).status(), Status::Ok);
    }

    #[test]
    fn without_a_limit_there_is_no_share_of_it() {
        let report = report(REDIS_7);
        let names: Vec<_> = report.measured().iter().map(|measured| measured.name.as_ref()).collect();
        assert_eq!((report.status(), codes(&report)), (Status::Ok, vec!["redis.memory.no_limit"]));
        assert_eq!(names, ["used_bytes", "used_of_system"]);
        assert!(report.found()[0].message.contains("a container's limit is not visible to Redis"));
    }

    #[test]
    fn without_a_limit_the_machine_is_the_limit() {
        let report = report(&with(REDIS_7, "used_memory_rss", "21000000000"));
        assert_eq!((report.status(), codes(&report)), (Status::Warning, vec!["redis.memory.host"]));
    }

    #[test]
    fn a_hidden_field_is_unknown_and_never_ok() {
        assert_eq!(report(&without(REDIS_7, "total_system_memory")).status(), Status::Unknown);
        for field in ["used_memory", "maxmemory"] {
            assert!(
                judge(&Info::parse(&without(REDIS_7, field)), &Limits::defaults(&SPEC)).is_err(),
                "{field}"
            );
        }
        let no_policy = without(NOEVICTION_FULL, "maxmemory_policy");
        assert!(judge(&Info::parse(&no_policy), &Limits::defaults(&SPEC)).is_err());
    }
}
