//! `job.heartbeat`: when a job last succeeded.

use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Threshold,
    Unit,
};
use serde_json::json;

use crate::apart::apart;
use crate::config::JobConfig;
use crate::host::{HostProbe, HostTarget};

/// A time is short; what is longer is none.
const LONGEST: u64 = 256;
/// Clocks of two machines differ by less than this, where they are synchronised.
const AHEAD_SECONDS: f64 = 60.0;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "job.heartbeat",
    group: "services",
    explanation: Explanation {
        why: "A job that no longer runs raises no error: the backup that is not made is noticed on the day that it is \
              needed.",
        measures: "For each job of heartbeats, the time since its last success, which it writes itself into a file \
                   named after it. Later than every is a warning, by more than grace critical; so is a job whose \
                   file is not there. What is no time, or lies in the future, is unknown.",
        queries: &[("one line: a time as RFC 3339 has it, or seconds since 1970", "DIRECTORY/JOB")],
        codes: &[
            ("job.heartbeat.late", "a job has not succeeded for longer than it should"),
            ("job.heartbeat.missing", "a job has never said that it succeeded"),
        ],
        versions: "any system",
        cost: "one small file for each job",
        remedy: "End the job with: date -Is > DIRECTORY/JOB, after everything else succeeded (set -e). Its own log \
                 tells what it met.",
    },
    thresholds: &[],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Heartbeat;

#[async_trait]
impl HostProbe for Heartbeat {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, _limits: &Limits) -> Result<ProbeReport> {
        let Some(config) = host.config().heartbeats.clone().filter(|config| !config.jobs.is_empty()) else {
            return Ok(ProbeReport::not_applicable("no heartbeats are configured for this host"));
        };
        let (directory, names) = (config.directory.clone(), config.jobs.keys().cloned().collect::<Vec<_>>());
        let beats = apart(cx, "read the heartbeats", move || {
            // Without the directory every job would seem to be missing.
            std::fs::read_dir(&directory).map_err(|error| {
                ops_core::Error::new(ops_core::ErrorKind::Configuration, "read the heartbeats")
                    .on(directory.display().to_string())
                    .because(error.to_string())
            })?;
            Ok(names.iter().map(|name| read(&directory.join(name))).collect::<Vec<_>>())
        })
        .await?;
        let mut report = ProbeReport::new(match config.jobs.len() {
            1 => "1 job".to_owned(),
            several => format!("{several} jobs"),
        });
        for ((name, job), beat) in config.jobs.iter().zip(beats) {
            report = judge(report, name, job, &beat, cx.now());
        }
        Ok(report)
    }
}

/// What a job left.
#[derive(Clone, Debug, PartialEq)]
enum Beat {
    At(DateTime<Utc>),
    Missing,
    /// Nothing that tells a time, and why.
    Illegible(String),
}

fn read(path: &Path) -> Beat {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    match read {
        Ok(_) => parse(text.trim()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Beat::Missing,
        Err(error) => Beat::Illegible(error.to_string()),
    }
}

fn parse(text: &str) -> Beat {
    let time = match text.parse::<i64>() {
        Ok(seconds) => DateTime::from_timestamp(seconds, 0),
        Err(_) => DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()),
    };
    time.map_or_else(|| Beat::Illegible("it holds no time as RFC 3339 has it".to_owned()), Beat::At)
}

fn judge(report: ProbeReport, name: &str, job: &JobConfig, beat: &Beat, now: DateTime<Utc>) -> ProbeReport {
    let remedy = || {
        Remedy::advice(
            "read the job's own log; its last line should be: date -Is > DIRECTORY/JOB, after set -e",
        )
    };
    let every = job.every;
    let at = match beat {
        Beat::Illegible(why) => return report.unseen(format!("when {name} last succeeded: {why}"), None),
        Beat::Missing => {
            let message = format!("{name} should succeed every {every}, and has never said that it did");
            return report
                .finding(Finding::critical("job.heartbeat.missing", message).object(name).remedy(remedy()));
        }
        Beat::At(at) => *at,
    };
    let age = (now - at).num_milliseconds() as f64 / 1000.0;
    if age < -AHEAD_SECONDS {
        return report.unseen(format!("when {name} last succeeded: {at} has not come yet"), None);
    }
    let critical =
        job.grace.map_or(every.0.as_secs_f64(), |grace| every.0.as_secs_f64() + grace.0.as_secs_f64());
    let since = Measurement::new("since_success", age.max(0.0), Unit::Seconds)
        .judged_by(Threshold::above(every.0.as_secs_f64(), critical))
        .label("job", name);
    let finding = ops_core::Severity::of(since.status()).map(|severity| {
        let message = format!("{name} last succeeded {} ago, and should every {every}", since.format());
        Finding::new(severity, "job.heartbeat.late", message)
            .object(name)
            .evidence(json!({"job": name, "last_success": at}))
            .remedy(remedy())
    });
    report.measure(since).findings(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use ops_core::Status;
    use ops_core::quantity::DurationText;

    #[test]
    fn a_beat_is_judged_by_its_age() {
        let now = DateTime::parse_from_rfc3339("2026-01-05T08:00:00Z").unwrap().to_utc();
        let job = JobConfig {
            every: DurationText(Duration::from_secs(86_400)),
            grace: Some(DurationText(Duration::from_secs(3600))),
        };
        for (text, status) in [
            ("2026-01-05T02:00:00+00:00", Status::Ok),
            ("2026-01-05T10:00:00+03:00", Status::Ok),
            ("1767589200", Status::Ok),
            ("2026-01-04T07:30:00Z", Status::Warning),
            ("2026-01-04T06:59:59Z", Status::Critical),
            ("2026-01-05T08:00:30Z", Status::Ok),
            ("2026-01-06T08:00:00Z", Status::Unknown),
            ("yesterday", Status::Unknown),
            ("", Status::Unknown),
        ] {
            let report = judge(ProbeReport::new(""), "backup", &job, &parse(text), now);
            assert_eq!(report.status(), status, "{text}");
        }
        let report = judge(ProbeReport::new(""), "backup", &job, &Beat::Missing, now);
        assert_eq!(
            (report.status(), report.found()[0].code.as_ref()),
            (Status::Critical, "job.heartbeat.missing")
        );
        let strict = JobConfig { grace: None, ..job };
        let late = parse("2026-01-04T07:59:59Z");
        assert_eq!(judge(ProbeReport::new(""), "backup", &strict, &late, now).status(), Status::Critical);
    }

    #[test]
    fn only_what_is_not_there_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("backup")), Beat::Missing);
        assert!(matches!(read(dir.path()), Beat::Illegible(_)));
        std::fs::write(dir.path().join("backup"), "1767589200\n").unwrap();
        assert!(matches!(read(&dir.path().join("backup")), Beat::At(_)));
    }
}
