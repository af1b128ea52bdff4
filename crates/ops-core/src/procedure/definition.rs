//! What a procedure is made of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Action, Draft, Plan};
use crate::step::{Effect, Step};

/// How a stage went, as far as later ones ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageResult {
    /// It is done.
    Succeeded,
    /// It failed, and did nothing.
    Failed,
    /// It was not due.
    Skipped,
}

impl fmt::Display for StageResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StageResult::Succeeded => "succeeded",
            StageResult::Failed => "failed",
            StageResult::Skipped => "skipped",
        })
    }
}

/// When a stage is due. One that is not is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// An earlier stage went like this.
    Result {
        /// Which.
        stage: String,
        /// One of these.
        is: Vec<StageResult>,
    },
    /// What an earlier stage returned says so: its field `status` is one of these words. A stage that did not
    /// succeed has none.
    Status {
        /// Which.
        stage: String,
        /// One of these.
        is: Vec<String>,
    },
}

impl When {
    /// The earlier stage that it asks about.
    pub fn stage(&self) -> &str {
        match self {
            When::Result { stage, .. } | When::Status { stage, .. } => stage,
        }
    }
}

/// What follows when a stage fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run ends; what was applied stands.
    #[default]
    Stop,
    /// The next stage is next. The run ends as failed all the same.
    Continue,
    /// What was applied is undone, the last first.
    RollBack,
}

/// A step with its place in a procedure.
#[derive(Clone, Debug)]
pub struct Stage {
    pub(crate) name: String,
    pub(super) what: String,
    pub(super) step: Arc<dyn Step>,
    pub(super) when: Option<When>,
    pub(crate) on_failure: OnFailure,
    pub(super) deadline: Option<Duration>,
    pub(super) retries: u32,
}

impl Stage {
    /// A stage that is always due, ends the run when it fails, has no deadline of its own and is not tried again.
    pub fn new(name: impl Into<String>, step: impl Step + 'static) -> Self {
        let what = step.name().to_owned();
        Self {
            name: name.into(),
            what,
            step: Arc::new(step),
            when: None,
            on_failure: OnFailure::default(),
            deadline: None,
            retries: 0,
        }
    }

    /// Says in the plan what it does; the step's name unless told.
    #[must_use]
    pub fn saying(mut self, what: impl Into<String>) -> Self {
        self.what = what.into();
        self
    }

    /// Due only then.
    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = Some(when);
        self
    }

    /// What follows when it fails.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// How long one attempt may take.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How often it is tried again after it failed, was seen to have done nothing, and said that trying again is
    /// safe. The pauses double from 1 s.
    #[must_use]
    pub fn retried(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    pub(super) fn effect(&self) -> Effect {
        self.step.effect()
    }
}

/// What of a procedure its plan covers: two of the same are run alike.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Definition(Vec<Defined>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Defined {
    name: String,
    step: String,
    what: String,
    effect: Effect,
    when: Option<When>,
    on_failure: OnFailure,
}

/// Steps in their order, on one target.
#[derive(Clone, Debug)]
pub struct Procedure {
    pub(super) name: String,
    pub(super) target: String,
    pub(crate) stages: Vec<Stage>,
}

impl Procedure {
    /// A procedure without stages. One run of a procedure on a target goes on at a time.
    ///
    /// # Errors
    /// `InvalidInput` for an empty name.
    pub fn new(name: impl Into<String>, target: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.trim().is_empty() {
            return Err(invalid("it has no name"));
        }
        Ok(Self { name, target: target.into(), stages: Vec::new() })
    }

    /// Adds a stage.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is empty or another's, for a stage that asks about one that does not come
    /// before it, and for retries of a step that can't be undone: what went wrong with it is for a person.
    pub fn stage(mut self, stage: Stage) -> Result<Self> {
        let wrong = |why: String| Err(invalid(format!("stage {:?} {why}", stage.name)));
        if stage.name.trim().is_empty() || self.index(&stage.name).is_some() {
            return wrong("needs a name of its own".to_owned());
        }
        if let Some(when) = &stage.when
            && self.index(when.stage()).is_none()
        {
            return wrong(format!("asks about {:?}, which does not come before it", when.stage()));
        }
        if stage.retries > 0 && stage.effect() == Effect::Irreversible {
            return wrong("can't be undone, so it is not tried again".to_owned());
        }
        self.stages.push(stage);
        Ok(self)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is done to.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The same procedure with other steps under the same names.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn map_steps(mut self, map: impl Fn(usize, Arc<dyn Step>) -> Arc<dyn Step>) -> Self {
        for (index, stage) in self.stages.iter_mut().enumerate() {
            stage.step = map(index, Arc::clone(&stage.step));
        }
        self
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.name == name)
    }

    /// What it would do: an action a stage. The same procedure has the same plan.
    ///
    /// # Errors
    /// `Bug` when it can't be written as JSON.
    pub fn plan(&self) -> Result<Plan> {
        let defined = |stage: &Stage| Defined {
            name: stage.name.clone(),
            step: stage.step.name().to_owned(),
            what: stage.what.clone(),
            effect: stage.effect(),
            when: stage.when.clone(),
            on_failure: stage.on_failure,
        };
        let definition = Definition(self.stages.iter().map(defined).collect());
        let draft = Draft::new(self.target.clone(), definition);
        self.stages
            .iter()
            .fold(draft, |draft, stage| {
                draft.action(Action::new(format!("{}: {}", stage.name, stage.what), stage.effect()))
            })
            .seal(&self.task())
    }

    /// The task that its plans belong to.
    pub(super) fn task(&self) -> String {
        format!("run.{}", self.name)
    }
}

fn invalid(why: impl AsRef<str>) -> Error {
    Error::new(ErrorKind::InvalidInput, "define the procedure").because(why)
}
