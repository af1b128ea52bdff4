//! What one probe on one target came to.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::finding::Finding;
use crate::measurement::Measurement;
use crate::report::{ProbeReport, Unseen};
use crate::status::Status;

/// Findings of one probe that are kept; the rest is counted. As many tell what is wrong, and a document has an end.
const FINDINGS: usize = 100;

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
    /// What was found, at most 100 of it, the worst first where there is more.
    pub findings: Vec<Finding>,
    /// How many findings there are beyond those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub findings_left_out: usize,
    /// What stayed hidden.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
    /// Milliseconds from start to end, waiting for its turn included.
    pub took_ms: f64,
    /// Why there is no report.
    #[serde(skip)]
    pub(crate) failed: Option<ErrorKind>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl ProbeResult {
    /// Of a probe that has not looked.
    pub(crate) fn empty(probe: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            probe: probe.into(),
            target: target.into(),
            database: None,
            group: String::new(),
            status: Status::Unknown,
            summary: String::new(),
            measurements: Vec::new(),
            findings: Vec::new(),
            findings_left_out: 0,
            unseen: Vec::new(),
            took_ms: 0.0,
            failed: None,
        }
    }

    pub(crate) fn fill(&mut self, outcome: Result<ProbeReport, Error>) {
        match outcome {
            Ok(report) => {
                self.status = report.status();
                self.summary = report.summary;
                self.measurements = report.measurements;
                self.unseen = report.unseen;
                self.findings = report.findings;
                if self.findings.len() > FINDINGS {
                    self.findings_left_out = self.findings.len() - FINDINGS;
                    self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
                    self.findings.truncate(FINDINGS);
                }
            }
            Err(error) => {
                let what = error.report();
                self.failed = Some(error.kind());
                self.status = Status::Unknown;
                self.unseen = vec![Unseen { what: what.clone(), fix: error.fix().map(str::to_owned) }];
                self.summary = what;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_findings_are_told_and_the_worst_are_among_them() {
        let mut report = ProbeReport::new("many");
        for n in 0..149 {
            report = report.finding(Finding::warning("t.t.w", "w").object(n.to_string()));
        }
        report = report.finding(Finding::critical("t.t.c", "c"));
        let mut result = ProbeResult::empty("t.t", "main");
        result.fill(Ok(report));
        assert_eq!((result.findings.len(), result.findings_left_out), (100, 50));
        assert_eq!((&*result.findings[0].code, result.status), ("t.t.c", Status::Critical));
        assert_eq!(result.findings[1].object.as_deref(), Some("0"));
    }
}
