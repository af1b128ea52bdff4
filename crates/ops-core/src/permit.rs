//! The right to write: given for one plan, to whoever confirmed it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, PlanHash};
use crate::step::Effect;

/// Why a plan may be executed. Kept with the run, so that the journal says who wanted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "by")]
#[non_exhaustive]
pub enum Confirmation {
    /// A person was shown this very plan and said yes.
    Person {
        /// Who.
        who: String,
    },
    /// Somebody named this very plan by its hash, as `--confirm HASH` does in a script.
    Hash {
        /// The hash, or its first 12 digits at least.
        hash: String,
        /// Who.
        who: String,
    },
    /// Nobody looked at this very plan: a schedule, or `--execute` alone. Not enough where nothing could be
    /// undone.
    Unattended {
        /// What asked for it, and why that is right.
        reason: String,
    },
}

impl Confirmation {
    /// `who` was shown the plan and said yes.
    ///
    /// ```
    /// use ops_core::{Action, Confirmation, Draft, Effect};
    /// let plan = Draft::new("x", ()).action(Action::new("FLUSHDB", Effect::Irreversible)).seal("t.flush")?;
    /// let permit = plan.permit(Confirmation::person("alice"))?;
    /// assert_eq!(permit.confirmation(), &Confirmation::person("alice"));
    /// # Ok::<(), ops_core::Error>(())
    /// ```
    pub fn person(who: impl Into<String>) -> Self {
        Self::Person { who: who.into() }
    }

    /// `who` named the plan by its hash.
    ///
    /// ```
    /// use ops_core::{Confirmation, Draft, ErrorKind};
    /// let plan = Draft::new("x", ()).seal("t.nothing")?;
    /// assert!(plan.permit(Confirmation::hash(plan.hash().short(), "ci")).is_ok());
    /// let other = plan.permit(Confirmation::hash("0".repeat(64), "ci"));
    /// assert_eq!(other.unwrap_err().kind(), ErrorKind::Refused);
    /// # Ok::<(), ops_core::Error>(())
    /// ```
    pub fn hash(hash: impl Into<String>, who: impl Into<String>) -> Self {
        Self::Hash { hash: hash.into(), who: who.into() }
    }

    /// Nobody looked, and `reason` says what asked for it.
    ///
    /// ```
    /// use ops_core::{Action, Confirmation, Draft, Effect, ErrorKind};
    /// let nightly = Confirmation::unattended("schedule nightly");
    /// let vacuum = Draft::new("x", ()).action(Action::new("VACUUM", Effect::Reversible)).seal("t.vacuum")?;
    /// assert!(vacuum.permit(nightly.clone()).is_ok());
    /// let flush = Draft::new("x", ()).action(Action::new("FLUSHDB", Effect::Irreversible)).seal("t.flush")?;
    /// assert_eq!(flush.permit(nightly).unwrap_err().kind(), ErrorKind::Refused);
    /// # Ok::<(), ops_core::Error>(())
    /// ```
    pub fn unattended(reason: impl Into<String>) -> Self {
        Self::Unattended { reason: reason.into() }
    }

    fn settles(&self, plan: &Plan) -> Result<()> {
        let refused = |why: String| Err(refusal(plan).because(why));
        let (Self::Person { who: answerable }
        | Self::Hash { who: answerable, .. }
        | Self::Unattended { reason: answerable }) = self;
        if answerable.trim().is_empty() {
            return refused("the confirmation does not say who or why".into());
        }
        match self {
            Self::Person { .. } => Ok(()),
            Self::Hash { hash, .. } if plan.hash().is_named_by(hash) => Ok(()),
            Self::Hash { hash, .. } => {
                refused(format!("{hash:?} confirms another plan; this one is {}", plan.hash().short()))
            }
            Self::Unattended { .. } if plan.effect() < Effect::Irreversible => Ok(()),
            Self::Unattended { .. } => Err(refusal(plan)
                .because("it can't be undone: a person has to confirm it")
                .with_fix(format!("--confirm {}", plan.hash()))),
        }
    }
}

fn refusal(plan: &Plan) -> Error {
    Error::new(ErrorKind::Refused, format!("execute {}", plan.task())).on(plan.target())
}

/// The right to execute one plan, once. [`Plan::permit`] alone makes one: it can be neither built nor copied nor
/// read from a document, so code that takes one has been through a plan and its confirmation.
///
/// ```compile_fail,E0451
/// # use ops_core::{Confirmation, Effect, WritePermit};
/// # let plan = ops_core::Draft::new("x", ()).seal("t.nothing").unwrap();
/// # fn write(_: WritePermit) {}
/// # let confirmation = Confirmation::person("alice");
/// write(WritePermit { plan: plan.hash().clone(), task: "t".into(), effect: Effect::Reversible, confirmation });
/// ```
///
/// ```
/// # use ops_core::{Confirmation, Effect, WritePermit};
/// # let plan = ops_core::Draft::new("x", ()).seal("t.nothing").unwrap();
/// # fn write(_: WritePermit) {}
/// # let confirmation = Confirmation::person("alice");
/// write(plan.permit(confirmation).unwrap());
/// ```
///
/// It can't be used twice:
///
/// ```compile_fail,E0382
/// # use ops_core::{Confirmation, WritePermit};
/// # let plan = ops_core::Draft::new("x", ()).seal("t.nothing").unwrap();
/// # fn write(_: WritePermit) {}
/// let permit = plan.permit(Confirmation::person("alice")).unwrap();
/// write(permit);
/// write(permit);
/// ```
#[derive(Debug)]
#[must_use = "a permit that is dropped executes nothing"]
pub struct WritePermit {
    plan: PlanHash,
    task: String,
    effect: Effect,
    confirmation: Confirmation,
}

impl Plan {
    /// The right to execute exactly this plan.
    ///
    /// # Errors
    /// `Refused` when the plan was changed after it was made, when one of its preflight checks failed, when the
    /// hash is another plan's, when the confirmation names nobody, or when it is unattended and an action
    /// can't be undone.
    pub fn permit(&self, confirmation: Confirmation) -> Result<WritePermit> {
        self.intact()?;
        if let Some(check) = self.blockers().next() {
            return Err(refusal(self).because(format!("{}: {}", check.what, check.seen)));
        }
        confirmation.settles(self)?;
        Ok(WritePermit {
            plan: self.hash().clone(),
            task: self.task().to_owned(),
            effect: self.effect(),
            confirmation,
        })
    }
}

impl WritePermit {
    /// The plan it is for.
    pub fn plan(&self) -> &PlanHash {
        &self.plan
    }

    /// Who confirmed the plan, or why nobody had to.
    pub fn confirmation(&self) -> &Confirmation {
        &self.confirmation
    }

    /// Whether it gives the task named `task` the right to execute `plan`. A task asks before anything else.
    ///
    /// # Errors
    /// `Refused` when the plan was changed after it was made, belongs to another task, or is not the one that
    /// this permit is for.
    pub fn authorises(&self, task: &str, plan: &Plan) -> Result<()> {
        plan.intact()?;
        if plan.task() != task {
            return Err(refusal(plan).because(format!("the plan is not one of {task}")));
        }
        if self.plan != *plan.hash() || self.task != task {
            return Err(
                refusal(plan).because(format!("the permit is for another plan, {}", self.plan.short()))
            );
        }
        Ok(())
    }

    /// Whether its plan covers something of this effect. A step asks before it writes: a procedure that only
    /// reads runs under a permit that allows no more.
    ///
    /// # Errors
    /// `Refused` when every action of its plan is easier to undo than that.
    pub fn allows(&self, effect: Effect) -> Result<()> {
        if effect <= self.effect {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Refused, format!("execute {}", self.task)).because(format!(
            "its plan {} is {}, and this is {effect}",
            self.plan.short(),
            self.effect
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, Check, CheckOutcome, Draft};

    fn plan(effect: Effect) -> Plan {
        Draft::new("x", 1).action(Action::new("act", effect)).seal("t.task").unwrap()
    }

    fn kind<T: std::fmt::Debug>(result: Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn the_harder_to_undo_the_more_is_asked() {
        for effect in [Effect::ReadOnly, Effect::Reversible, Effect::Compensatable, Effect::Irreversible] {
            let plan = plan(effect);
            let unattended = (effect == Effect::Irreversible).then_some(ErrorKind::Refused);
            for (confirmation, expected) in [
                (Confirmation::person("alice"), None),
                (Confirmation::hash(plan.hash().as_str(), "ci"), None),
                (Confirmation::hash(plan.hash().short(), "ci"), None),
                (Confirmation::unattended("nightly"), unattended),
                (Confirmation::hash(&plan.hash().as_str()[..11], "ci"), Some(ErrorKind::Refused)),
                (Confirmation::hash("f".repeat(64), "ci"), Some(ErrorKind::Refused)),
                (Confirmation::person(" "), Some(ErrorKind::Refused)),
                (Confirmation::hash(plan.hash().as_str(), ""), Some(ErrorKind::Refused)),
                (Confirmation::unattended(""), Some(ErrorKind::Refused)),
            ] {
                assert_eq!(kind(plan.permit(confirmation.clone())), expected, "{effect}: {confirmation:?}");
            }
        }
    }

    #[test]
    fn a_failed_check_refuses_whoever_confirms() {
        let check = Check::new("it is a primary", CheckOutcome::Failed, "it is a standby");
        let plan = Draft::new("x", 1).check(check).seal("t.task").unwrap();
        let error = plan.permit(Confirmation::person("alice")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("it is a standby"), "{error}");
    }

    #[test]
    fn an_altered_plan_is_refused_whoever_confirms() {
        let mut document = serde_json::to_value(plan(Effect::Reversible)).unwrap();
        document["payload"] = 2.into();
        let altered: Plan = serde_json::from_value(document).unwrap();
        assert_eq!(kind(altered.permit(Confirmation::person("alice"))), Some(ErrorKind::Refused));
    }

    #[test]
    fn a_permit_serves_its_own_plan_and_task_only() {
        let mine = plan(Effect::Reversible);
        let permit = mine.permit(Confirmation::person("alice")).unwrap();
        permit.authorises("t.task", &mine).unwrap();
        assert_eq!(kind(permit.authorises("t.other", &mine)), Some(ErrorKind::Refused));
        assert_eq!(kind(permit.authorises("t.task", &plan(Effect::ReadOnly))), Some(ErrorKind::Refused));
        permit.allows(Effect::ReadOnly).unwrap();
        permit.allows(Effect::Reversible).unwrap();
        assert_eq!(kind(permit.allows(Effect::Compensatable)), Some(ErrorKind::Refused));
    }
}
