//! `redis.reachable`: does it answer, and how fast.

use std::time::Duration;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Requirement, Result, Severity, Status, ThresholdSpec, Unit,
};
use redis::Value;

use crate::error;
use crate::info::Info;
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.reachable",
    group: "availability",
    explanation: Explanation {
        why: "A cache that does not answer sends all of its traffic to the database behind it, at once.",
        measures: "The time from sending PING to its answer, on a connection that is made already; when the first is \
                   over the warning, the best of three: a pause that is over is told and does not alarm. Refused, \
                   timed out, cut, full of clients, or still loading is critical: clients meet the same. So is a \
                   PING that is refused with MISCONF: the server answers, and refuses every write. A refused login, \
                   a failed secure channel, a database that is not there, or something else than Redis at that port \
                   is unknown: that may be this check's own configuration.",
        queries: &[
            ("asks for a sign of life; sent once, or three times when the first answer is slow", "PING"),
            ("while the server loads: how far it is", "INFO"),
        ],
        codes: &[
            ("redis.server.unreachable", "nothing answers at the address, or it closes the connection"),
            ("redis.server.timeout", "it accepts the connection and does not answer in time"),
            (
                "redis.server.loading",
                "it reads its dataset from disk, and refuses every command until it is done",
            ),
            (
                "redis.server.busy",
                "it refuses commands for a time: a script runs, or its primary is out of reach",
            ),
            (
                "redis.server.refuses_writes",
                "it answers, and refuses every write until it can save its data again (MISCONF)",
            ),
            ("redis.server.full", "it takes no more clients"),
            ("redis.server.slow", "it answers, and slowly"),
            ("redis.reachable.gone", "it answered at first, and none of the last probes got an answer"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "one PING; two more when the first answer is slow",
        remedy: "Look at the process and its log on its machine. When slow: SLOWLOG GET 10 and LATENCY DOCTOR name \
                 the commands and the forks that block the one thread which serves all clients.",
    },
    thresholds: &[ThresholdSpec {
        name: "latency",
        meaning: "the time from PING to its answer",
        unit: Unit::Milliseconds,
        direction: Direction::Above,
        warning: Some(100.0),
        critical: Some(1000.0),
        source: "100 ms is the level that Redis' own latency guide starts its examples with \
                 (latency-monitor-threshold 100); 1 s is where common clients give up (redis-rs: 1 s \
                 to connect, 0.5 s to answer). A healthy server on the same network answers in under 1 ms.",
    }],
    requires: &[Requirement::Command("ping")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Reachable;

#[async_trait]
impl RedisProbe for Reachable {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        match pings(cx, redis, limits).await {
            Ok(pings) => Ok(judge_latency(&pings, redis.address(), limits)),
            Err(error) => {
                let loading = match error::code(&error) {
                    Some("LOADING") => redis.info(cx).await.ok().map(|reading| progress(&reading.info)),
                    _ => None,
                };
                judge_error(error, loading)
            }
        }
    }
}

/// What the answers took: one, or three where the first is slow.
async fn pings(cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<Vec<Duration>> {
    let mut took = vec![ping(cx, redis).await?];
    while took.len() < 3 && took.iter().all(|took| limits.get("latency").judge(millis(*took)) != Status::Ok) {
        took.push(ping(cx, redis).await?);
    }
    Ok(took)
}

async fn ping(cx: &Context, redis: &RedisTarget) -> Result<Duration> {
    let (reply, took) = redis.query(cx, "run PING", &redis::cmd("PING")).await?;
    match reply {
        Value::SimpleString(word) if word == "PONG" => Ok(took),
        other => Err(Error::new(ErrorKind::Configuration, "run PING")
            .on(redis.address())
            .because(format!("the answer is not PONG but {other:?}; this is no Redis"))),
    }
}

fn judge_latency(pings: &[Duration], address: &str, limits: &Limits) -> ProbeReport {
    let best = pings.iter().min().copied().unwrap_or_default();
    let worst = pings.iter().max().copied().unwrap_or_default();
    let latency =
        Measurement::new("latency", millis(best), Unit::Milliseconds).judged_by(limits.get("latency"));
    let slowest = Unit::Milliseconds.format(millis(worst));
    let (severity, message) = match Severity::of(latency.status()) {
        Some(severity) => (Some(severity), format!("PING takes {} at the best of three", latency.format())),
        // A pause is over when the next answer is fast: something to know, not to wake up for.
        None => (
            (pings.len() > 1).then_some(Severity::Info),
            format!("one PING took {slowest}, the next did not"),
        ),
    };
    let finding = severity.map(|severity| {
        Finding::new(severity, "redis.server.slow", message)
            .object(address)
            .remedy(Remedy::statement("SLOWLOG GET 10").because(
            "One thread serves all clients: look for the command, the fork or the swapping that blocks it.",
        ))
    });
    let paused = if pings.len() > 1 { format!(" (at the worst {slowest})") } else { String::new() };
    ProbeReport::new(format!("{address} answers in {}{paused}", latency.format()))
        .measure(latency)
        .findings(finding)
}

/// What clients meet too is critical; what may be our own configuration stays an error, hence unknown.
fn judge_error(error: Error, loading: Option<String>) -> Result<ProbeReport> {
    let code = match (error.kind(), error::code(&error)) {
        (ErrorKind::Unreachable, _) => "redis.server.unreachable",
        (ErrorKind::Timeout, _) => "redis.server.timeout",
        (ErrorKind::Exhausted, _) => "redis.server.full",
        (ErrorKind::Busy, Some("LOADING")) => "redis.server.loading",
        (ErrorKind::Busy, _) => "redis.server.busy",
        (_, Some("MISCONF")) => "redis.server.refuses_writes",
        _ => return Err(error),
    };
    let message = match (loading, code) {
        (Some(progress), _) => format!("{}: {progress}", error.report()),
        // It does answer, and says why it would not write: the first sentence is the reason.
        (None, "redis.server.refuses_writes") => format!(
            "{} answers, and refuses writes: {}",
            error.target().unwrap_or("it"),
            error.message().and_then(|words| words.split(". ").next()).unwrap_or("MISCONF")
        ),
        (None, _) => error.report(),
    };
    let mut finding = Finding::critical(code, message.clone()).remedy(Remedy::advice(match error.fix() {
        Some(fix) => format!("{} Or: {fix}", advice(code)),
        None => advice(code).to_owned(),
    }));
    if let Some(address) = error.target() {
        finding = finding.object(address);
    }
    Ok(ProbeReport::new(message).finding(finding))
}

fn advice(code: &str) -> &'static str {
    match code {
        "redis.server.timeout" => {
            "The process is there and does not answer: it may be stopped, swapping, or in one long command."
        }
        "redis.server.full" => "CLIENT LIST shows who holds the connections; maxclients is the limit.",
        "redis.server.loading" => "Wait: it answers again when it is done. Restarting it starts over.",
        "redis.server.refuses_writes" => {
            "Its log names the cause: mostly a full disk, missing rights in dir, or no memory for the fork. Once it is \
             gone, BGSAVE ends this."
        }
        "redis.server.busy" => {
            "SCRIPT KILL ends a script that has written nothing; on a replica, look at its primary."
        }
        _ => {
            "Is the process running, and does it listen there (bind, port, firewall)? One that closes the connection \
              at once may expect TLS (rediss://)."
        }
    }
}

/// How far a loading server is, by whatever its `INFO` tells.
fn progress(info: &Info) -> String {
    let mut parts = Vec::new();
    if let Some(percent) = info.number::<f64>("loading_loaded_perc") {
        parts.push(format!("{} loaded", Unit::Percent.format(percent)));
    }
    if let Some(bytes) = info.number::<f64>("loading_total_bytes") {
        parts.push(format!("of {}", Unit::Bytes.format(bytes)));
    }
    if let Some(seconds) = info.number::<f64>("loading_eta_seconds") {
        parts.push(format!("about {} left", Unit::Seconds.format(seconds)));
    }
    if parts.is_empty() { "its INFO tells no progress".to_owned() } else { parts.join(", ") }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Peer, of_redis};

    fn reply(line: &str) -> Error {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let redis::Value::ServerError(error) = value else { panic!("an error reply: {value:?}") };
        of_redis(error.into(), "run PING", Peer { address: "cache:6379", user: "ops" })
    }

    #[test]
    fn latency_is_judged() {
        let limits = Limits::defaults(&SPEC);
        for (millis, status) in [(1, Status::Ok), (100, Status::Warning), (1000, Status::Critical)] {
            let pings = [Duration::from_millis(millis)];
            assert_eq!(judge_latency(&pings, "c:1", &limits).status(), status, "{millis} ms");
        }
    }

    #[test]
    fn a_pause_that_is_over_is_told_and_does_not_alarm() {
        let pings = [Duration::from_millis(1800), Duration::from_millis(1)];
        let report = judge_latency(&pings, "c:1", &Limits::defaults(&SPEC));
        assert_eq!((report.status(), report.found()[0].severity), (Status::Ok, Severity::Info));
    }

    #[test]
    fn what_clients_meet_too_is_critical() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let refused = of_redis(refused.into(), "connect", Peer { address: "cache:6379", user: "ops" });
        for (error, code) in [
            (refused, "redis.server.unreachable"),
            (Error::new(ErrorKind::Timeout, "run PING"), "redis.server.timeout"),
            (reply("LOADING Redis is loading the dataset in memory"), "redis.server.loading"),
            (reply("MASTERDOWN Link with MASTER is down"), "redis.server.busy"),
            (reply("ERR max number of clients reached"), "redis.server.full"),
            (reply("MISCONF Errors writing to the AOF file: No space left"), "redis.server.refuses_writes"),
        ] {
            let report = judge_error(error, None).unwrap();
            assert_eq!((report.status(), report.found()[0].code.as_ref()), (Status::Critical, code));
        }
    }

    #[test]
    fn what_may_be_our_own_mistake_is_unknown() {
        for line in [
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'ping' command",
            "ERR unknown command 'PING', with args beginning with: ",
        ] {
            assert!(judge_error(reply(line), None).is_err(), "{line}");
        }
        assert!(judge_error(Error::new(ErrorKind::Tls, "connect"), None).is_err());
    }

    #[test]
    fn a_loading_server_tells_how_far_it_is() {
        let info = Info::parse(
            "loading:1\nloading_total_bytes:104857600\nloading_loaded_perc:41.25\nloading_eta_seconds:12\n",
        );
        assert_eq!(progress(&info), "41.2 % loaded, of 100.0 MiB, about 12 s left");
        assert_eq!(progress(&Info::parse("loading:1")), "its INFO tells no progress");
    }
}
