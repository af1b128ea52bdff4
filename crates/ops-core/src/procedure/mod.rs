//! Procedures: steps in order, each journalled before and after, resumed after a crash, undone last-in first-out.
//!
//! ```
//! use std::sync::Arc;
//! use ops_core::procedure::{Procedure, Stage};
//! use ops_core::state::{MemoryState, RunOutcome};
//! use ops_core::{Confirmation, Context, Effect, Result, Step, Verification, WritePermit};
//! use serde_json::{Value, json};
//!
//! #[derive(Debug)]
//! struct Greet;
//!
//! #[async_trait::async_trait]
//! impl Step for Greet {
//!     fn name(&self) -> &str {
//!         "greet"
//!     }
//!     fn effect(&self) -> Effect {
//!         Effect::ReadOnly
//!     }
//!     async fn apply(&self, cx: &Context, _permit: &WritePermit) -> Result<Value> {
//!         cx.say("good morning");
//!         Ok(json!({ "said": true }))
//!     }
//!     async fn verify(&self, _cx: &Context, _recorded: Option<&Value>) -> Result<Verification> {
//!         Ok(Verification::NotApplied)
//!     }
//!     async fn undo(&self, _cx: &Context, _recorded: &Value, _permit: &WritePermit) -> Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let procedure = Procedure::new("morning", "house")?.stage(Stage::new("greet", Greet))?;
//! let plan = procedure.plan()?;
//! let confirmation = Confirmation::unattended("every day at 8");
//! let run = procedure.run(&Context::new(), &plan, confirmation, Arc::new(MemoryState::default())).await?;
//! assert_eq!(run.outcome, Some(RunOutcome::Succeeded));
//! # Ok::<(), ops_core::Error>(()) }).unwrap();
//! ```

mod definition;
mod engine;
mod keeper;
mod progress;
mod rehearsal;
mod report;

pub use definition::{OnFailure, Procedure, Stage, StageResult, When};
pub use report::{RunReport, StageReport};

#[cfg(test)]
mod tests;
