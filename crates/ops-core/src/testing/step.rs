//! The rules of [`Step`].

use serde_json::Value;

use super::rule::{GRACE, broken, done, ends, fails, holds, same};
use crate::context::Context;
use crate::error::ErrorKind;
use crate::permit::{Confirmation, WritePermit};
use crate::plan::{Action, Draft};
use crate::step::{Effect, Step, Verification};

/// Checks a step that has not been applied, on a target that it may change and that nobody else changes
/// meanwhile. It is **applied**: an irreversible one stays so.
///
/// - The name is not empty.
/// - A permit that does not cover its effect is refused, by `apply` and by `undo`, before anything is done.
/// - Before it is applied it does not verify as applied; afterwards it does, with its record or (or else
///   `Unknown`) without. Looking changes nothing.
/// - Undone, a reversible step has not happened, by either way of looking; undoing twice succeeds; what verifying
///   says in place of the record serves undo as well; and it can be applied anew.
/// - Undoing an irreversible step is `Unsupported` and changes nothing.
/// - A read-only step runs under a permit that allows nothing, as often as one likes, and undoing it succeeds.
/// - Cancelled before it begins, `apply` ends within 2 s, and leaves what verifying can tell.
///
/// # Panics
/// When a rule is broken.
pub async fn step(step: &dyn Step) {
    holds("a step has a name", !step.name().is_empty(), "it is empty");
    let suite = Suite { step, cx: Context::new(), permit: permit(step.effect()) };
    match step.effect() {
        Effect::ReadOnly => suite.reads_only().await,
        Effect::Reversible | Effect::Compensatable => {
            suite.refuses_a_small_permit().await;
            suite.is_applied_and_undone().await;
            suite.is_undone_without_its_record().await;
            suite.is_cancelled().await;
        }
        Effect::Irreversible => {
            suite.refuses_a_small_permit().await;
            suite.is_cancelled().await;
            suite.is_applied_for_good().await;
        }
    }
}

fn permit(effect: Effect) -> WritePermit {
    let plan = Draft::new("conformance", ()).action(Action::new("the step", effect)).seal("conformance.step");
    let permit = plan.and_then(|plan| plan.permit(Confirmation::person("the conformance suite")));
    done("the suite can make a permit", permit)
}

struct Suite<'a> {
    step: &'a dyn Step,
    cx: Context,
    permit: WritePermit,
}

impl Suite<'_> {
    async fn apply(&self, rule: &str) -> Value {
        done(rule, self.step.apply(&self.cx, &self.permit).await)
    }

    async fn undo(&self, rule: &str, recorded: &Value) {
        done(rule, self.step.undo(&self.cx, recorded, &self.permit).await);
    }

    async fn verify(&self, recorded: Option<&Value>) -> Verification {
        let rule = "a step can be verified at any time";
        let first = done(rule, self.step.verify(&self.cx, recorded).await);
        let second = done(rule, self.step.verify(&self.cx, recorded).await);
        same("verifying changes nothing", &second, &first);
        first
    }

    /// Looks after `apply` has returned `recorded`; returns what serves undo in its place.
    async fn is_applied(&self, recorded: &Value) -> Option<Value> {
        let rule = "what was applied verifies as applied";
        match self.verify(Some(recorded)).await {
            Verification::Applied(_) => {}
            other => broken(rule, format!("with its record it is {other:?}")),
        }
        match self.verify(None).await {
            Verification::Applied(instead) => Some(instead),
            Verification::Unknown { .. } => None,
            Verification::NotApplied => broken(rule, "without its record it is NotApplied"),
        }
    }

    async fn is_not_applied(&self, rule: &str, recorded: Option<&Value>) {
        let seen = self.verify(recorded).await;
        holds(rule, !matches!(seen, Verification::Applied(_)), format!("it is {seen:?}"));
    }

    async fn refuses_a_small_permit(&self) {
        let rule = "a permit that does not cover the step is refused";
        let small = permit(Effect::ReadOnly);
        let before = self.verify(None).await;
        fails(rule, self.step.apply(&self.cx, &small).await, ErrorKind::Refused);
        same("what is refused changes nothing", &self.verify(None).await, &before);
        if self.step.effect() < Effect::Irreversible {
            let recorded = self.apply("a permitted step is applied").await;
            fails(rule, self.step.undo(&self.cx, &recorded, &small).await, ErrorKind::Refused);
            self.is_applied(&recorded).await;
            self.undo("a permitted step is undone", &recorded).await;
        }
    }

    async fn is_applied_and_undone(&self) {
        self.is_not_applied("what was not applied does not verify as applied", None).await;
        let recorded = self.apply("a permitted step is applied").await;
        self.is_applied(&recorded).await;
        self.undo("a permitted step is undone", &recorded).await;
        self.is_undone(&recorded).await;
        self.undo("undoing twice succeeds", &recorded).await;
        self.is_undone(&recorded).await;
    }

    async fn is_undone(&self, recorded: &Value) {
        // What was made good by something else has left its traces: only a reversible step is as if never applied.
        if self.step.effect() == Effect::Reversible {
            let rule = "what was undone does not verify as applied";
            self.is_not_applied(rule, None).await;
            self.is_not_applied(rule, Some(recorded)).await;
        }
    }

    /// As after a crash between doing and writing down.
    async fn is_undone_without_its_record(&self) {
        let recorded = self.apply("what was undone can be applied anew").await;
        let instead = self.is_applied(&recorded).await;
        self.undo("a step is undone by what verifying found", &instead.unwrap_or(recorded.clone())).await;
        self.is_undone(&recorded).await;
    }

    async fn is_applied_for_good(&self) {
        if !matches!(self.verify(None).await, Verification::Applied(_)) {
            self.apply("a permitted step is applied").await;
        }
        let before = self.verify(None).await;
        let rule = "undoing an irreversible step is Unsupported";
        let recorded = match &before {
            Verification::Applied(recorded) => recorded.clone(),
            _ => Value::Null,
        };
        fails(rule, self.step.undo(&self.cx, &recorded, &self.permit).await, ErrorKind::Unsupported);
        same("what cannot be undone stays", &self.verify(None).await, &before);
    }

    async fn reads_only(&self) {
        let rule = "a read-only step runs at any time";
        let before = self.verify(None).await;
        let recorded = self.apply(rule).await;
        self.apply(rule).await;
        self.undo("undoing a read-only step succeeds", &recorded).await;
        same("a read-only step changes nothing", &self.verify(None).await, &before);
        self.is_cancelled().await;
    }

    async fn is_cancelled(&self) {
        let cx = Context::new();
        cx.cancel();
        let applied = ends("a step that is cancelled ends", GRACE, self.step.apply(&cx, &self.permit)).await;
        let seen = self.verify(None).await;
        if self.step.effect() == Effect::ReadOnly || self.step.effect() == Effect::Irreversible {
            return;
        }
        let recorded = match (applied, seen) {
            (Ok(recorded), _) | (Err(_), Verification::Applied(recorded)) => recorded,
            (Err(_), _) => return,
        };
        self.undo("a step that was cancelled is undone", &recorded).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use serde_json::json;

    use super::super::rule::assert_refused;
    use super::*;
    use crate::error::{Error, Result};

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        None,
        CannotLookWithoutARecord,
        NoName,
        AppliesUnderAnyPermit,
        UndoesUnderAnyPermit,
        AppliesBeforeItRefuses,
        AlwaysApplied,
        NeverApplied,
        LostWithoutARecord,
        LookingUndoes,
        UndoDoesNothing,
        UndoesOnce,
        WrongInstead,
        AppliesOnce,
        UndoesTheIrreversible,
        WritesThoughReadOnly,
        IgnoresCancellation,
    }

    /// Puts up signs, numbered as they come; undo takes down the one it is told.
    #[derive(Debug)]
    struct Sign {
        effect: Effect,
        fault: Fault,
        up: Mutex<BTreeSet<u64>>,
        last: Mutex<u64>,
    }

    #[async_trait]
    impl Step for Sign {
        fn name(&self) -> &str {
            if self.fault == Fault::NoName { "" } else { "sign" }
        }

        fn effect(&self) -> Effect {
            self.effect
        }

        async fn apply(&self, cx: &Context, permit: &WritePermit) -> Result<Value> {
            if self.fault == Fault::IgnoresCancellation && cx.is_cancelled() {
                std::future::pending::<()>().await;
            }
            let allowed = permit.allows(self.effect);
            if self.fault != Fault::AppliesUnderAnyPermit && self.fault != Fault::AppliesBeforeItRefuses {
                allowed?;
            } else if self.fault == Fault::AppliesBeforeItRefuses && allowed.is_err() {
                self.up.lock().unwrap().insert(0);
                return allowed.map(|()| Value::Null);
            }
            let mut last = self.last.lock().unwrap();
            *last += 1;
            if self.fault == Fault::AppliesOnce && *last > 2 {
                return Err(Error::new(ErrorKind::Failed, "put up the sign"));
            }
            if self.effect > Effect::ReadOnly || self.fault == Fault::WritesThoughReadOnly {
                self.up.lock().unwrap().insert(*last);
            }
            Ok(json!(*last))
        }

        async fn verify(&self, _cx: &Context, recorded: Option<&Value>) -> Result<Verification> {
            let mut up = self.up.lock().unwrap();
            if self.fault == Fault::LookingUndoes {
                let seen = up.pop_last();
                return Ok(seen.map_or(Verification::NotApplied, |sign| Verification::Applied(json!(sign))));
            }
            let sign = up.last().copied();
            let unknown = || Verification::Unknown { why: "there is no record".into() };
            Ok(match (self.fault, recorded, sign) {
                (Fault::AlwaysApplied, ..) => Verification::Applied(json!(1)),
                (Fault::NeverApplied, ..) => Verification::NotApplied,
                (Fault::CannotLookWithoutARecord, None, _) => unknown(),
                (Fault::LostWithoutARecord, None, _) => Verification::NotApplied,
                (Fault::WrongInstead, None, Some(_)) => Verification::Applied(json!(999)),
                (_, _, Some(sign)) => Verification::Applied(json!(sign)),
                (_, _, None) => Verification::NotApplied,
            })
        }

        async fn undo(&self, _cx: &Context, recorded: &Value, permit: &WritePermit) -> Result<()> {
            if self.fault != Fault::UndoesUnderAnyPermit {
                permit.allows(self.effect)?;
            }
            if self.effect == Effect::Irreversible && self.fault != Fault::UndoesTheIrreversible {
                return Err(Error::new(ErrorKind::Unsupported, "take down the sign"));
            }
            if self.fault == Fault::UndoDoesNothing {
                return Ok(());
            }
            let was_up = self.up.lock().unwrap().remove(&recorded.as_u64().unwrap_or_default());
            match self.fault {
                Fault::UndoesOnce if !was_up => Err(Error::new(ErrorKind::NotFound, "take down the sign")),
                _ => Ok(()),
            }
        }
    }

    async fn run(effect: Effect, fault: Fault) {
        step(&Sign { effect, fault, up: Mutex::default(), last: Mutex::default() }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn good_steps_pass_whatever_their_effect() {
        for effect in [Effect::ReadOnly, Effect::Reversible, Effect::Compensatable, Effect::Irreversible] {
            run(effect, Fault::None).await;
            run(effect, Fault::CannotLookWithoutARecord).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_broken_step_is_refused_by_its_rule() {
        use Effect::{Irreversible, ReadOnly, Reversible};
        for (effect, fault, rule) in [
            (Reversible, Fault::NoName, "a step has a name"),
            (Reversible, Fault::AppliesUnderAnyPermit, "a permit that does not cover the step is refused"),
            (Reversible, Fault::UndoesUnderAnyPermit, "a permit that does not cover the step is refused"),
            (Irreversible, Fault::AppliesUnderAnyPermit, "a permit that does not cover the step is refused"),
            (Reversible, Fault::AppliesBeforeItRefuses, "what is refused changes nothing"),
            (Reversible, Fault::AlwaysApplied, "what was not applied does not verify as applied"),
            (Reversible, Fault::NeverApplied, "what was applied verifies as applied"),
            (Reversible, Fault::LostWithoutARecord, "what was applied verifies as applied"),
            (Reversible, Fault::LookingUndoes, "verifying changes nothing"),
            (Reversible, Fault::UndoDoesNothing, "what was not applied does not verify as applied"),
            (Reversible, Fault::UndoesOnce, "undoing twice succeeds"),
            (Reversible, Fault::WrongInstead, "what was undone does not verify as applied"),
            (Reversible, Fault::AppliesOnce, "what was undone can be applied anew"),
            (Reversible, Fault::IgnoresCancellation, "a step that is cancelled ends"),
            (Irreversible, Fault::UndoesTheIrreversible, "undoing an irreversible step is Unsupported"),
            (ReadOnly, Fault::WritesThoughReadOnly, "a read-only step changes nothing"),
        ] {
            assert_refused((effect, fault), rule, run(effect, fault)).await;
        }
    }
}
