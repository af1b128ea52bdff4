//! The rules of a procedure.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use serde_json::Value;
use tokio::sync::Notify;

use super::ManualClock;
use super::crashing::Crashing;
use super::rule::{broken, done, holds, same};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::permit::{Confirmation, WritePermit};
use crate::procedure::{OnFailure, Procedure, RunReport};
use crate::state::{MemoryState, RunOutcome, State};
use crate::step::{Effect, Step, Verification};

/// Longer than any lease lasts: whoever resumes need not wait for the dead.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(3600);

/// A procedure of yours, and the world that it changes.
#[async_trait]
pub trait Trial: Send + Sync {
    /// Brings the world to where the procedure begins, and returns the procedure over it.
    async fn begin(&self) -> Procedure;

    /// Everything that the procedure changes, to be compared: how often each thing is there, not only whether.
    async fn world(&self) -> Value;
}

/// Runs a procedure again and again: as it is; ended at every record of its journal, before and after it is written,
/// and resumed; and with every step failing in turn, each undone twice.
///
/// - Uninterrupted, it succeeds.
/// - Interrupted anywhere and resumed, it ends in the same world: nothing is done twice, nothing is left out. A step
///   that can't tell what it did may end the run as unknown, never as succeeded with another world.
/// - Where a step fails that rolls back, the world is as in the beginning; nothing that is applied is forgotten.
///   Steps that can't be undone are reported as standing.
///
/// # Panics
/// When a rule is broken.
pub async fn procedure(trial: &dyn Trial) {
    let first = trial.begin().await;
    let report = run(&first, &Context::new(), Arc::new(MemoryState::default())).await;
    let report = done("an uninterrupted run ends", report);
    same("an uninterrupted run succeeds", report.outcome, Some(RunOutcome::Succeeded));
    let finished = trial.world().await;
    interrupted(trial, &finished).await;
    for index in 0..first.stages.len() {
        fails_at(trial, index).await;
    }
}

fn confirmation() -> Confirmation {
    Confirmation::person("the conformance suite")
}

async fn run(procedure: &Procedure, cx: &Context, state: Arc<dyn State>) -> Result<RunReport> {
    procedure.run(cx, &procedure.plan()?, confirmation(), state).await
}

/// Ends the run at each record in turn, until there are no more.
async fn interrupted(trial: &dyn Trial, finished: &Value) {
    for written in [false, true] {
        for at in 0.. {
            let procedure = trial.begin().await;
            let clock = ManualClock::at(Utc::now());
            let cx = Context::new().with_clock(clock.clone());
            let state: Arc<dyn State> = Arc::new(MemoryState::default());
            let crash = Arc::new(Notify::new());
            let crashing = Arc::new(Crashing::new(Arc::clone(&state), at, written, Arc::clone(&crash)));
            tokio::select! {
                report = run(&procedure, &cx, crashing) => {
                    let outcome = done("an uninterrupted run ends", report).outcome;
                    same("a run that was not interrupted succeeds", outcome, Some(RunOutcome::Succeeded));
                    break;
                }
                () = crash.notified() => {}
            }
            clock.advance(LONGER_THAN_A_LEASE);
            let when = format!("{} record {at}", if written { "after" } else { "before" });
            if at == 0 && !written {
                // Nothing is known of it, so nothing may have happened.
                continue;
            }
            let report = procedure.resume(&cx, cx.run_id(), Arc::clone(&state)).await;
            let report = done("an interrupted run is resumed", report);
            let world = trial.world().await;
            match report.outcome {
                Some(RunOutcome::Succeeded) => {
                    let rule = "an interrupted run ends in the same world";
                    holds(rule, world == *finished, format!("{when}: {world} instead of {finished}"));
                }
                Some(RunOutcome::Unknown) => {}
                other => broken("an interrupted run ends", format!("{when}: as {other:?}: {report:?}")),
            }
        }
    }
}

async fn fails_at(trial: &dyn Trial, index: usize) {
    let procedure = trial.begin().await;
    let beginning = trial.world().await;
    let name = procedure.stages[index].name.clone();
    let rolls_back = procedure.stages[index].on_failure == OnFailure::RollBack;
    let reached = Arc::new(AtomicUsize::new(0));
    let procedure = procedure.map_steps(|at, step| match at == index {
        true => Arc::new(Fails { step, reached: Arc::clone(&reached) }) as Arc<dyn Step>,
        false => Arc::new(UndoneTwice(step)),
    });
    let report = run(&procedure, &Context::new(), Arc::new(MemoryState::default())).await;
    let report = done("a run whose step fails ends", report);
    if reached.load(Ordering::Relaxed) == 0 {
        // It is not due where nothing else went wrong.
        return;
    }
    let world = trial.world().await;
    match report.outcome {
        Some(RunOutcome::RolledBack) => {
            let rule = "a run that is rolled back leaves the world as it was";
            holds(rule, world == beginning, format!("{name} failed: {world} instead of {beginning}"));
        }
        Some(RunOutcome::RollbackFailed) => {
            let stands = report.stages.iter().any(|stage| stage.standing == "not undone");
            holds("what could not be undone is named", stands, format!("{report:?}"));
        }
        Some(RunOutcome::Failed) if !rolls_back => {}
        other => broken("a run whose step fails has failed", format!("{name}: {other:?}")),
    }
}

/// Fails before it does anything.
#[derive(Debug)]
struct Fails {
    step: Arc<dyn Step>,
    reached: Arc<AtomicUsize>,
}

#[async_trait]
impl Step for Fails {
    fn name(&self) -> &str {
        self.step.name()
    }
    fn effect(&self) -> Effect {
        self.step.effect()
    }
    async fn apply(&self, _cx: &Context, _permit: &WritePermit) -> Result<Value> {
        self.reached.fetch_add(1, Ordering::Relaxed);
        Err(Error::new(ErrorKind::Failed, "apply the step").because("the suite lets it fail"))
    }
    async fn verify(&self, _cx: &Context, _recorded: Option<&Value>) -> Result<Verification> {
        Ok(Verification::NotApplied)
    }
    async fn undo(&self, cx: &Context, recorded: &Value, permit: &WritePermit) -> Result<()> {
        self.step.undo(cx, recorded, permit).await
    }
}

/// Undone as after a crash in the middle of it.
#[derive(Debug)]
struct UndoneTwice(Arc<dyn Step>);

#[async_trait]
impl Step for UndoneTwice {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn effect(&self) -> Effect {
        self.0.effect()
    }
    async fn apply(&self, cx: &Context, permit: &WritePermit) -> Result<Value> {
        self.0.apply(cx, permit).await
    }
    async fn verify(&self, cx: &Context, recorded: Option<&Value>) -> Result<Verification> {
        self.0.verify(cx, recorded).await
    }
    async fn undo(&self, cx: &Context, recorded: &Value, permit: &WritePermit) -> Result<()> {
        self.0.undo(cx, recorded, permit).await?;
        self.0.undo(cx, recorded, permit).await
    }
}
