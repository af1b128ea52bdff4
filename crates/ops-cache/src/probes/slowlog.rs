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
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

/// Entries are told apart by their own time: their ids cannot be compared over a SLOWLOG RESET.
const WINDOW_SECONDS: f64 = 600.0;
/// As many as the server keeps by default (slowlog-max-len).
const ENTRIES: usize = 128;
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
                   hold data and secrets. A log without recent entries proves something only where the server keeps one: then \
                   slowlog-log-slower-than is asked for, too.",
        queries: &[
            ("SLOWLOG GET 128", "id, time, duration and command of each entry"),
            ("INFO", "server_time_usec: the server's clock"),
            (
                "CONFIG GET slowlog-*",
                "while the log has no recent entry: whether it is kept. The right to it also shows passwords that stand in the \
                 server's configuration",
            ),
        ],
        codes: &[
            ("redis.slowlog.slow", "a command took long within the last 10 minutes"),
            ("redis.slowlog.entries", "the slow log grew by more entries than configured"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "one SLOWLOG GET, of at most 128 entries whose arguments the server cuts",
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
        let has_entries = !entries.is_empty();
        let reading = redis.info(cx).await?;
        let now = reading.info.number::<f64>("server_time_usec").map(|usec| usec / 1e6);
        let now = now.unwrap_or(reading.at.timestamp() as f64);
        // The INFO that is shared may be some seconds older than the newest entry.
        let recent: Vec<_> = entries.into_iter().filter(|entry| now - entry.at < WINDOW_SECONDS).collect();
        if recent.is_empty()
            && let Some(report) = not_kept(cx, redis, has_entries).await?
        {
            return Ok(report);
        }
        Ok(judge(&recent, limits))
    }
}

/// A log without recent entries says nothing where none is kept. One that has older ones was kept once: where nobody
/// says that it is kept now, that has to do.
async fn not_kept(cx: &Context, redis: &RedisTarget, has_entries: bool) -> Result<Option<ProbeReport>> {
    let get = redis::cmd("CONFIG").arg("GET").arg("slowlog-*").clone();
    let (reply, _) = match redis.query(cx, "run CONFIG GET", &get).await {
        Ok(reply) => reply,
        Err(error) if error.kind() == ErrorKind::PermissionDenied && has_entries => return Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let what = "the slow log is empty, and whether the server keeps one is hidden";
            return Ok(Some(ProbeReport::unknown(what, error.fix().map(str::to_owned))));
        }
        // Managed services have no CONFIG, and keep the log by default.
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
        Err(error) => return Err(error),
    };
    let setting = |name: &str| super::reply::field(&reply, name).and_then(|value| value.parse::<i64>().ok());
    let off = [("slowlog-log-slower-than", -1, 10_000), ("slowlog-max-len", 0, 128)]
        .into_iter()
        .find(|(name, off, _)| setting(name) == Some(*off));
    Ok(off.map(|(name, value, usual)| {
        let what = format!("the server keeps no slow log: {name} is {value}");
        ProbeReport::unknown(what, Some(format!("CONFIG SET {name} {usual}")))
    }))
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
