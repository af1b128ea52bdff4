//! What a configuration says about a machine.

mod log;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ops_core::quantity::DurationText;
use ops_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

pub use self::log::{LogConfig, PatternConfig};

/// The machine that ops runs on. What it says holds for this machine only: of a server reached over SQL alone,
/// disk, memory and processors stay unknown.
///
/// ```
/// let config: ops_host::HostConfig = serde_json::from_str(r#"{"mounts": ["/", "/var/lib/postgresql"]}"#).unwrap();
/// assert!(serde_json::from_str::<ops_host::HostConfig>(r#"{"mount": "/"}"#).is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HostConfig {
    /// The mount points to look at; each must be mounted, and writable. Without it: every mounted device and
    /// network file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<PathBuf>>,
    /// Processes that must run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessConfig>,
    /// systemd units that must be active. postgresql.service of Debian stands for its clusters,
    /// postgresql@VERSION-NAME.service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// systemd timers that must be active, and whose last run must have gone well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<String>,
    /// Logs to search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogConfig>,
    /// Jobs that say when they last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeats: Option<HeartbeatConfig>,
}

/// A process that must run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ProcessConfig {
    /// The name of its program, without its directory: postgres.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Text that its command line must hold, where the name is not enough: /var/lib/postgresql/17/main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
}

/// Where jobs say when they last succeeded, and how often each should.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HeartbeatConfig {
    /// A directory with a file for each job, named after it, that holds the time of its last success: what
    /// `date -Is > DIRECTORY/JOB` writes.
    pub directory: PathBuf,
    /// The jobs, by name.
    pub jobs: BTreeMap<String, JobConfig>,
}

/// How often a job should succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JobConfig {
    /// The time from one success to the next. Later than this is a warning, within the grace.
    pub every: DurationText,
    /// How much later than that is critical. Without it there is no warning: late is critical at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<DurationText>,
}

impl HostConfig {
    /// Names the mount points to look at.
    #[must_use]
    pub fn with_mounts(mut self, mounts: impl IntoIterator<Item = PathBuf>) -> Self {
        self.mounts = Some(mounts.into_iter().collect());
        self
    }

    /// Adds a process that must run.
    #[must_use]
    pub fn with_process(mut self, process: ProcessConfig) -> Self {
        self.processes.push(process);
        self
    }

    /// Adds a unit that must be active.
    #[must_use]
    pub fn with_service(mut self, unit: impl Into<String>) -> Self {
        self.services.push(unit.into());
        self
    }

    /// Adds a timer that must be active.
    #[must_use]
    pub fn with_timer(mut self, unit: impl Into<String>) -> Self {
        self.timers.push(unit.into());
        self
    }

    /// Adds a log to search.
    #[must_use]
    pub fn with_log(mut self, log: LogConfig) -> Self {
        self.logs.push(log);
        self
    }

    /// Says where jobs leave their heartbeats.
    #[must_use]
    pub fn with_heartbeats(mut self, heartbeats: HeartbeatConfig) -> Self {
        self.heartbeats = Some(heartbeats);
        self
    }

    /// The first of its [`mistakes`](Self::mistakes).
    ///
    /// # Errors
    /// `Configuration`.
    pub fn check(&self) -> Result<()> {
        self.mistakes().into_iter().next().map_or(Ok(()), |(_, mistake)| Err(mistake))
    }

    /// What makes no sense, each with the place of what is wrong: a JSON pointer (RFC 6901) into the configuration.
    pub fn mistakes(&self) -> Vec<(String, Error)> {
        let processes = self.processes.iter().enumerate().filter(|(_, process)| process.name.contains('/'));
        let processes = processes.map(|(i, process)| {
            let why = format!("{:?} is a path: a process goes by its program's name alone", process.name);
            let program = process.name.rsplit('/').next().unwrap_or_default().to_owned();
            (format!("/processes/{i}/name"), invalid(why).with_fix(format!("name = {program:?}")))
        });
        let units = [("services", &self.services), ("timers", &self.timers)];
        let units = units.into_iter().flat_map(|(key, units)| {
            let wrong = units.iter().enumerate().filter(|(_, unit)| !is_unit(unit));
            wrong.map(move |(i, unit)| (format!("/{key}/{i}"), no_unit(unit)))
        });
        let logs = self.logs.iter().enumerate().flat_map(|(i, log)| {
            log.mistakes().into_iter().map(move |(at, mistake)| (format!("/logs/{i}{at}"), mistake))
        });
        let heartbeats = self.heartbeats.iter().flat_map(|heartbeats| {
            let wrong = heartbeats.mistakes().into_iter();
            wrong.map(|(at, mistake)| (format!("/heartbeats{at}"), mistake))
        });
        processes.chain(units).chain(logs).chain(heartbeats).collect()
    }
}

const NOTHING: &str = "must be more than nothing";

fn invalid(why: impl AsRef<str>) -> Error {
    Error::new(ErrorKind::Configuration, "read the host").because(why)
}

fn no_unit(name: &str) -> Error {
    invalid(format!("{name:?} is no name of a systemd unit"))
}

/// As systemd.unit(5) has it. A leading dash would be an option of systemctl's.
fn is_unit(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(plain)
}

impl HeartbeatConfig {
    fn mistakes(&self) -> Vec<(String, Error)> {
        let mut mistakes = Vec::new();
        if !self.directory.is_absolute() {
            let why = format!("{} is not absolute: jobs and ops start elsewhere", self.directory.display());
            mistakes.push(("/directory".to_owned(), invalid(why)));
        }
        // It is the name of a file in that directory, and of no other.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let wrong = |job: &&String| job.is_empty() || job.starts_with('.') || !job.chars().all(plain);
        mistakes.extend(self.jobs.keys().filter(wrong).map(|job| {
            let why = format!("{job:?} cannot be a job's name: letters, digits, `-`, `_` and `.`");
            (job_at(job), invalid(why))
        }));
        let restless = self.jobs.iter().filter(|(_, config)| config.every.0.is_zero());
        mistakes.extend(restless.map(|(job, _)| (format!("{}/every", job_at(job)), invalid(NOTHING))));
        mistakes
    }
}

fn job_at(job: &str) -> String {
    format!("/jobs/{}", job.replace('~', "~0").replace('/', "~1"))
}

impl ProcessConfig {
    /// A process by the name of its program.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), command_line: None }
    }

    /// Demands this text in its command line.
    #[must_use]
    pub fn with_command_line(mut self, text: impl Into<String>) -> Self {
        self.command_line = Some(text.into());
        self
    }
}

impl HeartbeatConfig {
    /// The jobs that leave their heartbeats in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), jobs: BTreeMap::new() }
    }

    /// Adds a job that should succeed `every` so often.
    #[must_use]
    pub fn with_job(
        mut self,
        name: impl Into<String>,
        every: DurationText,
        grace: Option<DurationText>,
    ) -> Self {
        self.jobs.insert(name.into(), JobConfig { every, grace });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use ops_core::Bounds;

    fn bounded(warning: Option<f64>, critical: Option<f64>) -> PatternConfig {
        PatternConfig::new("x", "x").with_bounds(Bounds { warning, critical })
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let host = HostConfig::default;
        for (config, words) in [
            (host().with_service("--force"), "no name of a systemd unit"),
            (host().with_timer("a b.timer"), "no name of a systemd unit"),
            (host().with_log(LogConfig::default()), "either a file or a journal"),
            (host().with_log(LogConfig::journal("-f")), "no name of a systemd unit"),
            (host().with_log(LogConfig::file("/var/log/*/x.log")), "and not its directory's"),
            (host().with_log(LogConfig::file("/x").with_window(DurationText(Duration::ZERO))), NOTHING),
            (
                host().with_log(LogConfig::file("/x").with_pattern(bounded(Some(10.0), Some(1.0)))),
                "lies beyond critical",
            ),
            (
                host().with_log(LogConfig::file("/x").with_pattern(bounded(None, Some(0.0)))),
                "always has that many lines",
            ),
            (
                host().with_heartbeats(HeartbeatConfig::new("/x").with_job(
                    "backup",
                    DurationText(Duration::ZERO),
                    None,
                )),
                NOTHING,
            ),
            (
                host().with_heartbeats(HeartbeatConfig::new("/x").with_job(
                    "../etc",
                    DurationText(Duration::from_secs(1)),
                    None,
                )),
                "cannot be a job's name",
            ),
        ] {
            let error = config.check().unwrap_err();
            assert!(error.kind() == ErrorKind::Configuration && error.to_string().contains(words), "{error}");
        }
        let sound = host().with_service("postgresql@17-main.service").with_log(LogConfig::file("/var/log/x"));
        assert!(sound.check().is_ok());
    }
}
