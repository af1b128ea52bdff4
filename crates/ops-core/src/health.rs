//! The health report: one document, rendered in five ways.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::result::ProbeResult;
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
