//! What a procedure was about to do, and how it went: written down before and after.

use std::fmt::{self, Debug};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::RunId;
use crate::error::{Error, ErrorKind, Result};
use crate::permit::Confirmation;
use crate::plan::Plan;
use crate::step::Verification;

/// What a run is of. Enough to go on with it in another process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunHead {
    /// The run.
    pub run: RunId,
    /// The procedure.
    pub procedure: String,
    /// What it is done to: one run of a procedure and target at a time.
    pub target: String,
    /// The plan that was confirmed.
    pub plan: Plan,
    /// By whom.
    pub confirmation: Confirmation,
}

/// What is done with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// It is applied.
    Apply,
    /// It is undone.
    Undo,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Act::Apply => "apply",
            Act::Undo => "undo",
        })
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every step that was to be done is done.
    Succeeded,
    /// A step failed, and what was applied before it stands.
    Failed,
    /// A step failed, and what was applied before it is undone.
    RolledBack,
    /// A step failed, and so did the undoing: a person is needed.
    RollbackFailed,
    /// It can't be told what a step did: a person is needed.
    Unknown,
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RunOutcome::Succeeded => "succeeded",
            RunOutcome::Failed => "failed",
            RunOutcome::RolledBack => "rolled back",
            RunOutcome::RollbackFailed => "rollback failed",
            RunOutcome::Unknown => "unknown",
        })
    }
}

/// Something that is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// The run began. Always the first, and only there.
    Started {
        /// What it is of.
        head: Box<RunHead>,
        /// Under which lease.
        token: u64,
    },
    /// Another process goes on with it.
    Resumed {
        /// Under which lease.
        token: u64,
        /// Who.
        holder: String,
    },
    /// A step was not due.
    Skipped {
        /// Which.
        step: String,
        /// Why.
        why: String,
    },
    /// A step is about to be applied or undone.
    Intent {
        /// Which.
        step: String,
        /// What with it.
        act: Act,
    },
    /// It is.
    Done {
        /// Which.
        step: String,
        /// What with it.
        act: Act,
        /// What [`Step::apply`](crate::Step::apply) returned: what undoing it needs.
        value: Value,
    },
    /// It failed.
    Failed {
        /// Which.
        step: String,
        /// What with it.
        act: Act,
        /// Why, redacted.
        error: String,
        /// Whether the error says that trying again is safe.
        safe: bool,
    },
    /// A step that was in flight, or whose failure left that open, was looked at.
    Verified {
        /// Which.
        step: String,
        /// What was seen.
        verification: Verification,
    },
    /// The run ended. Always the last.
    Ended {
        /// How.
        outcome: RunOutcome,
    },
}

/// An event with its place and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in its run, from 0.
    pub seq: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl Entry {
    /// Whether it may be the next of `run`, whose entries end before `next`. Every journal asks, so that all refuse
    /// alike.
    ///
    /// # Errors
    /// `Precondition` when its place is another, or when it begins a run that has begun, or goes on with one that
    /// has not.
    pub fn follows(&self, run: RunId, next: u64) -> Result<()> {
        let refused = |why: String| {
            Err(Error::new(ErrorKind::Precondition, "write the journal").on(run.to_string()).because(why))
        };
        if self.seq != next {
            return refused(format!(
                "entry {next} is the next, not {}: another process goes on with it",
                self.seq
            ));
        }
        match &self.event {
            Event::Started { head, .. } if next == 0 && head.run == run => Ok(()),
            Event::Started { .. } => refused("it has begun already".to_owned()),
            _ if next == 0 => refused("it has not begun".to_owned()),
            _ => Ok(()),
        }
    }
}

pub(crate) fn no_such_run(run: RunId) -> Error {
    Error::new(ErrorKind::NotFound, "read the journal").on(run.to_string()).because("there is no such run")
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// The procedure.
    pub procedure: String,
    /// What it is done to.
    pub target: String,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When the last thing was written down.
    pub latest: DateTime<Utc>,
    /// How it ended; `None` while it runs, or when it was interrupted.
    pub outcome: Option<RunOutcome>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunFilter {
    /// Of this procedure.
    pub procedure: Option<String>,
    /// Whose id begins with this.
    pub prefix: Option<String>,
    /// At most so many; all where none is given.
    pub limit: Option<usize>,
}

impl RunFilter {
    /// Whether it takes this run, its limit aside.
    pub fn takes(&self, run: &RunSummary) -> bool {
        self.procedure.as_ref().is_none_or(|procedure| run.procedure == *procedure)
            && self.prefix.as_ref().is_none_or(|prefix| run.run.to_string().starts_with(prefix.as_str()))
    }

    /// Of this procedure alone.
    #[must_use]
    pub fn of(mut self, procedure: impl Into<String>) -> Self {
        self.procedure = Some(procedure.into());
        self
    }

    /// Those whose id begins with `prefix`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// At most `limit`.
    #[must_use]
    pub fn at_most(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// Keeps runs, entry by entry.
///
/// # Errors
/// Those of the store. An [`Journal::append`] that failed may have happened: whoever resumes looks.
#[async_trait]
pub trait Journal: Send + Sync + Debug {
    /// Writes the next entry of a run, durably: when this returns, it survives the end of the process and of the
    /// machine. `Precondition` when its place is taken or not the next, which tells a process that lost its lease
    /// that another one goes on; and when the first entry is no [`Event::Started`] of that run.
    async fn append(&self, run: RunId, entry: &Entry) -> Result<()>;

    /// The entries of a run in their order. `NotFound` when there is no such run.
    async fn entries(&self, run: RunId) -> Result<Vec<Entry>>;

    /// The runs that `filter` takes, the newest first.
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>>;
}
