//! How far a run is: its journal, folded; and what comes next. Nothing here does anything.

use serde_json::Value;

use super::definition::{OnFailure, Procedure, StageResult, When};
use crate::state::{Act, Event, RunOutcome};
use crate::step::{Effect, Verification};

/// Where a stage stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// Nothing was done yet, or what was tried did nothing and may be tried again.
    Pending,
    /// It was about to be applied, and the journal does not say how that went.
    InFlight,
    /// Applying it failed, and what it left is not looked at yet.
    Unseen,
    /// It is applied, and returned this.
    Applied(Value),
    /// It failed, and did nothing.
    Failed,
    /// It was not due.
    Skipped,
    /// It was about to be undone, and the journal does not say how that went. Undoing may be repeated.
    Undoing(Value),
    /// It is undone.
    Undone,
    /// Undoing it failed.
    Stuck,
    /// It can't be told what it did.
    Unknown,
}

/// A stage's standing and how it came to it.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) standing: Standing,
    /// How often it was tried.
    pub(super) attempts: u32,
    /// Whether its last failure allows another attempt.
    safe: bool,
    /// What its last failure said.
    pub(super) error: Option<String>,
}

/// What the engine does next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    Apply(usize),
    Verify(usize),
    Skip(usize, String),
    Undo(usize, Value),
    End(RunOutcome),
}

#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) tracks: Vec<Track>,
    pub(super) ended: Option<RunOutcome>,
}

impl Progress {
    pub(super) fn new(procedure: &Procedure) -> Self {
        let track = Track { standing: Standing::Pending, attempts: 0, safe: false, error: None };
        Self { tracks: vec![track; procedure.stages.len()], ended: None }
    }

    /// Takes in what was written down. What names a stage that the procedure does not have is passed over: a
    /// procedure that has changed is refused before.
    pub(super) fn fold(&mut self, procedure: &Procedure, event: &Event) {
        if let Event::Ended { outcome } = event {
            self.ended = Some(*outcome);
        }
        let (Event::Skipped { step, .. }
        | Event::Intent { step, .. }
        | Event::Done { step, .. }
        | Event::Failed { step, .. }
        | Event::Verified { step, .. }) = event
        else {
            return;
        };
        let Some(index) = procedure.index(step) else { return };
        let (stage, track) = (&procedure.stages[index], &mut self.tracks[index]);
        match event {
            Event::Skipped { .. } => track.standing = Standing::Skipped,
            Event::Intent { act: Act::Apply, .. } => {
                track.attempts += 1;
                track.safe = true;
                track.standing = Standing::InFlight;
            }
            Event::Intent { act: Act::Undo, .. } => track.undoing(),
            Event::Done { act: Act::Apply, value, .. } => track.standing = Standing::Applied(value.clone()),
            Event::Done { act: Act::Undo, .. } => track.standing = Standing::Undone,
            Event::Failed { act: Act::Apply, error, safe, .. } => {
                track.error = Some(error.clone());
                track.safe = *safe && track.attempts <= stage.retries;
                let did_nothing = stage.effect() == Effect::ReadOnly;
                track.standing = if did_nothing { track.after_nothing() } else { Standing::Unseen };
            }
            Event::Failed { act: Act::Undo, error, .. } => {
                track.error = Some(error.clone());
                track.standing = Standing::Stuck;
            }
            Event::Verified { verification, .. } => {
                track.standing = match verification {
                    Verification::Applied(value) => Standing::Applied(value.clone()),
                    Verification::NotApplied => track.after_nothing(),
                    Verification::Unknown { why } => {
                        track.error = Some(why.clone());
                        Standing::Unknown
                    }
                };
            }
            Event::Started { .. } | Event::Resumed { .. } | Event::Ended { .. } => {}
        }
    }

    /// What comes next. Trouble comes before progress: what nobody can tell ends the run, and so does an undoing
    /// that failed.
    pub(super) fn next(&self, procedure: &Procedure) -> Next {
        if let Some(outcome) = self.ended {
            return Next::End(outcome);
        }
        let stands = |standing: &Standing| self.tracks.iter().any(|track| track.standing == *standing);
        if stands(&Standing::Unknown) {
            return Next::End(RunOutcome::Unknown);
        }
        if stands(&Standing::Stuck) {
            return Next::End(RunOutcome::RollbackFailed);
        }
        for (index, track) in self.tracks.iter().enumerate() {
            match track.standing {
                Standing::InFlight if procedure.stages[index].effect() == Effect::ReadOnly => {
                    return Next::Apply(index);
                }
                Standing::InFlight | Standing::Unseen => return Next::Verify(index),
                _ => {}
            }
        }
        if self.failed_with(procedure, OnFailure::RollBack) {
            return self.unwind(procedure);
        }
        if self.failed_with(procedure, OnFailure::Stop) {
            return Next::End(RunOutcome::Failed);
        }
        match self.tracks.iter().position(|track| track.standing == Standing::Pending) {
            Some(index) => match self.not_due(procedure, index) {
                Some(why) => Next::Skip(index, why),
                None => Next::Apply(index),
            },
            None if stands(&Standing::Failed) => Next::End(RunOutcome::Failed),
            None => Next::End(RunOutcome::Succeeded),
        }
    }

    fn failed_with(&self, procedure: &Procedure, reaction: OnFailure) -> bool {
        let stages = self.tracks.iter().zip(&procedure.stages);
        stages
            .filter(|(track, _)| track.standing == Standing::Failed)
            .any(|(_, stage)| stage.on_failure == reaction)
    }

    /// The last that is applied and changed something.
    fn unwind(&self, procedure: &Procedure) -> Next {
        let stages = self.tracks.iter().zip(&procedure.stages).enumerate().rev();
        for (index, (track, stage)) in stages {
            match &track.standing {
                Standing::Applied(value) | Standing::Undoing(value) if stage.effect() > Effect::ReadOnly => {
                    return Next::Undo(index, value.clone());
                }
                _ => {}
            }
        }
        Next::End(RunOutcome::RolledBack)
    }

    /// Why a stage is not due; `None` when it is.
    fn not_due(&self, procedure: &Procedure, index: usize) -> Option<String> {
        let when = procedure.stages[index].when.as_ref()?;
        let track = &self.tracks[procedure.index(when.stage())?];
        let result = track.result();
        match when {
            When::Result { stage, is } => match result {
                Some(result) if is.contains(&result) => None,
                Some(result) => Some(format!("{stage} {result}")),
                None => Some(format!("{stage} has no result")),
            },
            When::Status { stage, is } => {
                let status = match &track.standing {
                    Standing::Applied(value) => value.get("status").and_then(Value::as_str),
                    _ => None,
                };
                match status {
                    Some(status) if is.iter().any(|word| word == status) => None,
                    Some(status) => Some(format!("{stage} is {status}")),
                    None => Some(format!("{stage} has no status")),
                }
            }
        }
    }
}

impl Track {
    fn undoing(&mut self) {
        if let Standing::Applied(value) = &self.standing {
            self.standing = Standing::Undoing(value.clone());
        }
    }

    /// An attempt that did nothing: another one, where that is allowed.
    fn after_nothing(&self) -> Standing {
        if self.safe { Standing::Pending } else { Standing::Failed }
    }

    fn result(&self) -> Option<StageResult> {
        match self.standing {
            Standing::Applied(_) => Some(StageResult::Succeeded),
            Standing::Failed => Some(StageResult::Failed),
            Standing::Skipped => Some(StageResult::Skipped),
            _ => None,
        }
    }
}
