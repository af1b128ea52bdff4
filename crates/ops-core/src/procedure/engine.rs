//! Runs a procedure: writes down what it is about to do, does it, writes down how that went.

use std::sync::Arc;
use std::time::Duration;

use super::definition::{Procedure, Stage};
use super::keeper::Keeper;
use super::progress::{Next, Progress};
use super::report::RunReport;
use crate::context::{Context, RunId};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::permit::{Confirmation, WritePermit};
use crate::plan::Plan;
use crate::state::{Act, Entry, Event, RunHead, State};

/// The first pause before another attempt.
const PAUSE: Duration = Duration::from_secs(1);

impl Procedure {
    /// Runs it as `plan` says. A run that is cancelled or loses its lease stops between two entries of its journal,
    /// and [`Procedure::resume`] goes on with it.
    ///
    /// # Errors
    /// `Refused` when `plan` is not this procedure's or the confirmation does not cover it; `Busy` when a run of it
    /// on the same target goes on; `Cancelled` when it stopped; those of the journal. A stage that fails is no
    /// error: [`RunReport::outcome`] tells.
    pub async fn run(
        &self,
        cx: &Context,
        plan: &Plan,
        confirmation: Confirmation,
        state: Arc<dyn State>,
    ) -> Result<RunReport> {
        let permit = self.permit(plan, confirmation.clone())?;
        let (keeper, bound) = self.take_lease(cx, &state).await?;
        let head = RunHead {
            run: cx.run_id(),
            procedure: self.name.clone(),
            target: self.target.clone(),
            plan: plan.clone(),
            confirmation,
        };
        let started = Event::Started { head: Box::new(head), token: keeper.token() };
        let journal = Writer { state: Arc::clone(&state), run: cx.run_id(), entries: Vec::new() };
        let result =
            Run { procedure: self, permit, journal, progress: Progress::new(self) }.go(&bound, started).await;
        keeper.release().await;
        result
    }

    /// Goes on with a run that was interrupted, under the confirmation that it began with. A step that was in flight
    /// is verified first. A run that has ended is reported as it is.
    ///
    /// # Errors
    /// `NotFound` when there is no such run; `Precondition` when it is another procedure's, or the procedure has
    /// changed since; and those of [`Procedure::run`].
    pub async fn resume(&self, cx: &Context, run: RunId, state: Arc<dyn State>) -> Result<RunReport> {
        let (keeper, bound) = self.take_lease(cx, &state).await?;
        let result = self.resume_under(&bound, run, Arc::clone(&state), &keeper).await;
        keeper.release().await;
        result
    }

    async fn resume_under(
        &self,
        cx: &Context,
        run: RunId,
        state: Arc<dyn State>,
        keeper: &Keeper,
    ) -> Result<RunReport> {
        let entries = state.entries(run).await?;
        let Some(Event::Started { head, .. }) = entries.first().map(|entry| &entry.event) else {
            return Err(Error::new(ErrorKind::Corrupt, "resume the run")
                .on(run.to_string())
                .because("it has no beginning"));
        };
        let changed = |why: &str| {
            Error::new(ErrorKind::Precondition, "resume the run").on(run.to_string()).because(why)
        };
        if head.procedure != self.name || head.target != self.target {
            return Err(changed(&format!("it is a run of {} on {}", head.procedure, head.target)));
        }
        if head.plan.hash() != self.plan()?.hash() {
            return Err(changed(
                "the procedure has changed since; its steps are not those that were confirmed",
            ));
        }
        let permit = self.permit(&head.plan, head.confirmation.clone())?;
        let mut progress = Progress::new(self);
        for entry in &entries {
            progress.fold(self, &entry.event);
        }
        if progress.ended.is_some() {
            return Ok(RunReport::of(self, run, &entries, &progress));
        }
        let resumed = Event::Resumed { token: keeper.token(), holder: holder() };
        let journal = Writer { state, run, entries };
        Run { procedure: self, permit, journal, progress }.go(cx, resumed).await
    }

    fn permit(&self, plan: &Plan, confirmation: Confirmation) -> Result<WritePermit> {
        let permit = plan.permit(confirmation)?;
        permit.authorises(&self.task(), &self.plan()?)?;
        Ok(permit)
    }

    async fn take_lease(&self, cx: &Context, state: &Arc<dyn State>) -> Result<(Keeper, Context)> {
        let name = format!("procedure {} on {}", self.name, self.target);
        Keeper::take(cx, state, &name, &holder()).await
    }
}

/// Who runs it, so that a person can find the process.
fn holder() -> String {
    format!("process {}", std::process::id())
}

/// Writes one run's journal.
#[derive(Debug)]
struct Writer {
    state: Arc<dyn State>,
    run: RunId,
    entries: Vec<Entry>,
}

impl Writer {
    async fn write(&mut self, cx: &Context, event: Event) -> Result<()> {
        let entry = Entry { seq: self.entries.len() as u64, at: cx.now(), event };
        self.state.append(self.run, &entry).await?;
        self.entries.push(entry);
        Ok(())
    }
}

struct Run<'p> {
    procedure: &'p Procedure,
    permit: WritePermit,
    journal: Writer,
    progress: Progress,
}

impl Run<'_> {
    async fn go(mut self, cx: &Context, first: Event) -> Result<RunReport> {
        self.note(cx, first).await?;
        while self.progress.ended.is_none() {
            self.still_wanted(cx)?;
            let next = self.progress.next(self.procedure);
            self.take(cx, next).await?;
        }
        Ok(RunReport::of(self.procedure, self.journal.run, &self.journal.entries, &self.progress))
    }

    /// Writes an event down, then lets it count.
    async fn note(&mut self, cx: &Context, event: Event) -> Result<()> {
        self.journal.write(cx, event.clone()).await?;
        self.progress.fold(self.procedure, &event);
        Ok(())
    }

    fn still_wanted(&self, cx: &Context) -> Result<()> {
        if !cx.is_cancelled() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Cancelled, format!("finish {}", self.procedure.name))
            .on(self.journal.run.to_string())
            .because("it was interrupted; its journal tells what stands")
            .with_fix(format!("ops run {} --resume {}", self.procedure.name, self.journal.run)))
    }

    async fn take(&mut self, cx: &Context, next: Next) -> Result<()> {
        match next {
            Next::Skip(index, why) => {
                let step = self.stage(index).name.clone();
                self.note(cx, Event::Skipped { step, why }).await
            }
            Next::Apply(index) => self.apply(cx, index).await,
            Next::Verify(index) => self.verify(cx, index).await,
            Next::Undo(index, value) => self.undo(cx, index, value).await,
            Next::End(outcome) => self.note(cx, Event::Ended { outcome }).await,
        }
    }

    fn stage(&self, index: usize) -> &Stage {
        &self.procedure.stages[index]
    }

    async fn apply(&mut self, cx: &Context, index: usize) -> Result<()> {
        let stage = self.stage(index).clone();
        let attempts = self.progress.tracks[index].attempts;
        if self.progress.tracks[index].error.is_some() {
            self.pause(cx, attempts).await?;
        }
        cx.say(&format!("{}: {}", stage.name, stage.what));
        let step = stage.name.clone();
        self.note(cx, Event::Intent { step: step.clone(), act: Act::Apply }).await?;
        let own = stage.deadline.map_or_else(|| cx.clone(), |deadline| cx.with_deadline(deadline));
        let event = match stage.step.apply(&own, &self.permit).await {
            Ok(value) => Event::Done { step, act: Act::Apply, value },
            Err(error) => failed(step, Act::Apply, &error),
        };
        self.note(cx, event).await
    }

    async fn pause(&self, cx: &Context, attempts: u32) -> Result<()> {
        let pause = PAUSE * 2_u32.saturating_pow(attempts.saturating_sub(1).min(6));
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = cx.cancelled() => self.still_wanted(cx),
        }
    }

    /// Looks at a step whose outcome the journal does not tell. One that can't be looked at now is looked at when
    /// the run is resumed: the error ends this process's part, not the run.
    async fn verify(&mut self, cx: &Context, index: usize) -> Result<()> {
        let stage = self.stage(index).clone();
        cx.say(&format!("{}: looking whether it happened", stage.name));
        let own = stage.deadline.map_or_else(|| cx.clone(), |deadline| cx.with_deadline(deadline));
        let verification = stage.step.verify(&own, None).await.map_err(|error| {
            error.with_fix(format!("ops run {} --resume {}", self.procedure.name, self.journal.run))
        })?;
        self.note(cx, Event::Verified { step: stage.name, verification }).await
    }

    async fn undo(&mut self, cx: &Context, index: usize, value: serde_json::Value) -> Result<()> {
        let stage = self.stage(index).clone();
        cx.say(&format!("{}: undoing", stage.name));
        let step = stage.name.clone();
        self.note(cx, Event::Intent { step: step.clone(), act: Act::Undo }).await?;
        let own = stage.deadline.map_or_else(|| cx.clone(), |deadline| cx.with_deadline(deadline));
        let event = match stage.step.undo(&own, &value, &self.permit).await {
            Ok(()) => Event::Done { step, act: Act::Undo, value: serde_json::Value::Null },
            // Undoing may be repeated, so an interruption leaves it to whoever resumes.
            Err(error) if cx.is_cancelled() => return Err(error),
            Err(error) => failed(step, Act::Undo, &error),
        };
        self.note(cx, event).await
    }
}

fn failed(step: String, act: Act, error: &Error) -> Event {
    let safe = matches!(error.retry_class(), Retry::Safe { .. });
    Event::Failed { step, act, error: error.report(), safe }
}
