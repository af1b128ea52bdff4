//! `redis.sentinel`: whether somebody takes over when a primary goes.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Requirement, Result, Severity, ThresholdSpec, Unit,
};
use redis::Value;
use serde_json::json;

use super::reply::{field, items, text};
use crate::error;
use crate::probe::{RedisProbe, is_sentinel};
use crate::target::RedisTarget;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.sentinel",
    group: "availability",
    explanation: Explanation {
        why: "Sentinels fail over only when enough of them agree. With too few, or with nobody to promote, everything \
              looks well until the primary goes, and then nothing happens.",
        measures: "On a sentinel: each primary that it watches, its flags, how many replicas and other sentinels it \
                   knows, and by SENTINEL CKQUORUM whether a failover would be authorised. A server that is no \
                   sentinel has nothing to say here; of a sentinel, which holds no data, the other probes have \
                   nothing to say.",
        queries: &[
            ("INFO", "redis_mode (server_mode on Valkey)"),
            ("SENTINEL MASTERS", "the primaries it watches"),
            ("SENTINEL CKQUORUM name", "for each: whether enough sentinels can be reached"),
        ],
        codes: &[
            ("redis.sentinel.primary_down", "a primary is down, for this sentinel or for the quorum"),
            ("redis.sentinel.no_quorum", "too few sentinels can be reached: nothing would fail over"),
            ("redis.sentinel.too_few_replicas", "a primary has too few replicas: there is nobody to promote"),
            ("redis.sentinel.watches_nothing", "it watches no primary"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "one command, and one for each primary that it watches; all answered from the sentinel's memory",
        remedy: "SENTINEL SENTINELS and SENTINEL REPLICAS name whom it knows. Three sentinels on three machines are \
                 the least that survive the loss of one.",
    },
    thresholds: &[ThresholdSpec {
        name: "replicas",
        meaning: "the replicas of a primary that a sentinel knows",
        unit: Unit::Count,
        direction: Direction::Below,
        warning: Some(0.0),
        critical: None,
        source: "the documentation of Sentinel: a failover promotes a replica, so there must be one",
    }],
    requires: &[
        Requirement::Command("info"),
        Requirement::Command("sentinel|masters"),
        Requirement::Command("sentinel|ckquorum"),
    ],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Sentinel;

#[async_trait]
impl RedisProbe for Sentinel {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        if !is_sentinel(&redis.info(cx).await?.info) {
            return Ok(ProbeReport::not_applicable("it is no sentinel"));
        }
        let (reply, _) =
            redis.query(cx, "run SENTINEL MASTERS", redis::cmd("SENTINEL").arg("MASTERS")).await?;
        let primaries = parse(&reply).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "read SENTINEL MASTERS")
                .on(redis.address())
                .because("the reply is not of the form that Redis documents")
        })?;
        let mut report = judge(&primaries, limits);
        for primary in &primaries {
            report = match quorum(cx, redis, primary).await {
                Ok(finding) => report.findings(finding),
                // What the flags tell still counts.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    let what = format!("whether {} has a quorum: {}", primary.name, error.report());
                    report.unseen(what, error.fix().map(str::to_owned))
                }
                Err(error) => return Err(error),
            };
        }
        Ok(report)
    }
}

/// A primary as its sentinel knows it.
#[derive(Clone, Debug, PartialEq)]
struct Primary {
    name: String,
    address: String,
    flags: Vec<String>,
    replicas: f64,
    sentinels: u64,
    quorum: u64,
}

fn parse(reply: &Value) -> Option<Vec<Primary>> {
    items(reply)?
        .iter()
        .map(|primary| {
            let text = |name: &str| field(primary, name);
            let count = |name: &str| text(name)?.parse::<u64>().ok();
            Some(Primary {
                name: text("name")?,
                address: format!("{}:{}", text("ip")?, text("port")?),
                flags: text("flags")?.split(',').map(str::to_owned).collect(),
                replicas: count("num-slaves")? as f64,
                sentinels: count("num-other-sentinels")? + 1,
                quorum: count("quorum")?,
            })
        })
        .collect()
}

/// `+OK …`, or `-NOQUORUM …` with the reason.
async fn quorum(cx: &Context, redis: &RedisTarget, primary: &Primary) -> Result<Option<Finding>> {
    let ask = redis::cmd("SENTINEL").arg("CKQUORUM").arg(&primary.name).clone();
    match redis.query(cx, "run SENTINEL CKQUORUM", &ask).await {
        Ok((reply, _)) if text(&reply).is_some_and(|word| word.starts_with("OK")) => Ok(None),
        Ok((other, _)) => Err(Error::new(ErrorKind::Unsupported, "run SENTINEL CKQUORUM")
            .on(redis.address())
            .because(format!("the reply is {other:?}"))),
        Err(error) if error::code(&error) == Some("NOQUORUM") => Ok(Some(no_quorum(primary))),
        Err(error) => Err(error),
    }
}

fn no_quorum(primary: &Primary) -> Finding {
    let Primary { name, sentinels, quorum, .. } = primary;
    let known =
        if *sentinels == 1 { "1 sentinel is".to_owned() } else { format!("{sentinels} sentinels are") };
    let message = format!(
        "a failover of {name} would not be authorised: {known} known, the quorum is {quorum}, and a majority must be reached"
    );
    Finding::critical("redis.sentinel.no_quorum", message)
        .object(name)
        .evidence(json!({"sentinels": sentinels, "quorum": quorum}))
        .remedy(
            Remedy::statement(format!("SENTINEL SENTINELS {name}"))
                .because("names the other sentinels, and which of them are out of reach"),
        )
}

fn judge(primaries: &[Primary], limits: &Limits) -> ProbeReport {
    let count = Measurement::new("primaries", primaries.len() as f64, Unit::Count);
    if primaries.is_empty() {
        let message = "this sentinel watches no primary";
        return ProbeReport::new(message).measure(count).finding(
            Finding::warning("redis.sentinel.watches_nothing", message).object("sentinel").remedy(
                Remedy::statement("SENTINEL MONITOR NAME HOST PORT QUORUM")
                    .because("or its configuration file was lost: it holds what the sentinel watches"),
            ),
        );
    }
    let names: Vec<_> =
        primaries.iter().map(|primary| format!("{} at {}", primary.name, primary.address)).collect();
    let report = ProbeReport::new(format!("a sentinel that watches {}", names.join(", "))).measure(count);
    primaries.iter().fold(report, |report, primary| judge_primary(report, primary, limits))
}

fn judge_primary(report: ProbeReport, primary: &Primary, limits: &Limits) -> ProbeReport {
    let Primary { name, address, flags, .. } = primary;
    let has = |flag: &str| flags.iter().any(|own| own == flag);
    let down = match (has("o_down"), has("s_down")) {
        (true, _) => Some((Severity::Critical, format!("{name} at {address} is down: the quorum agrees"))),
        (_, true) => Some((Severity::Warning, format!("{name} at {address} does not answer this sentinel"))),
        _ => None,
    };
    let down = down.map(|(severity, message)| {
        Finding::new(severity, "redis.sentinel.primary_down", message)
            .object(name)
            .evidence(json!({"address": address, "flags": flags}))
            .remedy(Remedy::advice(
                "the sentinel's log tells whether a failover is under way; if none is, look for the quorum",
            ))
    });
    let replicas = Measurement::new("replicas", primary.replicas, Unit::Count)
        .judged_by(limits.get("replicas"))
        .label("primary", name);
    let alone = Severity::of(replicas.status()).map(|severity| {
        let message = match primary.replicas {
            0.0 => format!("{name} has no replica: there is nobody to promote"),
            1.0 => format!("{name} has 1 replica"),
            _ => format!("{name} has {} replicas", replicas.format()),
        };
        Finding::new(severity, "redis.sentinel.too_few_replicas", message).object(name).remedy(
            Remedy::advice(format!("start a replica, and send it REPLICAOF {}", address.replace(':', " "))),
        )
    });
    report.measure(replicas).findings(down).findings(alone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    fn primary(flags: &str, replicas: f64) -> Primary {
        Primary {
            name: "shop".into(),
            address: "10.0.0.1:6379".into(),
            flags: flags.split(',').map(str::to_owned).collect(),
            replicas,
            sentinels: 3,
            quorum: 2,
        }
    }

    #[test]
    fn each_primary_is_judged() {
        for (flags, replicas, status, code) in [
            ("master", 1.0, Status::Ok, None),
            ("master", 0.0, Status::Warning, Some("redis.sentinel.too_few_replicas")),
            ("s_down,master", 1.0, Status::Warning, Some("redis.sentinel.primary_down")),
            ("s_down,o_down,master", 1.0, Status::Critical, Some("redis.sentinel.primary_down")),
        ] {
            let report = judge(&[primary(flags, replicas)], &Limits::defaults(&SPEC));
            let found = report.found().first().map(|finding| finding.code.as_ref());
            assert_eq!((report.status(), found), (status, code), "{flags} {replicas}");
        }
        assert_eq!(judge(&[], &Limits::defaults(&SPEC)).status(), Status::Warning);
    }

    #[test]
    fn fields_are_read_by_their_names() {
        let reply = "*1\r\n*12\r\n$4\r\nname\r\n$4\r\nshop\r\n$2\r\nip\r\n$8\r\n10.0.0.1\r\n$4\r\nport\r\n$4\r\n6379\r\n\
                     $5\r\nflags\r\n$6\r\nmaster\r\n$10\r\nnum-slaves\r\n$1\r\n1\r\n$6\r\nquorum\r\n$1\r\n2\r\n";
        let without_others = redis::parse_redis_value(reply.as_bytes()).unwrap();
        assert_eq!(parse(&without_others), None, "what is not told is not zero");
        let reply = reply.replace("*12", "*14") + "$19\r\nnum-other-sentinels\r\n$1\r\n2\r\n";
        let value = redis::parse_redis_value(reply.as_bytes()).unwrap();
        assert_eq!(parse(&value), Some(vec![primary("master", 1.0)]));
    }
}
