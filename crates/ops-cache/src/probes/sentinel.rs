//! `redis.sentinel`: whether somebody takes over when a primary goes.

use async_trait::async_trait;
use ops_core::words::count;
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
        measures: "On a sentinel: each primary that it watches, its flags, how many of its replicas could be \
                   promoted (a sentinel goes on counting one that is gone: those that are down, cut off or of \
                   priority 0 are left out), how many other sentinels it knows, and by SENTINEL CKQUORUM whether a \
                   failover would be authorised. A server that is no sentinel has nothing to say here; of a \
                   sentinel, which holds no data, the other probes have nothing to say.",
        queries: &[
            ("redis_mode (server_mode on Valkey)", "INFO"),
            ("the primaries it watches", "SENTINEL MASTERS"),
            ("for each that has replicas: their flags and slave-priority", "SENTINEL REPLICAS name"),
            ("for each: whether enough sentinels can be reached", "SENTINEL CKQUORUM name"),
        ],
        codes: &[
            ("redis.sentinel.primary_down", "a primary is down, for this sentinel or for the quorum"),
            ("redis.sentinel.no_quorum", "too few sentinels can be reached: nothing would fail over"),
            ("redis.sentinel.too_few_replicas", "a primary has too few replicas that could be promoted"),
            ("redis.sentinel.watches_nothing", "it watches no primary"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "one command, and at most two for each primary that it watches; all answered from the sentinel's memory",
        remedy: "SENTINEL SENTINELS and SENTINEL REPLICAS name whom it knows. Three sentinels on three machines are \
                 the least that survive the loss of one.",
    },
    thresholds: &[ThresholdSpec {
        name: "replicas",
        meaning: "the replicas of a primary that could be promoted",
        unit: Unit::Count,
        direction: Direction::Below,
        warning: Some(0.0),
        critical: None,
        source: "the documentation of Sentinel: a failover promotes a replica, so there must be one",
    }],
    requires: &[
        Requirement::Command("info"),
        Requirement::Command("sentinel|masters"),
        Requirement::Command("sentinel|replicas"),
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
        let mut primaries = parse(&reply).ok_or_else(|| undocumented(redis, "read SENTINEL MASTERS"))?;
        let mut hidden = Vec::new();
        for primary in &mut primaries {
            match replicas(cx, redis, primary).await {
                Ok(replicas) => primary.replicas = Some(replicas),
                // What the flags tell still counts.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    hidden.push((format!("who could be promoted for {}", primary.name), error));
                }
                Err(error) => return Err(error),
            }
        }
        let mut report = judge(&primaries, limits);
        for primary in &primaries {
            match quorum(cx, redis, primary).await {
                Ok(finding) => report = report.findings(finding),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    hidden.push((format!("whether {} has a quorum", primary.name), error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(hidden.into_iter().fold(report, |report, (what, error)| {
            report.unseen(format!("{what}: {}", error.report()), error.fix().map(str::to_owned))
        }))
    }
}

fn undocumented(redis: &RedisTarget, operation: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation)
        .on(redis.address())
        .because("the reply is not of the form that Redis documents")
}

/// A primary as its sentinel knows it.
#[derive(Clone, Debug, PartialEq)]
struct Primary {
    name: String,
    address: String,
    flags: Vec<String>,
    /// How many replicas its sentinel has ever seen, and not been told to forget.
    known: u64,
    /// Who they are, where that can be seen.
    replicas: Option<Vec<Replica>>,
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
                flags: flags(primary)?,
                known: count("num-slaves")?,
                replicas: None,
                sentinels: count("num-other-sentinels")? + 1,
                quorum: count("quorum")?,
            })
        })
        .collect()
}

fn flags(instance: &Value) -> Option<Vec<String>> {
    Some(field(instance, "flags")?.split(',').map(str::to_owned).collect())
}

/// A replica as its sentinel knows it: it stays known when it is gone.
#[derive(Clone, Debug, PartialEq)]
struct Replica {
    address: String,
    flags: Vec<String>,
    /// 0 keeps it from being promoted.
    priority: u64,
}

impl Replica {
    /// As a sentinel chooses: not one that is down or cut off, and none that must not be.
    fn can_be_promoted(&self) -> bool {
        let gone = ["s_down", "o_down", "disconnected"];
        self.priority > 0 && !self.flags.iter().any(|flag| gone.contains(&flag.as_str()))
    }
}

async fn replicas(cx: &Context, redis: &RedisTarget, primary: &Primary) -> Result<Vec<Replica>> {
    if primary.known == 0 {
        return Ok(Vec::new());
    }
    let ask = redis::cmd("SENTINEL").arg("REPLICAS").arg(&primary.name).clone();
    let (reply, _) = redis.query(cx, "run SENTINEL REPLICAS", &ask).await?;
    parse_replicas(&reply).ok_or_else(|| undocumented(redis, "read SENTINEL REPLICAS"))
}

fn parse_replicas(reply: &Value) -> Option<Vec<Replica>> {
    items(reply)?
        .iter()
        .map(|replica| {
            Some(Replica {
                address: format!("{}:{}", field(replica, "ip")?, field(replica, "port")?),
                flags: flags(replica)?,
                priority: field(replica, "slave-priority")?.parse().ok()?,
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
    let watched = Measurement::new("primaries", primaries.len() as f64, Unit::Count);
    if primaries.is_empty() {
        let message = "this sentinel watches no primary";
        return ProbeReport::new(message).measure(watched).finding(
            Finding::warning("redis.sentinel.watches_nothing", message).object("sentinel").remedy(
                Remedy::statement("SENTINEL MONITOR NAME HOST PORT QUORUM")
                    .because("or its configuration file was lost: it holds what the sentinel watches"),
            ),
        );
    }
    let names: Vec<_> =
        primaries.iter().map(|primary| format!("{} at {}", primary.name, primary.address)).collect();
    let report = ProbeReport::new(format!("a sentinel that watches {}", names.join(", "))).measure(watched);
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
    let report = report.findings(down);
    match &primary.replicas {
        Some(replicas) => judge_replicas(report, primary, replicas, limits),
        None => report,
    }
}

fn judge_replicas(
    report: ProbeReport,
    primary: &Primary,
    replicas: &[Replica],
    limits: &Limits,
) -> ProbeReport {
    let Primary { name, address, .. } = primary;
    let (ready, rest): (Vec<_>, Vec<_>) = replicas.iter().partition(|replica| replica.can_be_promoted());
    let measured = Measurement::new("replicas", ready.len() as f64, Unit::Count)
        .judged_by(limits.get("replicas"))
        .label("primary", name);
    let alone = Severity::of(measured.status()).map(|severity| {
        let others = match rest.len() {
            0 => String::new(),
            n => format!(" ({} that it knows cannot be)", count(n as f64, "other", "others")),
        };
        let message = match (ready.len(), rest.len()) {
            (0, 0) => format!("{name} has no replica: there is nobody to promote"),
            (0, n) => format!(
                "{name} has no replica that could be promoted: {} down, cut off or of priority 0",
                count(n as f64, "replica is", "replicas are")
            ),
            (n, _) => {
                format!("{name} has {} to promote{others}", count(n as f64, "replica", "replicas"))
            }
        };
        let known = replicas
            .iter()
            .map(|replica| json!({"replica": replica.address, "flags": replica.flags, "priority": replica.priority}));
        let finding = Finding::new(severity, "redis.sentinel.too_few_replicas", message);
        known.fold(finding, Finding::evidence).object(name).remedy(Remedy::advice(format!(
            "start a replica, and send it REPLICAOF {}; SENTINEL RESET {name} forgets those that are gone for good",
            address.replace(':', " ")
        )))
    });
    report.measure(measured).findings(alone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    fn flags_of(flags: &str) -> Vec<String> {
        flags.split(',').map(str::to_owned).collect()
    }

    fn replica(flags: &str, priority: u64) -> Replica {
        Replica { address: "10.0.0.2:6379".into(), flags: flags_of(flags), priority }
    }

    fn primary(flags: &str, replicas: Vec<Replica>) -> Primary {
        Primary {
            name: "shop".into(),
            address: "10.0.0.1:6379".into(),
            flags: flags_of(flags),
            known: replicas.len() as u64,
            replicas: Some(replicas),
            sentinels: 3,
            quorum: 2,
        }
    }

    #[test]
    fn each_primary_is_judged() {
        const TOO_FEW: Option<&str> = Some("redis.sentinel.too_few_replicas");
        const DOWN: Option<&str> = Some("redis.sentinel.primary_down");
        for (flags, replicas, status, code) in [
            ("master", vec![replica("slave", 100)], Status::Ok, None),
            ("master", vec![], Status::Warning, TOO_FEW),
            ("master", vec![replica("s_down,slave,disconnected", 100)], Status::Warning, TOO_FEW),
            ("master", vec![replica("slave,disconnected", 100)], Status::Warning, TOO_FEW),
            ("master", vec![replica("slave", 0)], Status::Warning, TOO_FEW),
            ("master", vec![replica("slave", 0), replica("slave", 1)], Status::Ok, None),
            ("s_down,master", vec![replica("slave", 100)], Status::Warning, DOWN),
            ("s_down,o_down,master", vec![replica("slave", 100)], Status::Critical, DOWN),
        ] {
            let said = format!("{flags} {replicas:?}");
            let report = judge(&[primary(flags, replicas)], &Limits::defaults(&SPEC));
            let found = report.found().first().map(|finding| finding.code.as_ref());
            assert_eq!((report.status(), found), (status, code), "{said}");
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
        let expected = Primary { known: 1, replicas: None, ..primary("master", vec![]) };
        assert_eq!(parse(&value), Some(vec![expected]));
        let reply = "*1\r\n*8\r\n$2\r\nip\r\n$8\r\n10.0.0.2\r\n$4\r\nport\r\n$4\r\n6379\r\n\
                     $5\r\nflags\r\n$5\r\nslave\r\n$14\r\nslave-priority\r\n$3\r\n100\r\n";
        let value = redis::parse_redis_value(reply.as_bytes()).unwrap();
        assert_eq!(parse_replicas(&value), Some(vec![replica("slave", 100)]));
    }
}
