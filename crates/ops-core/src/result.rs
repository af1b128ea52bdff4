//! What one probe on one target came to.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::finding::Finding;
use crate::measurement::Measurement;
use crate::report::{ProbeReport, Unseen};
use crate::status::Status;

/// The result of one probe on one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbeResult {
    /// The probe.
    pub probe: String,
    /// The target, as the configuration names it.
    pub target: String,
    /// The database, for probes that look into one.
    pub database: Option<String>,
    /// The family that it is scored with.
    pub group: String,
    /// Its status.
    pub status: Status,
    /// One line.
    pub summary: String,
    /// What was measured.
    pub measurements: Vec<Measurement>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// What stayed hidden.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
    /// Milliseconds from start to end, waiting for its turn included.
    pub took_ms: f64,
}

impl ProbeResult {
    pub(crate) fn fill(&mut self, outcome: Result<ProbeReport, Error>) {
        match outcome {
            Ok(report) => {
                self.status = report.status();
                self.summary = report.summary;
                self.measurements = report.measurements;
                self.findings = report.findings;
                self.unseen = report.unseen;
            }
            Err(error) => {
                let what = error.report();
                self.status = Status::Unknown;
                self.unseen = vec![Unseen { what: what.clone(), fix: error.fix().map(str::to_owned) }];
                self.summary = what;
            }
        }
    }
}
