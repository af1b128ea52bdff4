//! What one probe reports.

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::measurement::Measurement;
use crate::redact::redact;
use crate::status::Status;

/// Something that a probe could not see, and what would let it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Unseen {
    /// What stayed hidden, and why.
    pub what: String,
    /// The exact statement or command that would show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What a probe saw. Its status follows from its parts, so the two cannot disagree: the worst of its findings
/// and judged measurements, `Unknown` where something stayed unseen and nothing worse was found.
///
/// ```
/// use ops_core::{Finding, ProbeReport, Status};
/// let report = ProbeReport::new("2 of 3 files readable").unseen("c.log is closed to us", None);
/// assert_eq!(report.status(), Status::Unknown);
/// let report = report.finding(Finding::critical("app.panic", "a.log holds a panic"));
/// assert_eq!(report.status(), Status::Critical);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    pub(crate) summary: String,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) unseen: Vec<Unseen>,
    pub(crate) applicable: bool,
}

impl ProbeReport {
    /// A report whose summary is one line; ok until something is added that says otherwise.
    pub fn new(summary: impl Into<String>) -> Self {
        Self {
            summary: redact(&summary.into()),
            measurements: Vec::new(),
            findings: Vec::new(),
            unseen: Vec::new(),
            applicable: true,
        }
    }

    /// The question does not arise, and `reason` says what proves it (see [`Status::NotApplicable`]).
    pub fn not_applicable(reason: impl Into<String>) -> Self {
        Self { applicable: false, ..Self::new(reason) }
    }

    /// Could not tell: `what` stayed hidden, and `fix` would show it.
    pub fn unknown(what: impl Into<String>, fix: Option<String>) -> Self {
        let what = what.into();
        Self::new(what.clone()).unseen(what, fix)
    }

    /// Replaces the summary, for a probe that knows its sentence only at the end.
    #[must_use]
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = redact(&summary.into());
        self
    }

    /// Adds a measurement.
    #[must_use]
    pub fn measure(mut self, measurement: Measurement) -> Self {
        self.measurements.push(measurement);
        self
    }

    /// Adds a finding.
    #[must_use]
    pub fn finding(mut self, finding: Finding) -> Self {
        self.findings.push(finding);
        self
    }

    /// Adds several findings.
    #[must_use]
    pub fn findings(mut self, findings: impl IntoIterator<Item = Finding>) -> Self {
        self.findings.extend(findings);
        self
    }

    /// Says what stayed hidden, and what would show it.
    #[must_use]
    pub fn unseen(mut self, what: impl Into<String>, fix: Option<String>) -> Self {
        self.unseen.push(Unseen { what: redact(&what.into()), fix });
        self
    }

    /// Says otherwise what cannot be run where this was seen: `instead` has the words for a remedy's statement or the
    /// fix of what stayed hidden, or `None` to leave it as it is. A statement becomes advice.
    #[must_use]
    pub fn saying_instead(mut self, instead: impl Fn(&str) -> Option<String>) -> Self {
        for remedy in self.findings.iter_mut().filter_map(|finding| finding.remedy.as_mut()) {
            if let Some(words) = remedy.statement.as_deref().and_then(&instead) {
                remedy.statement = None;
                remedy.advice = Some(match remedy.advice.take() {
                    Some(advice) => format!("{words}; {advice}"),
                    None => words,
                });
            }
        }
        for unseen in &mut self.unseen {
            if let Some(words) = unseen.fix.as_deref().and_then(&instead) {
                unseen.fix = Some(words);
            }
        }
        self
    }

    /// The findings so far.
    pub fn found(&self) -> &[Finding] {
        &self.findings
    }

    /// The measurements so far.
    pub fn measured(&self) -> &[Measurement] {
        &self.measurements
    }

    /// The status that follows from the parts.
    pub fn status(&self) -> Status {
        if !self.applicable {
            return Status::NotApplicable;
        }
        let findings = self.findings.iter().map(|finding| finding.severity.status());
        let measurements = self.measurements.iter().map(Measurement::status);
        let unseen = self.unseen.iter().map(|_| Status::Unknown);
        Status::worst(findings.chain(measurements).chain(unseen))
    }
}
