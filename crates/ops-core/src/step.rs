//! One step of a procedure: journalled, verified, undone.

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::error::Result;
use crate::permit::WritePermit;

/// What it takes to undo something; the further down, the harder.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It changes nothing, and may run as often as one likes.
    ReadOnly,
    /// It can be undone, and then all is as it was; also work that nobody could miss, such as VACUUM.
    Reversible,
    /// It can be made good by something else, which leaves its traces: a message is followed by a correction.
    Compensatable,
    /// Nothing undoes it.
    Irreversible,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Effect::ReadOnly => "read-only",
            Effect::Reversible => "reversible",
            Effect::Compensatable => "compensatable",
            Effect::Irreversible => "irreversible",
        })
    }
}

/// Whether a step has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verified", content = "seen")]
pub enum Verification {
    /// It has, and this is what [`Step::apply`] returned, or would have returned had it not been cut short: all
    /// that [`Step::undo`] needs, also after a crash that lost the record.
    Applied(Value),
    /// It has not, in no part.
    NotApplied,
    /// It can't be told, or it happened in part: a person has to look.
    Unknown {
        /// What is known.
        why: String,
    },
}

/// One step of a procedure.
///
/// The engine writes down the intent before `apply` and the outcome after it. A step that was in flight when its
/// process died is verified, never blindly applied again.
///
/// - A writing step calls [`WritePermit::allows`] with its own effect before anything else.
/// - A read-only step may be applied at any time; its `undo` does nothing and succeeds.
/// - `undo` of a `Reversible` or `Compensatable` step may be repeated: what is undone already stays undone, and
///   that succeeds. `undo` of an `Irreversible` step is an error of kind `Unsupported` and changes nothing.
/// - Cancelled on the way, `apply` leaves a state that `verify` can tell.
///
/// # Errors
/// `Refused` for a permit that does not cover the step. From `verify`, whatever kept it from looking; what it
/// saw and could not interpret is [`Verification::Unknown`]. An error from `undo` means that a human is needed.
///
/// ```
/// use std::path::PathBuf;
/// use ops_core::{Context, Effect, Error, ErrorKind, Result, Step, Verification, WritePermit};
/// use serde_json::{Value, json};
///
/// /// Puts up a sign that others look for.
/// #[derive(Debug)]
/// struct MaintenanceSign(PathBuf);
///
/// fn failed(cause: std::io::Error) -> Error {
///     Error::new(ErrorKind::Failed, "change the sign").caused_by(cause)
/// }
///
/// #[async_trait::async_trait]
/// impl Step for MaintenanceSign {
///     fn name(&self) -> &str {
///         "sign"
///     }
///     fn effect(&self) -> Effect {
///         Effect::Reversible
///     }
///     async fn apply(&self, _cx: &Context, permit: &WritePermit) -> Result<Value> {
///         permit.allows(self.effect())?;
///         std::fs::write(&self.0, "back soon").map_err(failed)?;
///         Ok(json!({ "sign": self.0 }))
///     }
///     async fn verify(&self, _cx: &Context, _recorded: Option<&Value>) -> Result<Verification> {
///         Ok(match self.0.try_exists().map_err(failed)? {
///             true => Verification::Applied(json!({ "sign": self.0 })),
///             false => Verification::NotApplied,
///         })
///     }
///     async fn undo(&self, _cx: &Context, _recorded: &Value, permit: &WritePermit) -> Result<()> {
///         permit.allows(self.effect())?;
///         match std::fs::remove_file(&self.0) {
///             Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(failed(cause)),
///             _ => Ok(()),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Step: Send + Sync + Debug {
    /// The step's name within its procedure.
    fn name(&self) -> &str;

    /// What it takes to undo it.
    fn effect(&self) -> Effect;

    /// Does it, and returns what `verify` and `undo` need to know; that is journalled, so no secret belongs in it.
    async fn apply(&self, cx: &Context, permit: &WritePermit) -> Result<Value>;

    /// Looks whether it has happened. `recorded` is what `apply` returned, where that was written down in time.
    /// Changes nothing.
    async fn verify(&self, cx: &Context, recorded: Option<&Value>) -> Result<Verification>;

    /// Undoes it. `recorded` is what `apply` returned, or what [`Verification::Applied`] says in its place.
    async fn undo(&self, cx: &Context, recorded: &Value, permit: &WritePermit) -> Result<()>;
}

macro_rules! forward_step {
    ($pointer:ident) => {
        #[async_trait]
        impl<S: Step + ?Sized> Step for $pointer<S> {
            fn name(&self) -> &str {
                (**self).name()
            }
            fn effect(&self) -> Effect {
                (**self).effect()
            }
            async fn apply(&self, cx: &Context, permit: &WritePermit) -> Result<Value> {
                (**self).apply(cx, permit).await
            }
            async fn verify(&self, cx: &Context, recorded: Option<&Value>) -> Result<Verification> {
                (**self).verify(cx, recorded).await
            }
            async fn undo(&self, cx: &Context, recorded: &Value, permit: &WritePermit) -> Result<()> {
                (**self).undo(cx, recorded, permit).await
            }
        }
    };
}

forward_step!(Arc);
forward_step!(Box);
