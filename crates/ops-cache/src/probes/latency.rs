//! `redis.latency`: what has made every client wait.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Requirement, Result, Severity, ThresholdSpec, Unit,
};
use redis::Value;
use serde_json::json;

use super::reply::{field, items, number, text};
use crate::info::Info;
use crate::probe::RedisProbe;
use crate::target::{InfoReading, RedisTarget};

/// The monitor keeps the last event of each kind for ever: an older one tells of another day.
const RECENT_SECONDS: f64 = 3600.0;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.latency",
    group: "performance",
    explanation: Explanation {
        why: "One thread serves all clients: while it copies its page table for a snapshot, writes to a slow disk or \
              expires a million keys, every one of them waits. Clients give up after half a second.",
        measures: "The time that the last fork took (latest_fork_usec). Where the latency monitor is on \
                   (latency-monitor-threshold, off by default), the events of the last hour by kind: a slow command, \
                   a write to the append-only file, a cycle of expiry or eviction. Where it is off there are none: \
                   that is told, and only forks are judged.",
        queries: &[
            ("INFO", "latest_fork_usec, used_memory, server_time_usec"),
            ("LATENCY LATEST", "the last event of each kind: when, how long, and the longest"),
            ("CONFIG GET latency-monitor-threshold", "while there is no event: whether the monitor is on"),
        ],
        codes: &[
            ("redis.latency.fork", "a snapshot or a rewrite stopped the server while it forked"),
            ("redis.latency.unwatched", "the latency monitor is off: nobody would know of an event (info)"),
            ("redis.latency.event", "something stopped the server for long within the last hour"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "the INFO that all probes share, and one LATENCY LATEST, whose reply has a line for each kind of event",
        remedy: "LATENCY DOCTOR explains each kind. Forks: turn transparent huge pages off, keep instances small, \
                 take snapshots on a replica. Commands: redis.slowlog names them.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "fork",
            meaning: "the time that the last fork took",
            unit: Unit::Milliseconds,
            direction: Direction::Above,
            warning: Some(500.0),
            critical: None,
            source: "redis-rs gives a command 0.5 s by default: clients fail from there. Never critical: what was \
                     slow is over",
        },
        ThresholdSpec {
            name: "event",
            meaning: "the time that an event within the last hour took",
            unit: Unit::Milliseconds,
            direction: Direction::Above,
            warning: Some(100.0),
            critical: None,
            source: "Redis' latency guide sets latency-monitor-threshold to 100 ms in its examples. Never critical: \
                     what was slow is over",
        },
    ],
    requires: &[Requirement::Command("info"), Requirement::Command("latency|latest")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Latency;

#[async_trait]
impl RedisProbe for Latency {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        let reading = redis.info(cx).await?;
        let fork = judge_fork(&reading.info, limits)?;
        let asked = redis.query(cx, "run LATENCY LATEST", redis::cmd("LATENCY").arg("LATEST")).await;
        match asked {
            Ok((reply, _)) => {
                let events = parse(&reply).ok_or_else(|| {
                    Error::new(ErrorKind::Unsupported, "read LATENCY LATEST")
                        .on(redis.address())
                        .because("the reply is not of the form that Redis documents")
                })?;
                let report = judge_events(fork, &events, server_time(&reading), limits);
                Ok(match events.is_empty() && is_unwatched(cx, redis).await? {
                    true => report.finding(unwatched(limits)),
                    false => report,
                })
            }
            // What the forks tell still counts.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
                let fix = error.fix().map(str::to_owned);
                Ok(fork.unseen(format!("latency events: {}", error.report()), fix))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the server says that its monitor is off. Where the right to ask is missing, nobody says so.
async fn is_unwatched(cx: &Context, redis: &RedisTarget) -> Result<bool> {
    let get = redis::cmd("CONFIG").arg("GET").arg("latency-monitor-threshold").clone();
    match redis.query(cx, "run CONFIG GET", &get).await {
        Ok((reply, _)) => Ok(field(&reply, "latency-monitor-threshold").is_some_and(|value| value == "0")),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn unwatched(limits: &Limits) -> Finding {
    let from = limits.get("event").warning.unwrap_or(100.0);
    Finding::info("redis.latency.unwatched", "the latency monitor is off: only forks are judged")
        .object("latency-monitor-threshold")
        .remedy(
            Remedy::statement(format!("CONFIG SET latency-monitor-threshold {from:.0}"))
                .because("milliseconds from which an event is kept; it costs next to nothing"),
        )
}

/// One line of `LATENCY LATEST`. Later versions append fields.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    kind: String,
    at: f64,
    latest_ms: f64,
    longest_ms: f64,
}

fn parse(reply: &Value) -> Option<Vec<Event>> {
    items(reply)?
        .iter()
        .map(|line| {
            let fields = items(line)?;
            Some(Event {
                kind: text(fields.first()?)?,
                at: number(fields.get(1)?)?,
                latest_ms: number(fields.get(2)?)?,
                longest_ms: number(fields.get(3)?)?,
            })
        })
        .collect()
}

/// By the server's own clock where it tells: events are stamped with it.
fn server_time(reading: &InfoReading) -> DateTime<Utc> {
    reading.info.number("server_time_usec").and_then(DateTime::from_timestamp_micros).unwrap_or(reading.at)
}

fn judge_fork(info: &Info, limits: &Limits) -> Result<ProbeReport> {
    let took = info.need::<f64>("latest_fork_usec")? / 1000.0;
    let fork = Measurement::new("fork", took, Unit::Milliseconds).judged_by(limits.get("fork"));
    let finding = Severity::of(fork.status()).map(|severity| {
        let memory = info.number::<f64>("used_memory").map(|bytes| Unit::Bytes.format(bytes));
        let of = memory.as_ref().map(|memory| format!(" of {memory}")).unwrap_or_default();
        let message = format!("the last fork{of} took {}, and every client waited", fork.format());
        Finding::new(severity, "redis.latency.fork", message)
            .object("fork")
            .evidence(
                json!({"latest_fork_usec": took * 1000.0, "used_memory": info.number::<u64>("used_memory")}),
            )
            .remedy(Remedy::statement("cat /sys/kernel/mm/transparent_hugepage/enabled").because(
                "with [always] every fork copies far more: set it to madvise, or take snapshots on a replica",
            ))
    });
    let summary = match took {
        0.0 => "it has not forked".to_owned(),
        _ => format!("the last fork took {}", fork.format()),
    };
    Ok(ProbeReport::new(summary).measure(fork).findings(finding))
}

fn judge_events(report: ProbeReport, events: &[Event], now: DateTime<Utc>, limits: &Limits) -> ProbeReport {
    let age = |event: &Event| now.timestamp() as f64 - event.at;
    events.iter().filter(|event| age(event) < RECENT_SECONDS).fold(report, |report, event| {
        let took = Measurement::new("event", event.latest_ms, Unit::Milliseconds)
            .judged_by(limits.get("event"))
            .label("kind", &event.kind);
        let finding = Severity::of(took.status()).map(|severity| {
            let message = format!(
                "{} took {} {} ago, and every client waited; the longest took {}",
                event.kind,
                took.format(),
                Unit::Seconds.format(age(event).max(0.0)),
                Unit::Milliseconds.format(event.longest_ms)
            );
            Finding::new(severity, "redis.latency.event", message)
                .object(&event.kind)
                .evidence(
                    json!({"at": event.at, "latest_ms": event.latest_ms, "longest_ms": event.longest_ms}),
                )
                .remedy(Remedy::statement("LATENCY DOCTOR").because("explains each kind of event"))
        });
        report.measure(took).findings(finding)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{REDIS_7, with, without};
    use ops_core::Status;

    #[test]
    fn a_long_fork_is_a_warning() {
        let limits = Limits::defaults(&SPEC);
        for (usec, status) in [("0", Status::Ok), ("499000", Status::Ok), ("500000", Status::Warning)] {
            let info = Info::parse(&with(REDIS_7, "latest_fork_usec", usec));
            assert_eq!(judge_fork(&info, &limits).unwrap().status(), status, "{usec}");
        }
        assert!(judge_fork(&Info::parse(&without(REDIS_7, "latest_fork_usec")), &limits).is_err());
    }

    #[test]
    fn events_count_while_they_are_recent() {
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let reply = |lines: &str| redis::parse_redis_value(lines.as_bytes()).unwrap();
        for (age, millis, status) in
            [(60, 150, Status::Warning), (60, 99, Status::Ok), (7200, 900, Status::Ok)]
        {
            let at = now.timestamp() - age;
            // Later versions append fields: those that are read stay where they are.
            let events =
                parse(&reply(&format!("*1\r\n*5\r\n$7\r\ncommand\r\n:{at}\r\n:{millis}\r\n:900\r\n:1\r\n")))
                    .unwrap();
            let report = judge_events(ProbeReport::new(""), &events, now, &Limits::defaults(&SPEC));
            assert_eq!(report.status(), status, "{age} s ago, {millis} ms");
            assert!(report.found().iter().all(|finding| finding.object.as_deref() == Some("command")));
        }
        assert_eq!(parse(&reply("*0\r\n")), Some(vec![]));
        assert_eq!(parse(&reply("+OK\r\n")), None);
    }
}
