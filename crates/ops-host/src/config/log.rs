//! What a configuration says about a log.

use std::path::PathBuf;

use ops_core::quantity::DurationText;
use ops_core::{Bounds, Error};
use serde::{Deserialize, Serialize};

use super::{NOTHING, invalid, is_unit, no_unit};

/// A log to search: a file, or the journal of a unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LogConfig {
    /// The file. Rotated ones beside it (.1, -20260101) are read as far as the window reaches; compressed ones are
    /// not. Where the server begins a new file each day, the name may be a pattern:
    /// /var/lib/pgsql/data/log/postgresql-*.log (`*` is any text, `?` any character). All files of such names that were
    /// written within the window are read, and the newest in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The unit whose entries in systemd's journal are searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// How far back to look; 1h by default. At most 64 MiB are read.
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

impl LogConfig {
    pub(super) fn mistakes(&self) -> Vec<(String, Error)> {
        let mut mistakes = Vec::new();
        if self.file.is_some() == self.journal.is_some() {
            mistakes.push((String::new(), invalid("a log is either a file or a journal")));
        }
        if let Some(unit) = self.journal.as_deref().filter(|unit| !is_unit(unit)) {
            mistakes.push(("/journal".to_owned(), no_unit(unit)));
        }
        #[cfg(feature = "log")]
        if let Some(dir) = self.file.as_ref().and_then(|file| file.parent())
            && crate::probes::log::is_glob(&dir.to_string_lossy())
        {
            let why = "only the name of the file may be a pattern, and not its directory's";
            mistakes.push(("/file".to_owned(), invalid(why)));
        }
        if self.window.is_some_and(|window| window.0.is_zero()) {
            mistakes.push(("/window".to_owned(), invalid(NOTHING)));
        }
        let patterns = self.patterns.iter().enumerate();
        mistakes.extend(patterns.flat_map(|(i, pattern)| {
            let wrong = pattern.mistakes().into_iter();
            wrong.map(move |(at, mistake)| (format!("/patterns/{i}{at}"), mistake))
        }));
        mistakes
    }

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
    fn mistakes(&self) -> Vec<(String, Error)> {
        let mut mistakes = Vec::new();
        #[cfg(feature = "log")]
        if let Err(mistake) = crate::probes::log::compile(self) {
            mistakes.push(("/regex".to_owned(), mistake));
        }
        for (key, bound) in [("warning", self.warning), ("critical", self.critical)] {
            if bound.is_some_and(|lines| lines <= 0.0) {
                let why = "a log always has that many lines: from one on, a pattern is told of";
                mistakes.push((format!("/{key}"), invalid(why).with_fix(format!("{key} = 1"))));
            }
        }
        if let (Some(warning), Some(critical)) = (self.warning, self.critical)
            && warning > critical
        {
            let why = format!(
                "the warning, {warning}, lies beyond critical, {critical}: warning must not be above critical"
            );
            mistakes.push(("/warning".to_owned(), invalid(why)));
        }
        mistakes
    }

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
