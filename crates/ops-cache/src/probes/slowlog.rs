//! `redis.slowlog`: the commands that made all others wait.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Requirement, Result, Severity, ThresholdSpec, Unit,
};
use redis::Value;
use serde_json::json;

use super::reply::{items, number, text};
use super::settings::{Hidden, Settings};
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

/// Entries are told apart by their own time: their ids cannot be compared over a SLOWLOG RESET.
const WINDOW_SECONDS: f64 = 600.0;
/// As many as the server keeps by default (slowlog-max-len).
const ENTRIES: usize = 128;
/// What decides whether the server keeps a log, and from how many microseconds.
const SLOWER: &str = "slowlog-log-slower-than";
const LENGTH: &str = "slowlog-max-len";
/// Its default.
const USUAL_MICROS: f64 = 10_000.0;
/// Commands named in one report.
const NAMED: usize = 5;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.slowlog",
    group: "performance",
    explanation: Explanation {
        why: "One thread serves all clients: a KEYS, a big SORT or a script of 300 ms makes every other client wait \
              as long.",
        measures: "The entries of the slow log from the last 10 minutes, by the server's clock, at most 128 of them: \
                   the slowest of each command, and how many. Commands are shown without their arguments, which may \
                   hold data and secrets. A log that shows nothing proves something only where the server keeps one, \
                   of what is as fast as the threshold: that is asked for, and what hides it leaves this unknown. An \
                   entry below the threshold proves it as well.",
        queries: &[
            ("id, time, duration and command of each entry", "SLOWLOG GET 128"),
            ("server_time_usec: the server's clock", "INFO"),
            (
                "slowlog-log-slower-than, slowlog-max-len: whether the log is kept, while no recent entry proves it; \
                 shared with redis.latency. The right to it (+config|get) also shows the passwords that stand in the \
                 server's configuration",
                "CONFIG GET [sl][al][to][we]*",
            ),
        ],
        codes: &[
            ("redis.slowlog.slow", "a command took long within the last 10 minutes"),
            ("redis.slowlog.entries", "the slow log grew by more entries than configured"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "one SLOWLOG GET, of at most 128 entries whose arguments the server cuts; at most one CONFIG GET a run",
        remedy: "SLOWLOG GET shows the arguments and the client. SCAN in place of KEYS, smaller batches, bounded \
                 ranges.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "slowest",
            meaning: "the slowest command of the last 10 minutes",
            unit: Unit::Milliseconds,
            direction: Direction::Above,
            warning: Some(100.0),
            critical: Some(1000.0),
            source: "as redis.reachable: 100 ms is the level of Redis' own latency guide, and clients give up at 0.5 \
                     to 1 s",
        },
        ThresholdSpec {
            name: "entries",
            meaning: "entries of the last 10 minutes, of at most 128 that are read",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: what is logged depends on slowlog-log-slower-than, 10 ms by default",
        },
    ],
    requires: &[Requirement::Command("info"), Requirement::Command("slowlog|get")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct SlowLog;

#[async_trait]
impl RedisProbe for SlowLog {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        let get = redis::cmd("SLOWLOG").arg("GET").arg(ENTRIES).clone();
        let (reply, _) = redis.query(cx, "run SLOWLOG GET", &get).await?;
        let entries = parse(&reply).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "read SLOWLOG GET")
                .on(redis.address())
                .because("the reply is not of the form that Redis documents")
        })?;
        let reading = redis.info(cx).await?;
        let now = reading.info.number::<f64>("server_time_usec").map(|usec| usec / 1e6);
        let now = now.unwrap_or(reading.at.timestamp() as f64);
        // The INFO that is shared may be some seconds older than the newest entry.
        let recent: Vec<_> = entries.into_iter().filter(|entry| now - entry.at < WINDOW_SECONDS).collect();
        let report = judge(&recent, limits);
        let bound = bound(limits);
        if recent.iter().any(|entry| bound.is_none_or(|bound| entry.millis < bound)) {
            // It shows what is faster than what is looked for.
            return Ok(report);
        }
        Ok(match blind(&*redis.settings(cx).await?, bound) {
            Some(Hidden { why, fix }) if recent.is_empty() => report.summary(why.clone()).unseen(why, fix),
            Some(Hidden { why, fix }) => report.unseen(why, fix),
            None => report,
        })
    }
}

/// The milliseconds from which a command is told of, where there are any.
fn bound(limits: &Limits) -> Option<f64> {
    let slowest = limits.get("slowest");
    slowest.warning.or(slowest.critical)
}

/// Why the log would be without a command that took as long as `bound`, in milliseconds; or why that cannot be told.
fn blind(settings: &Settings, bound: Option<f64>) -> Option<Hidden> {
    let told = settings.number(SLOWER).and_then(|slower| Ok((slower, settings.number(LENGTH)?)));
    let (slower, length) = match told {
        Ok(told) => told,
        Err(Hidden { why, fix }) => {
            return Some(Hidden { why: format!("whether the server keeps a slow log: {why}"), fix });
        }
    };
    let bound = bound.map(|millis| millis * 1000.0);
    let (why, name, value) = if length == 0 {
        ("the server keeps no slow log: slowlog-max-len is 0".to_owned(), LENGTH, 128.0)
    } else {
        let why = if slower < 0 {
            format!("the server keeps no slow log: {SLOWER} is {slower}")
        } else if bound.is_some_and(|bound| slower as f64 > bound) {
            let shortest = Unit::Milliseconds.format(slower as f64 / 1000.0);
            format!("the slow log leaves out what takes less than {shortest}: {SLOWER} is {slower}")
        } else {
            return None;
        };
        (why, SLOWER, bound.unwrap_or(USUAL_MICROS).min(USUAL_MICROS))
    };
    Some(Hidden { why, fix: Some(format!("CONFIG SET {name} {value:.0}")) })
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    at: f64,
    millis: f64,
    command: String,
}

/// `[id, time, microseconds, [command, argument, …], client, name]`.
fn parse(reply: &Value) -> Option<Vec<Entry>> {
    items(reply)?
        .iter()
        .map(|entry| {
            let fields = items(entry)?;
            let words = items(fields.get(3)?)?;
            let command = words.first().and_then(text).unwrap_or_default();
            Some(Entry {
                at: number(fields.get(1)?)?,
                millis: number(fields.get(2)?)? / 1000.0,
                command: command.to_ascii_uppercase().chars().take(40).collect(),
            })
        })
        .collect()
}

fn judge(entries: &[Entry], limits: &Limits) -> ProbeReport {
    let count = entries.len() as f64;
    let millis = entries.iter().map(|entry| entry.millis).fold(0.0, f64::max);
    let slowest = Measurement::new("slowest", millis, Unit::Milliseconds).judged_by(limits.get("slowest"));
    let grown = Measurement::new("entries", count, Unit::Count).judged_by(limits.get("entries"));
    let read = match entries.len() {
        0 => "no slow command in the last 10 min".to_owned(),
        1 => format!("1 slow command in the last 10 min, of {}", slowest.format()),
        ENTRIES.. => {
            format!("at least {ENTRIES} slow commands in the last 10 min, the slowest {}", slowest.format())
        }
        some => format!("{some} slow commands in the last 10 min, the slowest {}", slowest.format()),
    };
    let many = Severity::of(grown.status()).map(|severity| {
        Finding::new(severity, "redis.slowlog.entries", read.clone())
            .object("slowlog")
            .remedy(Remedy::statement("SLOWLOG GET 10").because("shows arguments and clients"))
    });
    let mut by_command: BTreeMap<&str, (f64, u32)> = BTreeMap::new();
    for entry in entries {
        let (longest, times) = by_command.entry(&entry.command).or_default();
        *longest = longest.max(entry.millis);
        *times += 1;
    }
    let mut slow: Vec<_> = by_command.into_iter().collect();
    slow.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let found = slow.into_iter().take(NAMED).filter_map(|(command, (longest, times))| {
        let severity = Severity::of(limits.get("slowest").judge(longest))?;
        let took = Unit::Milliseconds.format(longest);
        let message = match times {
            1 => format!("{command} took {took}, and every other client waited"),
            _ => {
                format!("{command} was slow {times} times, and took up to {took}; every other client waited")
            }
        };
        Some(
            Finding::new(severity, "redis.slowlog.slow", message)
                .object(command)
                .evidence(json!({"command": command, "times": times, "longest_ms": longest}))
                .remedy(Remedy::statement("SLOWLOG GET 10").because("shows arguments and clients")),
        )
    });
    let found: Vec<_> = found.collect();
    ProbeReport::new(read).measure(slowest).measure(grown).findings(many).findings(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::{Bounds, Status};

    fn entry(command: &str, millis: f64) -> Entry {
        Entry { at: 0.0, millis, command: command.to_owned() }
    }

    #[test]
    fn commands_are_named_without_their_arguments() {
        let reply = "*1\r\n*6\r\n:14\r\n:1790000000\r\n:150000\r\n*3\r\n$3\r\nset\r\n$1\r\nk\r\n$7\r\nhunter2\r\n\
                     $14\r\n127.0.0.1:5000\r\n$0\r\n\r\n";
        let entries = parse(&redis::parse_redis_value(reply.as_bytes()).unwrap()).unwrap();
        assert_eq!(entries, [Entry { at: 1_790_000_000.0, millis: 150.0, command: "SET".into() }]);
        assert!(!format!("{:?}", judge(&entries, &Limits::defaults(&SPEC))).contains("hunter2"));
    }

    fn settings(slower: &str, length: &str) -> Settings {
        let bulk = |word: &str| Value::BulkString(word.into());
        let told = Value::Array([SLOWER, slower, LENGTH, length].map(bulk).to_vec());
        Settings::of(Ok((told, std::time::Duration::ZERO))).unwrap()
    }

    #[test]
    fn a_log_that_would_not_show_it_is_no_proof() {
        for (slower, length, bound, fix) in [
            ("10000", "128", Some(100.0), None),
            ("100000", "128", Some(100.0), None),
            ("100001", "128", Some(100.0), Some("CONFIG SET slowlog-log-slower-than 10000")),
            ("10000", "128", Some(5.0), Some("CONFIG SET slowlog-log-slower-than 5000")),
            ("5000000", "128", None, None),
            ("-1", "128", None, Some("CONFIG SET slowlog-log-slower-than 10000")),
            ("10000", "0", Some(100.0), Some("CONFIG SET slowlog-max-len 128")),
        ] {
            let hidden = blind(&settings(slower, length), bound);
            assert_eq!(
                hidden.map(|hidden| hidden.fix.unwrap()).as_deref(),
                fix,
                "{slower} {length} {bound:?}"
            );
        }
    }

    #[test]
    fn the_slowest_of_each_command_is_judged() {
        let limits = Limits::defaults(&SPEC);
        assert_eq!(judge(&[], &limits).status(), Status::Ok);
        assert_eq!(judge(&[entry("GET", 12.0)], &limits).status(), Status::Ok);
        let report = judge(&[entry("KEYS", 1200.0), entry("SORT", 150.0), entry("KEYS", 20.0)], &limits);
        let found: Vec<_> =
            report.found().iter().map(|found| (found.object.as_deref().unwrap(), found.severity)).collect();
        assert_eq!(found, [("KEYS", Severity::Critical), ("SORT", Severity::Warning)]);
        let limits = limits.with("entries", Bounds { warning: Some(2.0), critical: None }).unwrap();
        let report = judge(&[entry("GET", 12.0), entry("GET", 11.0)], &limits);
        assert_eq!(report.found()[0].code, "redis.slowlog.entries");
    }
}
