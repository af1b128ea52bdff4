//! What a configuration says about a machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ops_core::quantity::DurationText;
use ops_core::{Bounds, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

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

/// A log to search: a file, or the journal of a unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LogConfig {
    /// The file. Rotated ones beside it (.1, -20260101) are read as far as the window reaches; compressed ones are
    /// not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The unit whose entries in systemd's journal are searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// How far back to look; 1h by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<DurationText>,
    /// What to count. Without it, what a PostgreSQL server says when it is damaged: PANIC, XX001, XX002. The last
    /// two are SQLSTATEs: log_line_prefix must have %e, or log_destination be csvlog or jsonlog.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<PatternConfig>,
}

/// What to count in a log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PatternConfig {
    /// What reports call it.
    #[schemars(length(min = 1))]
    pub name: String,
    /// A regular expression, tried on each line. Of its first group, if it has one, the most frequent values are
    /// told; let it hold no user's data.
    pub regex: String,
    /// From this many lines within the window it is a warning; from one where neither bound is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    /// From this many lines within the window it is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
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
    /// The time from one success to the next. Later than this is a warning.
    pub every: DurationText,
    /// How much later than that is critical; nothing by default.
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

    /// Says what makes no sense, before anything is looked at.
    ///
    /// # Errors
    /// `Configuration`.
    pub fn check(&self) -> Result<()> {
        let invalid = |why: String| Err(Error::new(ErrorKind::Configuration, "read the host").because(why));
        for unit in self.services.iter().chain(&self.timers) {
            if !is_unit(unit) {
                return invalid(format!("{unit:?} is no name of a systemd unit"));
            }
        }
        for log in &self.logs {
            if log.file.is_some() == log.journal.is_some() {
                return invalid("a log is either a file or a journal".to_owned());
            }
            if let Some(unit) = log.journal.as_deref().filter(|unit| !is_unit(unit)) {
                return invalid(format!("{unit:?} is no name of a systemd unit"));
            }
            #[cfg(feature = "log")]
            for pattern in &log.patterns {
                crate::probes::log::compile(pattern)?;
            }
        }
        for job in self.heartbeats.iter().flat_map(|heartbeats| heartbeats.jobs.keys()) {
            // It is the name of a file in that directory, and of no other.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if job.is_empty() || job.starts_with('.') || !job.chars().all(plain) {
                return invalid(format!("{job:?} cannot be a job's name: letters, digits, `-`, `_` and `.`"));
            }
        }
        Ok(())
    }
}

/// As systemd.unit(5) has it. A leading dash would be an option of systemctl's.
fn is_unit(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(plain)
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

impl LogConfig {
    /// A file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::default() }
    }

    /// The journal of a unit.
    pub fn journal(unit: impl Into<String>) -> Self {
        Self { journal: Some(unit.into()), ..Self::default() }
    }

    /// Looks back this far.
    #[must_use]
    pub fn with_window(mut self, window: DurationText) -> Self {
        self.window = Some(window);
        self
    }

    /// Counts this.
    #[must_use]
    pub fn with_pattern(mut self, pattern: PatternConfig) -> Self {
        self.patterns.push(pattern);
        self
    }
}

impl PatternConfig {
    /// A pattern that is a warning wherever it is met.
    pub fn new(name: impl Into<String>, regex: impl Into<String>) -> Self {
        Self { name: name.into(), regex: regex.into(), warning: None, critical: None }
    }

    /// Alarms from these many lines.
    #[must_use]
    pub fn with_bounds(mut self, bounds: Bounds) -> Self {
        (self.warning, self.critical) = (bounds.warning, bounds.critical);
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

    #[test]
    fn what_makes_no_sense_is_refused() {
        let host = HostConfig::default;
        for (config, words) in [
            (host().with_service("--force"), "no name of a systemd unit"),
            (host().with_timer("a b.timer"), "no name of a systemd unit"),
            (host().with_log(LogConfig::default()), "either a file or a journal"),
            (host().with_log(LogConfig::journal("-f")), "no name of a systemd unit"),
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
