//! `redis.latency`: what has made every client wait.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Requirement, Result, Severity, ThresholdSpec, Unit,
};
use redis::Value;
use serde_json::json;

use super::reply::{items, number, text};
use super::settings::Hidden;
use crate::info::Info;
use crate::probe::RedisProbe;
use crate::target::{InfoReading, RedisTarget};

/// From how many milliseconds the monitor keeps an event; 0, the default, turns it off.
const THRESHOLD: &str = "latency-monitor-threshold";

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
                   a write to the append-only file, a cycle of expiry or eviction; the longest of the hour counts, \
                   not the last. Where it is off, or keeps longer ones only, there are none: that is told, and only \
                   forks are judged. What hides whether it is on leaves this unknown.",
        queries: &[
            ("latest_fork_usec, used_memory, server_time_usec", "INFO"),
            ("the last event of each kind: when, how long, and the longest", "LATENCY LATEST"),
            (
                "of a kind whose last event is below the threshold and whose longest is above it: when that was",
                "LATENCY HISTORY kind",
            ),
            (
                "latency-monitor-threshold: whether the monitor is on, while no recent event proves it; shared with \
                 redis.slowlog. The right to it (+config|get) also shows the passwords that stand in the server's \
                 configuration",
                "CONFIG GET [sl][al][to][we]*",
            ),
        ],
        codes: &[
            ("redis.latency.fork", "a snapshot or a rewrite stopped the server while it forked"),
            (
                "redis.latency.unwatched",
                "the latency monitor is off, or keeps longer events only: nobody would know of one (info)",
            ),
            ("redis.latency.event", "something stopped the server for long within the last hour"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "the INFO that all probes share, and one LATENCY LATEST, whose reply has a line for each kind of \
               event; one LATENCY HISTORY, of at most 160 entries, for each kind that needs it; at most one CONFIG \
               GET a run",
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
    requires: &[
        Requirement::Command("info"),
        Requirement::Command("latency|latest"),
        Requirement::Command("latency|history"),
    ],
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
        let reply = match asked {
            Ok((reply, _)) => reply,
            // What the forks tell still counts.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
                let fix = error.fix().map(str::to_owned);
                return Ok(fork.unseen(format!("latency events: {}", error.report()), fix));
            }
            Err(error) => return Err(error),
        };
        let events = parse(&reply).ok_or_else(|| undocumented(redis, "read LATENCY LATEST"))?;
        let now = server_time(&reading);
        let recent: Vec<_> =
            events.into_iter().filter(|event| age(now, event.latest.at) < RECENT_SECONDS).collect();
        let mut report = fork;
        for event in &recent {
            report = judge_event(report, event, worst(cx, redis, event, now, limits).await?, now, limits);
        }
        let bound = bound(limits);
        if recent.iter().any(|event| bound.is_none_or(|bound| event.latest.millis < bound)) {
            // It shows what is shorter than what is looked for.
            return Ok(report);
        }
        Ok(match redis.settings(cx).await?.number(THRESHOLD) {
            Ok(from) => report.findings(unwatched(from, bound)),
            Err(Hidden { why, fix }) => {
                report.unseen(format!("whether the latency monitor is on: {why}"), fix)
            }
        })
    }
}

fn undocumented(redis: &RedisTarget, operation: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation)
        .on(redis.address())
        .because("the reply is not of the form that Redis documents")
}

/// The milliseconds from which an event is told of, where there are any.
fn bound(limits: &Limits) -> Option<f64> {
    let event = limits.get("event");
    event.warning.or(event.critical)
}

/// What a monitor that keeps events of `from` milliseconds and more leaves out; 0 turns it off.
fn unwatched(from: i64, bound: Option<f64>) -> Option<Finding> {
    let message = match from {
        0 => format!("{THRESHOLD} is 0: the latency monitor is off, and only forks are judged"),
        _ if bound.is_some_and(|bound| from as f64 > bound) => {
            let shortest = Unit::Milliseconds.format(from as f64);
            format!("{THRESHOLD} is {from}: what takes less than {shortest} is not kept, and not judged")
        }
        _ => return None,
    };
    let wanted = bound.unwrap_or(100.0).max(1.0);
    let finding = Finding::info("redis.latency.unwatched", message).object(THRESHOLD).remedy(
        Remedy::statement(format!("CONFIG SET {THRESHOLD} {wanted:.0}"))
            .because("milliseconds from which an event is kept; it costs next to nothing"),
    );
    Some(finding)
}

/// The worst of an event's kind within the last hour. The last one hides a longer one before it: then the history, of
/// 160 entries, is asked for. The inner error is what hides that.
async fn worst(
    cx: &Context,
    redis: &RedisTarget,
    event: &Event,
    now: DateTime<Utc>,
    limits: &Limits,
) -> Result<Result<Moment, Hidden>> {
    let severity = |millis| Severity::of(limits.get("event").judge(millis));
    if severity(event.longest_ms) <= severity(event.latest.millis) {
        return Ok(Ok(event.latest));
    }
    let ask = redis::cmd("LATENCY").arg("HISTORY").arg(&event.kind).clone();
    let reply = match redis.query(cx, "run LATENCY HISTORY", &ask).await {
        Ok((reply, _)) => reply,
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            let why = format!("longer events of the kind {}: {}", event.kind, error.report());
            return Ok(Err(Hidden { why, fix: error.fix().map(str::to_owned) }));
        }
        Err(error) => return Err(error),
    };
    let history = history(&reply).ok_or_else(|| undocumented(redis, "read LATENCY HISTORY"))?;
    let recent = history.into_iter().filter(|moment| age(now, moment.at) < RECENT_SECONDS);
    Ok(Ok(recent.chain([event.latest]).max_by(|a, b| a.millis.total_cmp(&b.millis)).unwrap_or(event.latest)))
}

/// When something stopped the server, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    at: f64,
    millis: f64,
}

/// One line of `LATENCY LATEST`. Later versions append fields.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    kind: String,
    latest: Moment,
    longest_ms: f64,
}

fn parse(reply: &Value) -> Option<Vec<Event>> {
    items(reply)?
        .iter()
        .map(|line| {
            let fields = items(line)?;
            Some(Event {
                kind: text(fields.first()?)?,
                latest: Moment { at: number(fields.get(1)?)?, millis: number(fields.get(2)?)? },
                longest_ms: number(fields.get(3)?)?,
            })
        })
        .collect()
}

/// `LATENCY HISTORY kind`: pairs of time and milliseconds.
fn history(reply: &Value) -> Option<Vec<Moment>> {
    items(reply)?
        .iter()
        .map(|pair| {
            let pair = items(pair)?;
            Some(Moment { at: number(pair.first()?)?, millis: number(pair.get(1)?)? })
        })
        .collect()
}

fn age(now: DateTime<Utc>, at: f64) -> f64 {
    now.timestamp() as f64 - at
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

fn judge_event(
    report: ProbeReport,
    event: &Event,
    worst: Result<Moment, Hidden>,
    now: DateTime<Utc>,
    limits: &Limits,
) -> ProbeReport {
    let (report, worst) = match worst {
        Ok(worst) => (report, worst),
        Err(Hidden { why, fix }) => (report.unseen(why, fix), event.latest),
    };
    let took = Measurement::new("event", worst.millis, Unit::Milliseconds)
        .judged_by(limits.get("event"))
        .label("kind", &event.kind);
    let finding = Severity::of(took.status()).map(|severity| {
        let message = format!(
            "{} took {} {} ago, and every client waited; the longest took {}",
            event.kind,
            took.format(),
            Unit::Seconds.format(age(now, worst.at).max(0.0)),
            Unit::Milliseconds.format(event.longest_ms)
        );
        Finding::new(severity, "redis.latency.event", message)
            .object(&event.kind)
            .evidence(json!({"at": worst.at, "took_ms": worst.millis, "longest_ms": event.longest_ms}))
            .remedy(Remedy::statement("LATENCY DOCTOR").because("explains each kind of event"))
    });
    report.measure(took).findings(finding)
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

    fn reply(lines: &str) -> Value {
        redis::parse_redis_value(lines.as_bytes()).unwrap()
    }

    #[test]
    fn events_are_read_with_what_later_versions_append() {
        let lines = "*1\r\n*5\r\n$7\r\ncommand\r\n:1790000000\r\n:150\r\n:900\r\n:1\r\n";
        let latest = Moment { at: 1_790_000_000.0, millis: 150.0 };
        let expected = Event { kind: "command".into(), latest, longest_ms: 900.0 };
        assert_eq!(parse(&reply(lines)), Some(vec![expected]));
        assert_eq!(parse(&reply("*0\r\n")), Some(vec![]));
        assert_eq!(parse(&reply("+OK\r\n")), None);
        assert_eq!(history(&reply("*1\r\n*2\r\n:1790000000\r\n:150\r\n")), Some(vec![latest]));
        assert_eq!(history(&reply("*1\r\n:7\r\n")), None);
    }

    #[test]
    fn the_worst_of_the_hour_is_judged() {
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let latest = Moment { at: 1_789_999_990.0, millis: 20.0 };
        let event = Event { kind: "command".into(), latest, longest_ms: 900.0 };
        let hidden = Hidden { why: "LATENCY HISTORY is closed".into(), fix: None };
        for (worst, status) in [
            (Ok(Moment { at: latest.at - 60.0, millis: 150.0 }), Status::Warning),
            (Ok(Moment { at: latest.at - 60.0, millis: 99.0 }), Status::Ok),
            (Ok(latest), Status::Ok),
            (Err(hidden), Status::Unknown),
        ] {
            let report = judge_event(ProbeReport::new(""), &event, worst, now, &Limits::defaults(&SPEC));
            assert_eq!(report.status(), status, "{report:?}");
            assert!(report.found().iter().all(|finding| finding.object.as_deref() == Some("command")));
        }
    }

    #[test]
    fn a_monitor_that_keeps_too_little_is_told_and_does_not_alarm() {
        for (from, bound, told) in [
            (0, Some(100.0), true),
            (100, Some(100.0), false),
            (101, Some(100.0), true),
            (5000, None, false),
            (0, None, true),
        ] {
            let finding = unwatched(from, bound);
            assert_eq!(finding.map(|finding| finding.severity), told.then_some(Severity::Info), "{from}");
        }
    }
}
