//! `redis.replication`: whether replicas follow, and how far behind.

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
    name: "redis.replication",
    group: "replication",
    explanation: Explanation {
        why: "A replica that has lost its primary serves what was true when it did, and cannot take over without \
              losing what came after.",
        measures: "On a replica: the state of its link, the seconds since its primary last said anything, and \
                   whether it copies everything anew. On a primary: each replica's state, the seconds since it last \
                   acknowledged, and the bytes it is behind. A connection that names no port copies the data (as a \
                   backup by SYNC does) and is no replica. How many replicas there should be only you know: give the \
                   threshold replicas.",
        queries: &[(
            "role, master_link_status, master_sync_in_progress, master_repl_offset, connected_slaves, slave0…",
            "INFO",
        )],
        codes: &[
            ("redis.replication.link_down", "this replica has lost its primary"),
            ("redis.replication.silent", "the link is up, and this replica's primary says nothing"),
            ("redis.replication.syncing", "this replica copies the whole dataset anew"),
            ("redis.replication.replica_offline", "a replica is connected, and does not follow yet"),
            ("redis.replication.lag", "a replica has not acknowledged for long"),
            ("redis.replication.too_few", "fewer replicas are connected than configured"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the INFO that all probes share",
        remedy: "The replica's log names the cause: the network, a wrong masterauth, or a backlog too small for how \
                 long it was away (repl-backlog-size).",
    },
    thresholds: &[
        ThresholdSpec {
            name: "lag",
            meaning: "seconds since a replica last acknowledged",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(10.0),
            critical: Some(60.0),
            source: "replicas acknowledge every second; min-replicas-max-lag and repl-timeout default to 10 s and 60 s",
        },
        ThresholdSpec {
            name: "last_io",
            meaning: "seconds since a replica's primary last said anything",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(30.0),
            critical: Some(60.0),
            source: "a primary pings every 10 s (repl-ping-replica-period): three are missing; repl-timeout defaults \
                     to 60 s",
        },
        ThresholdSpec {
            name: "replicas",
            meaning: "connected replicas of a primary",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: None,
            critical: None,
            source: "none by default: a server may stand alone; critical = 0 alarms when the last one is gone",
        },
    ],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Replication;

#[async_trait]
impl RedisProbe for Replication {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        judge(&redis.info(cx).await?.info, limits)
    }
}

fn judge(info: &Info, limits: &Limits) -> Result<ProbeReport> {
    match info.need::<String>("role")?.as_str() {
        "slave" => replica(info, limits),
        _ => Ok(primary(info, limits)),
    }
}

fn replica(info: &Info, limits: &Limits) -> Result<ProbeReport> {
    let host = info.text("master_host").unwrap_or("?");
    let primary = format!("{host}:{}", info.text("master_port").unwrap_or("?"));
    let up = info.need::<String>("master_link_status")? == "up";
    if up {
        let report = ProbeReport::new(format!("a replica of {primary}, connected"));
        let Some(seconds) = info.number::<f64>("master_last_io_seconds_ago") else {
            return Ok(report.unseen("when its primary last said anything: INFO does not tell it", None));
        };
        let last = Measurement::new("last_io", seconds, Unit::Seconds).judged_by(limits.get("last_io"));
        let silent = Severity::of(last.status()).map(|severity| {
            let message = format!("its primary {primary} has said nothing for {}", last.format());
            Finding::new(severity, "redis.replication.silent", message)
                .object(&primary)
                .remedy(Remedy::advice("look at the primary, and at the network between"))
        });
        return Ok(report.measure(last).findings(silent));
    }
    let evidence = json!({"link": "down", "syncing": info.text("master_sync_in_progress")});
    let finding = if info.number::<u8>("master_sync_in_progress") == Some(1) {
        Finding::warning(
            "redis.replication.syncing",
            format!("it copies the whole dataset of {primary} anew"),
        )
        .remedy(Remedy::advice("Wait. When it starts over again and again, raise repl-backlog-size."))
    } else {
        let since = info
            .number::<f64>("master_link_down_since_seconds")
            .filter(|seconds| *seconds >= 0.0)
            .map(|seconds| format!(" for {}", Unit::Seconds.format(seconds)))
            .unwrap_or_default();
        Finding::critical(
            "redis.replication.link_down",
            format!("the link to its primary {primary} is down{since}"),
        )
        .remedy(Remedy::advice(SPEC.explanation.remedy))
    };
    let summary = finding.message.clone();
    Ok(ProbeReport::new(summary).finding(finding.object(primary).evidence(evidence)))
}

/// A line such as `slave0:ip=10.0.0.2,port=6379,state=online,offset=840,lag=1`.
struct Follower {
    address: String,
    state: String,
    behind: Option<f64>,
    lag: Option<f64>,
}

/// Who copies from a primary.
struct Followers {
    replicas: Vec<Follower>,
    /// Lines that could be read: those of copies that are no replica among them.
    read: usize,
}

fn followers(info: &Info) -> Followers {
    let written: Option<f64> = info.number("master_repl_offset");
    let mut followers = Followers { replicas: Vec::new(), read: 0 };
    for line in (0..).map_while(|index| info.text(&format!("slave{index}"))) {
        let part = |key: &str| {
            line.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
        };
        let (Some(ip), Some(port), Some(state)) = (part("ip"), part("port"), part("state")) else { continue };
        followers.read += 1;
        if port == "0" {
            continue;
        }
        let offset = part("offset").and_then(|offset| offset.parse::<f64>().ok());
        followers.replicas.push(Follower {
            address: format!("{ip}:{port}"),
            state,
            behind: written.zip(offset).map(|(written, offset)| (written - offset).max(0.0)),
            lag: part("lag").and_then(|lag| lag.parse().ok()),
        });
    }
    followers
}

fn primary(info: &Info, limits: &Limits) -> ProbeReport {
    let Followers { replicas, read } = followers(info);
    let counted = replicas.len();
    let hidden = match info.number::<usize>("connected_slaves") {
        Some(connected) if connected <= read => None,
        Some(connected) => Some(format!(
            "who copies from it: INFO counts {}, and describes {read}",
            count(connected as f64, "connection", "connections")
        )),
        None => Some("how many replicas are connected: INFO has no connected_slaves".to_owned()),
    };
    let mut connected = Measurement::new("replicas", counted as f64, Unit::Count);
    if hidden.is_none() {
        connected = connected.judged_by(limits.get("replicas"));
    }
    let few = Severity::of(connected.status()).map(|severity| {
        Finding::new(
            severity,
            "redis.replication.too_few",
            count(connected.value, "replica is connected", "replicas are connected"),
        )
        .object("replicas")
        .remedy(Remedy::advice("Is the replica running, and does REPLICAOF on it name this server?"))
    });
    let summary = match (counted, &hidden) {
        (_, Some(what)) => what.clone(),
        (0, None) => "a primary with no replica connected".to_owned(),
        (n, None) => format!("a primary with {}", count(n as f64, "replica", "replicas")),
    };
    let report = ProbeReport::new(summary).measure(connected).findings(few);
    let report = hidden.into_iter().fold(report, |report, what| report.unseen(what, None));
    replicas.into_iter().fold(report, |report, follower| judge_follower(report, follower, limits))
}

fn judge_follower(mut report: ProbeReport, follower: Follower, limits: &Limits) -> ProbeReport {
    let Follower { address, state, behind, lag } = follower;
    if let Some(bytes) = behind {
        report = report.measure(Measurement::new("behind", bytes, Unit::Bytes).label("replica", &address));
    }
    if state != "online" {
        return report.finding(
            Finding::warning(
                "redis.replication.replica_offline",
                format!("replica {address} is in state {state}"),
            )
            .object(address)
            .evidence(json!({"state": state}))
            .remedy(Remedy::advice(
                "It copies the dataset first. When it does so again and again, read its log.",
            )),
        );
    }
    let Some(lag) = lag else {
        return report
            .unseen(format!("when replica {address} last acknowledged: INFO has no lag of it"), None);
    };
    let lag =
        Measurement::new("lag", lag, Unit::Seconds).judged_by(limits.get("lag")).label("replica", &address);
    let finding = Severity::of(lag.status()).map(|severity| {
        let message = format!("replica {address} last acknowledged {} ago", lag.format());
        Finding::new(severity, "redis.replication.lag", message)
            .object(address)
            .evidence(json!({"lag_seconds": lag.value, "behind_bytes": behind}))
            .remedy(Remedy::advice(SPEC.explanation.remedy))
    });
    report.measure(lag).findings(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{REDIS_7, with, without};
    use ops_core::{Bounds, Status};

    fn report(reply: &str) -> (Status, Vec<String>) {
        let report = judge(&Info::parse(reply), &Limits::defaults(&SPEC)).unwrap();
        (report.status(), report.found().iter().map(|finding| finding.code.to_string()).collect())
    }

    #[test]
    fn a_primary_judges_each_replica() {
        let primary = "role:master\nmaster_repl_offset:1000\nconnected_slaves:1\n";
        for (line, status, code) in [
            ("slave0:ip=10.0.0.2,port=6379,state=online,offset=1000,lag=1", Status::Ok, None),
            (
                "slave0:ip=10.0.0.2,port=6379,state=online,offset=10,lag=11",
                Status::Warning,
                Some("redis.replication.lag"),
            ),
            (
                "slave0:ip=10.0.0.2,port=6379,state=send_bulk,offset=0,lag=0",
                Status::Warning,
                Some("redis.replication.replica_offline"),
            ),
            // What is not told is not zero.
            ("slave0:ip=10.0.0.2,port=6379,state=online,offset=1000", Status::Unknown, None),
            ("slave0:ip=10.0.0.2,state=online,offset=1000,lag=1", Status::Unknown, None),
            ("slave0:ip=10.0.0.2,port=6379,offset=1000,lag=1", Status::Unknown, None),
            ("", Status::Unknown, None),
            // A backup by SYNC names no port.
            ("slave0:ip=10.0.0.9,port=0,state=send_bulk,offset=0,lag=0", Status::Ok, None),
        ] {
            let (seen, codes) = report(&format!("{primary}{line}\n"));
            assert_eq!((seen, codes.first().map(String::as_str)), (status, code), "{line}");
        }
    }

    #[test]
    fn a_replica_without_its_primary_is_critical() {
        let replica = "role:slave\nmaster_host:a\nmaster_port:1\n";
        for (lines, status, code) in [
            ("master_link_status:up\nmaster_last_io_seconds_ago:1\n", Status::Ok, None),
            (
                "master_link_status:up\nmaster_last_io_seconds_ago:31\n",
                Status::Warning,
                Some("redis.replication.silent"),
            ),
            ("master_link_status:up\n", Status::Unknown, None),
            (
                "master_link_status:down\nmaster_link_down_since_seconds:90\nmaster_sync_in_progress:0\n",
                Status::Critical,
                Some("redis.replication.link_down"),
            ),
            (
                "master_link_status:down\nmaster_sync_in_progress:1\n",
                Status::Warning,
                Some("redis.replication.syncing"),
            ),
        ] {
            let (seen, codes) = report(&format!("{replica}{lines}"));
            assert_eq!((seen, codes.first().map(String::as_str)), (status, code), "{lines}");
        }
    }

    #[test]
    fn standing_alone_is_fine_until_replicas_are_asked_for() {
        assert_eq!(report(REDIS_7), (Status::Ok, vec![]));
        let limits =
            Limits::defaults(&SPEC).with("replicas", Bounds { warning: None, critical: Some(0.0) }).unwrap();
        assert_eq!(judge(&Info::parse(REDIS_7), &limits).unwrap().status(), Status::Critical);
        // Replicas that are counted and not described, and ones that are not even counted, are not missing ones.
        for hidden in [with(REDIS_7, "connected_slaves", "2"), without(REDIS_7, "connected_slaves")] {
            assert_eq!(judge(&Info::parse(&hidden), &limits).unwrap().status(), Status::Unknown);
        }
    }
}
