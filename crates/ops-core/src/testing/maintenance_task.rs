//! The rules of [`MaintenanceTask`].

use serde_json::{Value, json};

use super::rule::{done, error_keeps_secrets, fails, holds, is_stable_name, keeps_secrets, same};
use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::permit::{Confirmation, WritePermit};
use crate::plan::{Action, Draft, Plan};
use crate::step::Effect;
use crate::task::{MaintenanceTask, TaskReport, Verdict};

/// Checks a task on a target that it may change, with work to do, which nobody else changes meanwhile. It is
/// **executed**, twice.
///
/// - The name is `family.verb` in lowercase.
/// - Planning only reads: two plans in a row have one hash. A plan names its task and a target.
/// - Refused, before anything is done: a permit for another plan, a plan of another task, a plan that was altered.
/// - The report names the plan, its task and target, and its verdict is not `Worse`.
/// - Executing the same plan twice is safe: the second time changes nothing for the worse, or says
///   `Precondition`.
/// - `secrets` (passwords, keys that the target was given) show up neither in a plan, nor in a report, an error, or
///   any `Debug`.
///
/// # Panics
/// When a rule is broken, or when there is nothing to do.
pub async fn maintenance_task(task: &dyn MaintenanceTask, secrets: &[&str]) {
    let name = task.name();
    holds("a task's name is family.verb", is_stable_name(name), format!("{name:?}"));
    keeps_secrets("a task keeps its secrets", "its Debug", &format!("{task:?}"), secrets);

    let cx = Context::new();
    let plan = planned("a task can plan", task, &cx, secrets).await;
    let has_work = !plan.actions().is_empty();
    holds("the suite needs a target with work to do", has_work, "the plan has no actions");
    same("a plan names its task", plan.task(), name);
    holds("a plan names its target", !plan.target().is_empty(), "the target is empty");
    done("a plan is what its hash says", plan.intact());
    let second = planned("a task can plan twice", task, &cx, secrets).await;
    same("planning changes nothing: two plans have one hash", second.hash(), plan.hash());

    refuses(task, &cx, &plan, secrets).await;

    let report = execute(task, &cx, &plan, secrets).await;
    check_report(&done("a permitted plan is executed", report), &plan);
    let again = execute(task, &cx, &plan, secrets).await;
    match again {
        Err(error) if error.kind() == ErrorKind::Precondition => {}
        result => check_report(&done("executing a plan twice is safe", result), &plan),
    }
}

fn person() -> Confirmation {
    Confirmation::person("the conformance suite")
}

fn permit(plan: &Plan) -> WritePermit {
    done("a plan of the suite can be permitted", plan.permit(person()))
}

async fn planned(rule: &str, task: &dyn MaintenanceTask, cx: &Context, secrets: &[&str]) -> Plan {
    let result = task.plan(cx).await;
    if let Err(error) = &result {
        error_keeps_secrets("a task keeps its secrets", error, secrets);
    }
    let plan = done(rule, result);
    let text = serde_json::to_string(&plan).unwrap_or_default();
    keeps_secrets("a task keeps its secrets", "a plan", &text, secrets);
    plan
}

/// Everything that must be refused, and that it was refused before anything was done.
async fn refuses(task: &dyn MaintenanceTask, cx: &Context, plan: &Plan, secrets: &[&str]) {
    let other = other_plan("conformance.other", plan);
    let sibling = other_plan(task.name(), plan);
    for (rule, plan, permitted) in [
        ("a permit for another task's plan is refused", plan, &other),
        ("a permit for another plan is refused", plan, &sibling),
        ("another task's plan is refused", &other, &other),
        ("an altered plan is refused", &altered(plan), plan),
    ] {
        let error = fails(rule, task.execute(cx, plan, permit(permitted)).await, ErrorKind::Refused);
        error_keeps_secrets("a task keeps its secrets", &error, secrets);
    }
    let after = planned("a task can plan after it refused", task, cx, secrets).await;
    same("what is refused changes nothing", after.hash(), plan.hash());
}

/// A plan like `plan`, of the task of that name, that does something else besides.
fn other_plan(task: &str, plan: &Plan) -> Plan {
    let draft = Draft::new(plan.target(), plan.payload().clone());
    let draft = plan.actions().iter().cloned().fold(draft, Draft::action);
    let another = Action::new("something else", Effect::Reversible);
    done("the suite can make a plan", draft.action(another).seal(task))
}

/// `plan` with its hash, and one more action that the hash does not know.
fn altered(plan: &Plan) -> Plan {
    let alter = || -> serde_json::Result<Plan> {
        let mut document = serde_json::to_value(plan)?;
        if let Some(actions) = document.get_mut("actions").and_then(Value::as_array_mut) {
            actions.push(json!({"statement": "something else", "effect": "reversible"}));
        }
        serde_json::from_value(document)
    };
    alter().unwrap_or_else(|error| super::rule::broken("a plan survives its journey through JSON", error))
}

async fn execute(
    task: &dyn MaintenanceTask,
    cx: &Context,
    plan: &Plan,
    secrets: &[&str],
) -> Result<TaskReport> {
    let result = task.execute(cx, plan, permit(plan)).await;
    match &result {
        Ok(report) => {
            let text = serde_json::to_string(report).unwrap_or_default();
            keeps_secrets("a task keeps its secrets", "a report", &text, secrets);
        }
        Err(error) => error_keeps_secrets("a task keeps its secrets", error, secrets),
    }
    result
}

fn check_report(report: &TaskReport, plan: &Plan) {
    let named = (report.task.as_str(), report.target.as_str(), &report.plan);
    same("a report names what was executed", named, (plan.task(), plan.target(), plan.hash()));
    holds("a task makes nothing worse", report.verdict != Verdict::Worse, &report.summary);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::super::rule::assert_refused;
    use super::*;
    use crate::error::Error;
    use crate::measurement::Measurement;
    use crate::unit::Unit;

    const PASSWORD: &str = "hunter2";

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        None,
        IsStale,
        BadName,
        NothingToDo,
        PlansForAnother,
        PlanningSweeps,
        TakesAnyPermit,
        LooksAtTheHashAlone,
        SweepsBeforeItRefuses,
        ReportsAnother,
        SoilsTheSecondTime,
        FailsTheSecondTime,
        ShowsInPlan,
        ShowsInReport,
    }

    /// Sweeps a floor; written by hand, so that it can do wrong what a `TypedTask` can't.
    #[derive(Debug)]
    struct Sweep {
        fault: Fault,
        dust: AtomicU32,
        runs: AtomicU32,
    }

    impl Sweep {
        fn measure(&self) -> Measurement {
            Measurement::new("dust", self.dust.load(Ordering::Relaxed).into(), Unit::Count)
        }

        fn check(&self, plan: &Plan, permit: &WritePermit) -> Result<()> {
            match self.fault {
                Fault::TakesAnyPermit => Ok(()),
                Fault::LooksAtTheHashAlone if permit.plan() == plan.hash() => Ok(()),
                Fault::SweepsBeforeItRefuses => {
                    self.dust.store(0, Ordering::Relaxed);
                    permit.authorises(self.name(), plan)
                }
                _ => permit.authorises(self.name(), plan),
            }
        }
    }

    #[async_trait]
    impl MaintenanceTask for Sweep {
        fn name(&self) -> &str {
            if self.fault == Fault::BadName { "sweep" } else { "house.sweep" }
        }

        async fn plan(&self, _cx: &Context) -> Result<Plan> {
            let dust = self.dust.load(Ordering::Relaxed);
            if self.fault == Fault::PlanningSweeps {
                self.dust.fetch_sub(1, Ordering::Relaxed);
            }
            let task = if self.fault == Fault::PlansForAnother { "house.mop" } else { self.name() };
            let mut draft = Draft::new("house", dust);
            if self.fault != Fault::NothingToDo {
                draft = draft.action(Action::new("sweep", Effect::Irreversible));
            }
            if self.fault == Fault::ShowsInPlan {
                draft = draft.action(Action::new(format!("sweep as {PASSWORD}"), Effect::Irreversible));
            }
            draft.seal(task)
        }

        async fn execute(&self, _cx: &Context, plan: &Plan, permit: WritePermit) -> Result<TaskReport> {
            self.check(plan, &permit)?;
            let second = self.runs.fetch_add(1, Ordering::Relaxed) == 1;
            let before = self.measure();
            self.dust.store(0, Ordering::Relaxed);
            let failed = |kind| Err(Error::new(kind, "sweep"));
            match self.fault {
                Fault::IsStale if second => return failed(ErrorKind::Precondition),
                Fault::FailsTheSecondTime if second => return failed(ErrorKind::Failed),
                Fault::SoilsTheSecondTime if second => self.dust.store(9, Ordering::Relaxed),
                _ => {}
            }
            let summary = if self.fault == Fault::ShowsInReport { PASSWORD } else { "swept" };
            let other = Draft::new("house", ()).seal(self.name())?;
            let plan = if self.fault == Fault::ReportsAnother { &other } else { plan };
            Ok(TaskReport::new(plan, summary).proof(before, self.measure(), 0.0))
        }
    }

    async fn run(fault: Fault) {
        let sweep = Sweep { fault, dust: AtomicU32::new(7), runs: AtomicU32::new(0) };
        maintenance_task(&sweep, &[PASSWORD]).await;
    }

    #[tokio::test]
    async fn a_good_task_passes_whether_it_repeats_itself_or_asks_to_plan_anew() {
        run(Fault::None).await;
        run(Fault::IsStale).await;
    }

    #[tokio::test]
    async fn each_broken_task_is_refused_by_its_rule() {
        for (fault, rule) in [
            (Fault::BadName, "a task's name is family.verb"),
            (Fault::NothingToDo, "the suite needs a target with work to do"),
            (Fault::PlansForAnother, "a plan names its task"),
            (Fault::PlanningSweeps, "planning changes nothing: two plans have one hash"),
            (Fault::TakesAnyPermit, "a permit for another task's plan is refused"),
            (Fault::LooksAtTheHashAlone, "another task's plan is refused"),
            (Fault::SweepsBeforeItRefuses, "what is refused changes nothing"),
            (Fault::ReportsAnother, "a report names what was executed"),
            (Fault::SoilsTheSecondTime, "a task makes nothing worse"),
            (Fault::FailsTheSecondTime, "executing a plan twice is safe"),
            (Fault::ShowsInPlan, "a task keeps its secrets"),
            (Fault::ShowsInReport, "a task keeps its secrets"),
        ] {
            assert_refused(fault, rule, run(fault)).await;
        }
    }
}
