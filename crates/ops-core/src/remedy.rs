//! What to do about a finding.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The next thing to type, and the task that does it where one exists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Remedy {
    /// The maintenance task that does it, such as `pg.drop-index`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The task's arguments.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// A statement or command for a person to read and run; ops never runs it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// What to consider first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Remedy {
    /// A statement or command that a person runs.
    pub fn statement(statement: impl Into<String>) -> Self {
        Self { statement: Some(statement.into()), ..Self::default() }
    }

    /// Advice, where no single command is right.
    pub fn advice(advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..Self::default() }
    }

    /// Adds what to consider first.
    #[must_use]
    pub fn because(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Names the task that does it.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>, args: Map<String, Value>) -> Self {
        self.task = Some(task.into());
        self.args = args;
        self
    }
}
