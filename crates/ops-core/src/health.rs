//! The health report: one document, rendered in five ways.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::finding::Finding;
use crate::measurement::Measurement;
use crate::report::{ProbeReport, Unseen};
use crate::score::{self, PointsLost};
use crate::status::Status;

/// The name of the document's schema. Additive changes keep the number.
pub const SCHEMA: &str = "ops.health/1";

/// The health of a service: every probe's result, the score of what was seen, and how much was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HealthReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// The service's name.
    pub service: String,
    /// When the run began.
    pub at: DateTime<Utc>,
    /// Critical over warning over unknown over ok; unknown where no probe applied.
    pub status: Status,
    /// 0 to 100, from what was seen; null where nothing was.
    pub score: Option<u8>,
    /// The share of probes that could tell, 0 to 1.
    pub coverage: f64,
    /// What the score lost, by group, most first.
    pub points_lost: Vec<PointsLost>,
    /// One result a probe, in the order they were added.
    pub probes: Vec<ProbeResult>,
    /// What the check itself cost.
    pub cost: Cost,
}

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

/// What a check cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Cost {
    /// Round trips to servers.
    pub round_trips: u64,
    /// Milliseconds spent waiting for their answers, added up.
    pub server_ms: f64,
    /// Milliseconds from start to end.
    pub wall_ms: f64,
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

impl HealthReport {
    pub(crate) fn new(service: String, at: DateTime<Utc>, probes: Vec<ProbeResult>, cost: Cost) -> Self {
        let score = score::score(&probes);
        // Where nothing was judged, nothing is known to be well.
        let judged = probes.iter().any(|probe| probe.status != Status::NotApplicable);
        let worst = Status::worst(probes.iter().map(|probe| probe.status));
        Self {
            schema: SCHEMA.to_owned(),
            service,
            at,
            status: if judged { worst } else { Status::Unknown },
            score: score.points,
            coverage: score.coverage,
            points_lost: score.lost,
            probes,
            cost,
        }
    }

    /// How many probes have `status`.
    pub fn count(&self, status: Status) -> usize {
        self.probes.iter().filter(|probe| probe.status == status).count()
    }
}
