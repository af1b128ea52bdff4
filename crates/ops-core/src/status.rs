//! How well something is.

use serde::{Deserialize, Serialize};

/// The status of a probe, or of a whole report.
///
/// Overall, critical beats warning beats unknown beats ok; `NotApplicable` never counts.
///
/// ```
/// use ops_core::Status;
/// assert_eq!(Status::worst([Status::Ok, Status::Unknown]), Status::Unknown);
/// assert_eq!(Status::worst([Status::Unknown, Status::Warning]), Status::Warning);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Seen, and within its thresholds.
    Ok,
    /// Seen, and needs attention soon.
    Warning,
    /// Seen, and needs attention now.
    Critical,
    /// Could not be told. Never treated as ok.
    Unknown,
    /// The server itself proves that the question does not arise (its version, role or mode), or the probe
    /// needs configuration that was not given. Never used for a missing grant or extension.
    NotApplicable,
}

impl Status {
    /// The worst of several; `Ok` for none at all.
    pub fn worst(statuses: impl IntoIterator<Item = Status>) -> Status {
        statuses
            .into_iter()
            .filter(|status| *status != Status::NotApplicable)
            .max_by_key(|status| status.rank())
            .unwrap_or(Status::Ok)
    }

    /// The word used in JSON and in the human report.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Critical => "critical",
            Status::Unknown => "unknown",
            Status::NotApplicable => "not_applicable",
        }
    }

    /// Sorts from the best to the worst.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Status::NotApplicable => 0,
            Status::Ok => 1,
            Status::Unknown => 2,
            Status::Warning => 3,
            Status::Critical => 4,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
