//! What a run did.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::Procedure;
use super::progress::{Progress, Standing};
use crate::context::RunId;
use crate::state::{Entry, RunOutcome};

/// The schema of a run as JSON.
pub(super) const SCHEMA: &str = "ops.run/1";

/// A run, stage by stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunReport {
    /// `ops.run/1`.
    pub schema: String,
    /// The run; none where it was only rehearsed.
    pub run: Option<RunId>,
    /// The procedure.
    pub procedure: String,
    /// What it was done to.
    pub target: String,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
    /// How it ended; none while it has not.
    pub outcome: Option<RunOutcome>,
    /// Its stages in order.
    pub stages: Vec<StageReport>,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// What it does.
    pub what: String,
    /// Where it stands: `pending`, `in flight`, `applied`, `failed`, `skipped`, `undone`, `not undone`, `unknown`,
    /// and in a rehearsal `would apply`.
    pub standing: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What it returned.
    pub value: Option<Value>,
    /// What its last failure said, or what is not known.
    pub error: Option<String>,
}

impl RunReport {
    pub(super) fn of(procedure: &Procedure, run: RunId, entries: &[Entry], progress: &Progress) -> Self {
        let stages = procedure.stages.iter().zip(&progress.tracks);
        let stages = stages.map(|(stage, track)| {
            let (standing, value) = match &track.standing {
                Standing::Pending => ("pending", None),
                Standing::InFlight | Standing::Unseen => ("in flight", None),
                Standing::Applied(value) => ("applied", Some(value.clone())),
                Standing::Failed => ("failed", None),
                Standing::Skipped => ("skipped", None),
                Standing::Undoing(value) => ("in flight", Some(value.clone())),
                Standing::Undone => ("undone", None),
                Standing::Stuck => ("not undone", None),
                Standing::Unknown => ("unknown", None),
            };
            StageReport {
                name: stage.name.clone(),
                what: stage.what.clone(),
                standing: standing.to_owned(),
                attempts: track.attempts,
                value,
                error: track.error.clone(),
            }
        });
        Self {
            schema: SCHEMA.to_owned(),
            run: Some(run),
            procedure: procedure.name.clone(),
            target: procedure.target.clone(),
            started: entries.first().map(|entry| entry.at),
            outcome: progress.ended,
            stages: stages.collect(),
        }
    }
}
