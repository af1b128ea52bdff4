//! `redis.persistence`: whether what was written would survive a restart.

use std::time::Duration;

use async_trait::async_trait;
use ops_core::window::{SampleOutcome, Window};
use ops_core::words::count;
use ops_core::{
    Context, Direction, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::settings::Hidden;
use super::windowed;
use crate::error;
use crate::info::Info;
use crate::probe::RedisProbe;
use crate::target::{InfoReading, RedisTarget};

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.persistence",
    group: "persistence",
    explanation: Explanation {
        why: "A server whose snapshot fails refuses writes with MISCONF (stop-writes-on-bgsave-error, on by default); \
              one whose append-only file fails refuses them too. What is not on disk is gone after a restart.",
        measures: "The outcome of the last snapshot, of the last append-only write and of its last rewrite; the age \
                   of the last snapshot while there are changes since and no append-only file. And how often a \
                   write had to wait for the disk's fsync (2 s and more), over the time since the last check, or two \
                   samples 1 s apart; less than ten minutes count as ten. Whether snapshots are \
                   wanted at all stands in the server's configuration, so the age has no default threshold.",
        queries: &[
            (
                "rdb_last_bgsave_status, rdb_last_save_time, rdb_changes_since_last_save, aof_enabled, \
                 aof_last_write_status, aof_last_bgrewrite_status, aof_delayed_fsync",
                "INFO",
            ),
            (
                "after a snapshot that failed: a server that refuses writes for it refuses this, too (MISCONF)",
                "PING",
            ),
        ],
        codes: &[
            (
                "redis.persistence.save_failed",
                "the last snapshot failed: critical where writes are refused for it, else a warning (without save \
                 points, or with stop-writes-on-bgsave-error off, writes go on)",
            ),
            (
                "redis.persistence.aof_failed",
                "the last write to the append-only file failed: writes are refused",
            ),
            (
                "redis.persistence.rewrite_failed",
                "the append-only file could not be rewritten, and keeps growing",
            ),
            (
                "redis.persistence.fsync_delayed",
                "writes wait for the fsync of the append-only file: the disk is too slow or too busy",
            ),
            ("redis.persistence.unsaved", "changes have waited for a snapshot longer than configured"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the INFO that all probes share; with an append-only file, one more INFO where no earlier \
               sample is stored; after a failed snapshot, one PING",
        remedy: "The server's log names the cause: mostly a full disk, missing rights in dir, or no memory for the \
                 fork (vm.overcommit_memory). BGSAVE tries again.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "unsaved",
            meaning: "the age of the last snapshot, while there are changes since and no append-only file",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: a pure cache need not be saved, and says so only in CONFIG GET save",
        },
        ThresholdSpec {
            name: "delayed_fsyncs",
            meaning: "writes that waited for the fsync of the append-only file, per hour",
            unit: Unit::PerHour,
            direction: Direction::Above,
            warning: Some(12.0),
            critical: None,
            source: "this project's choice: two in ten minutes. Each has stopped every client for 2 s and more, which \
                     Redis logs as 'Asynchronous AOF fsync is taking too long'",
        },
    ],
    requires: &[Requirement::Command("info"), Requirement::Command("ping")],
};

const SAVED: &str = "rdb_last_bgsave_status";
const WRITTEN: &str = "aof_last_write_status";
const REWRITTEN: &str = "aof_last_bgrewrite_status";
const DELAYED: &str = "aof_delayed_fsync";
/// What findings are about that are not about the snapshot.
const FILE: &str = "append-only file";

/// A shorter window counts as this long.
const SHORTEST: Duration = Duration::from_secs(600);

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Persistence;

#[async_trait]
impl RedisProbe for Persistence {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        let reading = redis.info(cx).await?;
        let writes = match failed(&reading.info, SAVED) {
            true => Some(writes(cx, redis).await?),
            false => None,
        };
        let report = judge(&reading, writes, limits)?;
        if reading.info.number::<u8>("aof_enabled") != Some(1) {
            return Ok(report);
        }
        Ok(match windowed::rise(cx, redis, SPEC.name, &[DELAYED]).await {
            Ok(SampleOutcome::Window(window)) => delayed(report, &window, limits),
            Ok(SampleOutcome::NewBaseline { reason }) => {
                report.unseen(format!("delayed fsyncs: nothing to compare with yet: {reason}"), None)
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                report.unseen(format!("delayed fsyncs: {}", error.report()), None)
            }
            Err(error) => return Err(error),
        })
    }
}

/// Whether a server whose snapshot failed refuses writes for it.
#[derive(Debug)]
enum Writes {
    GoOn,
    Refused,
    Hidden(Hidden),
}

/// By `PING`, which a server refuses as it refuses a write. Whether it should, by its save points and
/// stop-writes-on-bgsave-error, stands in its configuration, and needs not be known.
async fn writes(cx: &Context, redis: &RedisTarget) -> Result<Writes> {
    match redis.query(cx, "run PING", &redis::cmd("PING")).await {
        Ok(_) => Ok(Writes::GoOn),
        Err(error) => match error::code(&error) {
            Some("MISCONF") => Ok(Writes::Refused),
            Some(_) => {
                Ok(Writes::Hidden(Hidden { why: error.report(), fix: error.fix().map(str::to_owned) }))
            }
            None => Err(error),
        },
    }
}

/// Whether the server says of something that it did not go well.
fn failed(info: &Info, field: &str) -> bool {
    info.text(field).is_some_and(|status| status != "ok")
}

fn judge(reading: &InfoReading, writes: Option<Writes>, limits: &Limits) -> Result<ProbeReport> {
    let info = &reading.info;
    let saved = info.need::<String>(SAVED)?;
    let append_only = info.need::<u8>("aof_enabled")? == 1;
    let mut report = ProbeReport::new(match (saved.as_str(), append_only) {
        ("ok", true) if info.text(WRITTEN) == Some("ok") => {
            "the append-only file is written; the last snapshot went well".to_owned()
        }
        ("ok", true) => "an append-only file; the last snapshot, if any was due, went well".to_owned(),
        ("ok", false) => "no append-only file; the last snapshot, if any was due, went well".to_owned(),
        (other, _) => format!("the last snapshot ended in {other}"),
    });
    if let Some(writes) = writes {
        report = judge_snapshot(report, writes, info);
    }
    if !append_only {
        return Ok(unsaved(report, reading, limits));
    }
    if failed(info, WRITTEN) {
        let message = "the last write to the append-only file failed; writes are refused until it succeeds";
        let code = "redis.persistence.aof_failed";
        report = report.finding(broken(Severity::Critical, code, FILE, message, info));
    }
    if failed(info, REWRITTEN) {
        let message = "the append-only file could not be rewritten, and keeps growing";
        let code = "redis.persistence.rewrite_failed";
        report = report.finding(broken(Severity::Warning, code, FILE, message, info));
    }
    let hidden = [(WRITTEN, "written"), (REWRITTEN, "rewritten")].into_iter();
    Ok(hidden.filter(|(field, _)| info.text(field).is_none()).fold(report, |report, (field, what)| {
        report.unseen(format!("whether the append-only file is {what}: INFO has no {field}"), None)
    }))
}

fn judge_snapshot(report: ProbeReport, writes: Writes, info: &Info) -> ProbeReport {
    let (severity, message) = match &writes {
        Writes::Refused => (Severity::Critical, "the last snapshot failed, and writes are refused (MISCONF)"),
        Writes::GoOn => (Severity::Warning, "the last snapshot failed; writes go on"),
        Writes::Hidden(_) => (Severity::Warning, "the last snapshot failed"),
    };
    let report = report.finding(broken(severity, "redis.persistence.save_failed", "snapshot", message, info));
    match writes {
        Writes::Hidden(Hidden { why, fix }) => {
            report.unseen(format!("whether writes are refused after a failed snapshot: {why}"), fix)
        }
        Writes::Refused | Writes::GoOn => report,
    }
}

fn delayed(report: ProbeReport, window: &Window, limits: &Limits) -> ProbeReport {
    let times = window.delta(DELAYED);
    let rate = Measurement::new("delayed_fsyncs", window.per_hour_over(times, SHORTEST), Unit::PerHour)
        .judged_by(limits.get("delayed_fsyncs"));
    let finding = Severity::of(rate.status()).map(|severity| {
        let writes = count(times, "write has", "writes have");
        let message = format!("{writes} waited for the append-only file's fsync in {}", windowed::length(window));
        Finding::new(severity, "redis.persistence.fsync_delayed", message)
            .object(FILE)
            .evidence(json!({"delayed": times, "seconds": window.length.as_secs_f64()}))
            .remedy(Remedy::advice(
                "look at host.io: who else uses that disk? no-appendfsync-on-rewrite keeps rewrites out of the way",
            ))
    });
    report.measure(rate).findings(finding)
}

fn broken(
    severity: Severity,
    code: &'static str,
    object: &'static str,
    message: &str,
    info: &Info,
) -> Finding {
    let seen: serde_json::Map<_, _> = [SAVED, WRITTEN, REWRITTEN]
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), json!(info.text(field)?))))
        .collect();
    Finding::new(severity, code, message)
        .object(object)
        .evidence(seen.into())
        .remedy(Remedy::statement("BGSAVE").because(
        "Once its cause is gone; the server's log names it: a full disk, rights in dir, no memory to fork.",
    ))
}

fn unsaved(report: ProbeReport, reading: &InfoReading, limits: &Limits) -> ProbeReport {
    let changes = reading.info.number::<f64>("rdb_changes_since_last_save");
    let (Some(changes), Some(saved)) = (changes, reading.info.number::<i64>("rdb_last_save_time")) else {
        return report.unseen("the age of the last snapshot: INFO does not tell it", None);
    };
    let report = report.measure(Measurement::new("changes_since_save", changes, Unit::Count));
    if changes == 0.0 {
        return report;
    }
    // The server's clock, where it tells it: this machine's may differ.
    let now = reading
        .info
        .number::<i64>("server_time_usec")
        .map_or(reading.at.timestamp(), |usec| usec / 1_000_000);
    let age = Measurement::new("unsaved", (now - saved).max(0) as f64, Unit::Seconds)
        .judged_by(limits.get("unsaved"));
    let finding = Severity::of(age.status()).map(|severity| {
        let waited = count(changes, "change has waited", "changes have waited");
        let message = format!("{waited} {} for a snapshot", age.format());
        Finding::new(severity, "redis.persistence.unsaved", message)
            .object("snapshot")
            .remedy(Remedy::statement("BGSAVE"))
    });
    report.measure(age).findings(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{REDIS_7, with, without};
    use ops_core::window::Sample;
    use ops_core::{Bounds, Status};

    fn reading(reply: &str) -> InfoReading {
        let at = chrono::DateTime::from_timestamp(1_795_374_903, 0).unwrap();
        InfoReading { info: Info::parse(reply), at, read: tokio::time::Instant::now() }
    }

    #[test]
    fn each_failure_has_its_code() {
        // The two fields of a file that is kept; a server shows them whether it is on or not.
        let aof = with(REDIS_7, "aof_enabled", "1");
        for (reply, status, code) in [
            (REDIS_7.to_owned(), Status::Ok, None),
            (
                with(&aof, "aof_last_write_status", "err"),
                Status::Critical,
                Some("redis.persistence.aof_failed"),
            ),
            (
                with(&aof, "aof_last_bgrewrite_status", "err"),
                Status::Warning,
                Some("redis.persistence.rewrite_failed"),
            ),
            (without(&aof, "aof_last_write_status"), Status::Unknown, None),
            (without(&aof, "aof_last_bgrewrite_status"), Status::Unknown, None),
            // A leftover from a time when it was on.
            (with(REDIS_7, "aof_last_write_status", "err"), Status::Ok, None),
            (without(REDIS_7, "rdb_last_save_time"), Status::Unknown, None),
        ] {
            let report = judge(&reading(&reply), None, &Limits::defaults(&SPEC)).unwrap();
            let found = report.found().first().map(|finding| finding.code.as_ref());
            assert_eq!((report.status(), found), (status, code));
        }
    }

    #[test]
    fn a_failed_snapshot_is_critical_only_where_writes_are_refused() {
        let failed = reading(&with(REDIS_7, "rdb_last_bgsave_status", "err"));
        let hidden = Hidden { why: "PING is closed".into(), fix: Some("ACL SETUSER ops +ping".into()) };
        for (writes, status, words) in [
            (Writes::Refused, Status::Critical, "refused (MISCONF)"),
            (Writes::GoOn, Status::Warning, "writes go on"),
            (Writes::Hidden(hidden), Status::Warning, "snapshot failed"),
        ] {
            let report = judge(&failed, Some(writes), &Limits::defaults(&SPEC)).unwrap();
            assert_eq!(report.status(), status, "{report:?}");
            assert!(report.found()[0].message.ends_with(words), "{report:?}");
        }
    }

    #[test]
    fn a_slow_disk_is_told_from_two_waits_in_ten_minutes() {
        let at = |second, times| Sample {
            at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
            epoch: "run".into(),
            counters: [(DELAYED.to_owned(), times)].into(),
        };
        for (rise, seconds, status) in
            [(0.0, 1, Status::Ok), (1.0, 1, Status::Ok), (2.0, 1, Status::Warning), (11.0, 3600, Status::Ok)]
        {
            let SampleOutcome::Window(window) = Window::between(&at(0, 7.0), &at(seconds, 7.0 + rise)) else {
                panic!("a window")
            };
            let report = delayed(ProbeReport::new(""), &window, &Limits::defaults(&SPEC));
            assert_eq!(report.status(), status, "{rise} in {seconds} s");
        }
    }

    #[test]
    fn the_age_alarms_only_where_a_bound_is_given_and_changes_wait() {
        let limits = Limits::defaults(&SPEC)
            .with("unsaved", Bounds { warning: Some(3600.0), critical: None })
            .unwrap();
        let old = with(REDIS_7, "rdb_last_save_time", "1795370000");
        for (changes, begins) in [("1", "1 change has waited "), ("20", "20 changes have waited ")] {
            let report = judge(&reading(&with(&old, "rdb_changes_since_last_save", changes)), None, &limits);
            let message = report.unwrap().found()[0].message.clone();
            assert!(message.starts_with(begins), "{message}");
        }
        assert_eq!(judge(&reading(&old), None, &limits).unwrap().status(), Status::Warning);
        assert_eq!(judge(&reading(&old), None, &Limits::defaults(&SPEC)).unwrap().status(), Status::Ok);
        let unchanged = with(&old, "rdb_changes_since_last_save", "0");
        assert_eq!(judge(&reading(&unchanged), None, &limits).unwrap().status(), Status::Ok);
    }
}
