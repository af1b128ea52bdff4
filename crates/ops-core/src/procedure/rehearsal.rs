//! What a run would do: what only reads is done, what would write says so, and what comes after that is unknown.

use super::definition::Procedure;
use super::progress::{Next, Progress};
use super::report::{RunReport, StageReport};
use crate::context::Context;
use crate::error::Result;
use crate::permit::Confirmation;
use crate::plan::Draft;
use crate::state::{Act, Event};
use crate::step::Effect;

impl Procedure {
    /// Runs the stages that only read up to the first that would write. What comes after it sees a world that this
    /// one is not, so it is unknown. Nothing is journalled.
    ///
    /// # Errors
    /// `Cancelled`; `Bug` when a permit to read can't be made.
    pub async fn rehearse(&self, cx: &Context) -> Result<RunReport> {
        // A plan of nothing permits to read, and nothing else.
        let permit = Draft::new(self.target.clone(), ())
            .seal(&self.task())?
            .permit(Confirmation::unattended("rehearsal"))?;
        let mut progress = Progress::new(self);
        let mut would = None;
        while would.is_none() {
            let event = match progress.next(self) {
                Next::Apply(index) if self.stages[index].effect() > Effect::ReadOnly => {
                    would = Some(index);
                    continue;
                }
                Next::Apply(index) => {
                    let stage = &self.stages[index];
                    let step = stage.name.clone();
                    progress.fold(self, &Event::Intent { step: step.clone(), act: Act::Apply });
                    let own =
                        stage.deadline.map_or_else(|| cx.clone(), |deadline| cx.with_deadline(deadline));
                    match stage.step.apply(&own, &permit).await {
                        Ok(value) => Event::Done { step, act: Act::Apply, value },
                        Err(error) if cx.is_cancelled() => return Err(error),
                        Err(error) => {
                            Event::Failed { step, act: Act::Apply, error: error.report(), safe: false }
                        }
                    }
                }
                Next::Skip(index, why) => Event::Skipped { step: self.stages[index].name.clone(), why },
                // Only what reads was done: there is nothing to verify or to undo.
                Next::Verify(_) | Next::Undo(..) | Next::End(_) => break,
            };
            progress.fold(self, &event);
        }
        let mut report = RunReport::of(self, cx.run_id(), &[], &progress);
        report.run = None;
        for (index, stage) in report.stages.iter_mut().enumerate() {
            tell(stage, index, would, &self.stages[index].effect());
        }
        Ok(report)
    }
}

fn tell(stage: &mut StageReport, index: usize, would: Option<usize>, effect: &Effect) {
    let Some(first) = would.filter(|first| index >= *first) else { return };
    if index == first {
        "would apply".clone_into(&mut stage.standing);
    } else {
        "unknown".clone_into(&mut stage.standing);
        let does = if *effect == Effect::ReadOnly { "what it sees" } else { "whether it is due" };
        stage.error = Some(format!("{does} depends on what comes before it"));
    }
}
