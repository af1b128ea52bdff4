//! `redis.persistence`: whether what was written would survive a restart.

use async_trait::async_trait;
use ops_core::words::count;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

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
                   of the last snapshot while there are changes since and no append-only file. Whether snapshots are \
                   wanted at all stands in the server's configuration, so the age has no default threshold.",
        queries: &[(
            "INFO",
            "rdb_last_bgsave_status, rdb_last_save_time, rdb_changes_since_last_save, aof_enabled, \
             aof_last_write_status, aof_last_bgrewrite_status",
        )],
        codes: &[
            ("redis.persistence.save_failed", "the last snapshot failed: by default writes are refused now"),
            (
                "redis.persistence.aof_failed",
                "the last write to the append-only file failed: writes are refused",
            ),
            (
                "redis.persistence.rewrite_failed",
                "the append-only file could not be rewritten, and keeps growing",
            ),
            ("redis.persistence.unsaved", "changes have waited for a snapshot longer than configured"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the INFO that all probes share",
        remedy: "The server's log names the cause: mostly a full disk, missing rights in dir, or no memory for the \
                 fork (vm.overcommit_memory). BGSAVE tries again.",
    },
    thresholds: &[ThresholdSpec {
        name: "unsaved",
        meaning: "the age of the last snapshot, while there are changes since and no append-only file",
        unit: Unit::Seconds,
        direction: Direction::Above,
        warning: None,
        critical: None,
        source: "none by default: a pure cache need not be saved, and says so only in CONFIG GET save",
    }],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Persistence;

#[async_trait]
impl RedisProbe for Persistence {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        judge(&*redis.info(cx).await?, limits)
    }
}

fn judge(reading: &InfoReading, limits: &Limits) -> Result<ProbeReport> {
    let info = &reading.info;
    let saved = info.need::<String>("rdb_last_bgsave_status")?;
    let append_only = info.need::<u8>("aof_enabled")? == 1;
    let mut report = ProbeReport::new(match (saved.as_str(), append_only) {
        ("ok", true) => "the append-only file is written; the last snapshot went well".to_owned(),
        ("ok", false) => "no append-only file; the last snapshot, if any was due, went well".to_owned(),
        (other, _) => format!("the last snapshot ended in {other}"),
    });
    let failed = |field: &str| info.text(field).is_some_and(|status| status != "ok");
    if failed("rdb_last_bgsave_status") {
        report = report.finding(broken(
            Severity::Critical,
            "redis.persistence.save_failed",
            "the last snapshot failed; unless stop-writes-on-bgsave-error is off, writes are refused (MISCONF)",
            info,
        ));
    }
    if append_only && failed("aof_last_write_status") {
        let message = "the last write to the append-only file failed; writes are refused until it succeeds";
        report = report.finding(broken(Severity::Critical, "redis.persistence.aof_failed", message, info));
    }
    if append_only && failed("aof_last_bgrewrite_status") {
        let message = "the append-only file could not be rewritten, and keeps growing";
        report = report.finding(broken(Severity::Warning, "redis.persistence.rewrite_failed", message, info));
    }
    if append_only {
        return Ok(report);
    }
    Ok(unsaved(report, reading, limits))
}

fn broken(severity: Severity, code: &'static str, message: &str, info: &Info) -> Finding {
    let fields = ["rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"];
    let seen: serde_json::Map<_, _> =
        fields.iter().filter_map(|field| Some(((*field).to_owned(), json!(info.text(field)?)))).collect();
    Finding::new(severity, code, message)
        .object("persistence")
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
            .object("persistence")
            .remedy(Remedy::statement("BGSAVE"))
    });
    report.measure(age).findings(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{REDIS_7, with, without};
    use ops_core::{Bounds, Status};

    fn reading(reply: &str) -> InfoReading {
        let at = chrono::DateTime::from_timestamp(1_795_374_903, 0).unwrap();
        InfoReading { info: Info::parse(reply), at, read: tokio::time::Instant::now() }
    }

    #[test]
    fn each_failure_has_its_code() {
        let aof = with(REDIS_7, "aof_enabled", "1");
        for (reply, status, code) in [
            (REDIS_7.to_owned(), Status::Ok, None),
            (
                with(REDIS_7, "rdb_last_bgsave_status", "err"),
                Status::Critical,
                Some("redis.persistence.save_failed"),
            ),
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
            // A leftover from a time when it was on.
            (with(REDIS_7, "aof_last_write_status", "err"), Status::Ok, None),
            (without(REDIS_7, "rdb_last_save_time"), Status::Unknown, None),
        ] {
            let report = judge(&reading(&reply), &Limits::defaults(&SPEC)).unwrap();
            let found = report.found().first().map(|finding| finding.code.as_ref());
            assert_eq!((report.status(), found), (status, code));
        }
    }

    #[test]
    fn the_age_alarms_only_where_a_bound_is_given_and_changes_wait() {
        let limits = Limits::defaults(&SPEC)
            .with("unsaved", Bounds { warning: Some(3600.0), critical: None })
            .unwrap();
        let old = with(REDIS_7, "rdb_last_save_time", "1795370000");
        for (changes, begins) in [("1", "1 change has waited "), ("20", "20 changes have waited ")] {
            let report = judge(&reading(&with(&old, "rdb_changes_since_last_save", changes)), &limits);
            let message = report.unwrap().found()[0].message.clone();
            assert!(message.starts_with(begins), "{message}");
        }
        assert_eq!(judge(&reading(&old), &limits).unwrap().status(), Status::Warning);
        assert_eq!(judge(&reading(&old), &Limits::defaults(&SPEC)).unwrap().status(), Status::Ok);
        let unchanged = with(&old, "rdb_changes_since_last_save", "0");
        assert_eq!(judge(&reading(&unchanged), &limits).unwrap().status(), Status::Ok);
    }
}
