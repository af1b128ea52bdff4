//! Maintenance: a task plans a change, then executes exactly that plan, and measures whether it helped.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::measurement::Measurement;
use crate::millis;
use crate::permit::WritePermit;
use crate::plan::{Draft, Plan, PlanHash};
use crate::redact::redact;
use crate::threshold::Direction;

/// Plans a change, and executes exactly what was planned. Most authors write [`TypedTask`] instead.
///
/// `plan` only reads, and two plans in a row of an unchanged target have the same hash. `execute` first asks
/// [`WritePermit::authorises`], then looks at its preconditions again (the target may have changed since it was
/// planned), is bounded in what it does per run, and ends by measuring what it promised. Executing a plan twice is
/// safe: the second time finds the work done.
///
/// Cancelled or out of time after it has begun, `execute` stops the work on the server too, and returns a report
/// of what is done with the rest as [`TaskReport::left`]; nothing is rolled back that is useful by itself.
///
/// # Errors
/// `Refused` for a permit or a plan that is not this task's. `Precondition` when the target changed so that the
/// plan no longer fits: plan anew. `Busy` when the same task runs already.
#[async_trait]
pub trait MaintenanceTask: Send + Sync + Debug {
    /// The task's stable name, `family.verb`, such as `pg.vacuum`.
    fn name(&self) -> &str;

    /// Looks at what is to be done. A plan without actions says that there is nothing to do.
    async fn plan(&self, cx: &Context) -> Result<Plan>;

    /// Does what `plan` says.
    async fn execute(&self, cx: &Context, plan: &Plan, permit: WritePermit) -> Result<TaskReport>;
}

// `Box` has no such impl: it could be a `TypedTask` in another crate, where `Arc` can't. `Arc::from` takes a box.
#[async_trait]
impl<T: MaintenanceTask + ?Sized> MaintenanceTask for Arc<T> {
    fn name(&self) -> &str {
        (**self).name()
    }
    async fn plan(&self, cx: &Context) -> Result<Plan> {
        (**self).plan(cx).await
    }
    async fn execute(&self, cx: &Context, plan: &Plan, permit: WritePermit) -> Result<TaskReport> {
        (**self).execute(cx, plan, permit).await
    }
}

/// A [`MaintenanceTask`] whose payload has a type. The contract is the same; sealing the plan, checking it and its
/// permit, and reading the payload back are done before [`TypedTask::execute`] is called.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use ops_core::{
///     Action, Confirmation, Context, Draft, Effect, MaintenanceTask, Measurement, Plan, Result, TaskReport,
///     TypedTask, Unit, Verdict, WritePermit,
/// };
///
/// #[derive(Debug)]
/// struct Sweep(AtomicU32);
///
/// impl Sweep {
///     fn dust(&self) -> Measurement {
///         Measurement::new("dust", self.0.load(Ordering::Relaxed).into(), Unit::Count)
///     }
/// }
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Rooms(Vec<String>);
///
/// #[async_trait::async_trait]
/// impl TypedTask for Sweep {
///     type Work = Rooms;
///
///     fn name(&self) -> &str {
///         "house.sweep"
///     }
///     async fn plan(&self, _cx: &Context) -> Result<Draft<Rooms>> {
///         Ok(Draft::new("house", Rooms(vec!["hall".into()]))
///             .action(Action::new("sweep the hall", Effect::Reversible)))
///     }
///     async fn execute(&self, _cx: &Context, plan: &Plan, _work: Rooms, _permit: WritePermit) -> Result<TaskReport> {
///         let before = self.dust();
///         self.0.store(0, Ordering::Relaxed);
///         Ok(TaskReport::new(plan, "swept the hall").proof(before, self.dust(), 0.0))
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let task: &dyn MaintenanceTask = &Sweep(AtomicU32::new(7));
/// let cx = Context::new();
/// let plan = task.plan(&cx).await?;
/// let permit = plan.permit(Confirmation::unattended("spring"))?;
/// let report = task.execute(&cx, &plan, permit).await?;
/// assert_eq!(report.verdict, Verdict::Improved);
/// # Ok::<(), ops_core::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait TypedTask: Send + Sync + Debug {
    /// What executing needs to know: written into the plan's payload as JSON. No secret, and nothing that changes
    /// with time alone, belongs in it.
    type Work: Serialize + DeserializeOwned + Send + Sync;

    /// The task's stable name, `family.verb`.
    fn name(&self) -> &str;

    /// Looks at what is to be done.
    async fn plan(&self, cx: &Context) -> Result<Draft<Self::Work>>;

    /// Does what the plan says: `plan` for its target and actions, `work` for its payload.
    async fn execute(
        &self,
        cx: &Context,
        plan: &Plan,
        work: Self::Work,
        permit: WritePermit,
    ) -> Result<TaskReport>;
}

#[async_trait]
impl<T: TypedTask> MaintenanceTask for T {
    fn name(&self) -> &str {
        TypedTask::name(self)
    }

    async fn plan(&self, cx: &Context) -> Result<Plan> {
        TypedTask::plan(self, cx).await?.seal(TypedTask::name(self))
    }

    async fn execute(&self, cx: &Context, plan: &Plan, permit: WritePermit) -> Result<TaskReport> {
        permit.authorises(TypedTask::name(self), plan)?;
        let work = T::Work::deserialize(plan.payload()).map_err(|cause| {
            Error::new(ErrorKind::Refused, "read the plan")
                .on(plan.target())
                .because("its payload is not what this version of the task writes; plan anew")
                .caused_by(cause)
        })?;
        TypedTask::execute(self, cx, plan, work, permit).await
    }
}

/// Whether a task did what it promised, as measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better than before.
    Improved,
    /// As before.
    NoEffect,
    /// Worse than before.
    Worse,
    /// Not measured before and after, or not comparable.
    Unproven,
}

impl Verdict {
    /// Compares a measurement with itself later, in the direction it declares. A difference of at most `noise`, in
    /// the measurement's unit, is no effect: others change the same server meanwhile.
    ///
    /// ```
    /// use ops_core::{Measurement, Unit, Verdict};
    /// let dead = |rows| Measurement::new("dead", rows, Unit::Count);
    /// assert_eq!(Verdict::of(&dead(10_000.0), &dead(40.0), 100.0), Verdict::Improved);
    /// assert_eq!(Verdict::of(&dead(10_000.0), &dead(10_040.0), 100.0), Verdict::NoEffect);
    /// ```
    pub fn of(before: &Measurement, after: &Measurement, noise: f64) -> Self {
        let same = before.name == after.name
            && before.unit == after.unit
            && before.labels == after.labels
            && before.direction == after.direction;
        let rise = after.value - before.value;
        let worsening = match before.direction {
            Direction::Above => rise,
            Direction::Below => -rise,
        };
        if !same || worsening.is_nan() || noise.is_nan() {
            Verdict::Unproven
        } else if worsening.abs() <= noise {
            Verdict::NoEffect
        } else if worsening > 0.0 {
            Verdict::Worse
        } else {
            Verdict::Improved
        }
    }

    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Improved => "improved",
            Verdict::NoEffect => "no_effect",
            Verdict::Worse => "worse",
            Verdict::Unproven => "unproven",
        }
    }

    /// What several say together: one that is worse is not made good by another that is better, and one that
    /// could not be told leaves the whole untold.
    fn and(self, other: Self) -> Self {
        let weight = |verdict| match verdict {
            Verdict::NoEffect => 0,
            Verdict::Improved => 1,
            Verdict::Unproven => 2,
            Verdict::Worse => 3,
        };
        if weight(other) > weight(self) { other } else { self }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a task promised to change, before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Proof {
    /// Before anything was done.
    pub before: Measurement,
    /// Afterwards, by the same probe.
    pub after: Measurement,
    /// What the two say.
    pub verdict: Verdict,
}

/// Something that a task did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Done {
    /// The statement, command or request, redacted.
    pub statement: String,
    /// How long it took, in milliseconds in JSON.
    #[serde(rename = "took_ms", with = "millis")]
    #[schemars(with = "f64")]
    pub took: Duration,
}

/// Something that a task planned and did not do; the next run goes on with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Left {
    /// What.
    pub what: String,
    /// Why, redacted.
    pub why: String,
}

/// What a task did, and whether it helped. Its verdict follows from its proofs; without any it is `Unproven`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct TaskReport {
    /// The task.
    pub task: String,
    /// What it was done to.
    pub target: String,
    /// The plan that was executed.
    pub plan: PlanHash,
    /// Whether it helped.
    pub verdict: Verdict,
    /// One line.
    pub summary: String,
    /// What was promised, before and after.
    pub proofs: Vec<Proof>,
    /// What was done, in order.
    pub done: Vec<Done>,
    /// What was planned and not done.
    pub left: Vec<Left>,
}

impl TaskReport {
    /// A report on the execution of `plan` that proves nothing yet. See [`TypedTask`] for an example.
    pub fn new(plan: &Plan, summary: impl Into<String>) -> Self {
        Self {
            task: plan.task().to_owned(),
            target: plan.target().to_owned(),
            plan: plan.hash().clone(),
            verdict: Verdict::Unproven,
            summary: redact(&summary.into()),
            proofs: Vec::new(),
            done: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Adds what was promised, before and after (see [`Verdict::of`]).
    #[must_use]
    pub fn proof(mut self, before: Measurement, after: Measurement, noise: f64) -> Self {
        let verdict = Verdict::of(&before, &after, noise);
        self.verdict = if self.proofs.is_empty() { verdict } else { self.verdict.and(verdict) };
        self.proofs.push(Proof { before, after, verdict });
        self
    }

    /// Adds something that was done.
    #[must_use]
    pub fn done(mut self, statement: impl AsRef<str>, took: Duration) -> Self {
        self.done.push(Done { statement: redact(statement.as_ref()), took });
        self
    }

    /// Adds something that was planned and not done.
    #[must_use]
    pub fn left(mut self, what: impl Into<String>, why: impl AsRef<str>) -> Self {
        self.left.push(Left { what: what.into(), why: redact(why.as_ref()) });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permit::Confirmation;
    use crate::threshold::Threshold;
    use crate::unit::Unit;

    fn above(value: f64) -> Measurement {
        Measurement::new("dead", value, Unit::Count)
    }

    fn below(value: f64) -> Measurement {
        Measurement::new("hits", value, Unit::Percent).judged_by(Threshold::below(70.0, 50.0))
    }

    #[test]
    fn a_verdict_follows_from_the_measurements() {
        for (before, after, noise, expected) in [
            (above(10.0), above(1.0), 0.0, Verdict::Improved),
            (above(10.0), above(10.0), 0.0, Verdict::NoEffect),
            (above(10.0), above(12.0), 2.0, Verdict::NoEffect),
            (above(10.0), above(12.1), 2.0, Verdict::Worse),
            (below(50.0), below(80.0), 1.0, Verdict::Improved),
            (below(80.0), below(50.0), 1.0, Verdict::Worse),
            (above(10.0), above(f64::NAN), 0.0, Verdict::Unproven),
            (above(10.0), below(1.0), 0.0, Verdict::Unproven),
            (above(10.0), above(1.0).label("table", "t"), 0.0, Verdict::Unproven),
        ] {
            assert_eq!(Verdict::of(&before, &after, noise), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn several_proofs_are_as_good_as_the_worst_allows() {
        let plan = Draft::new("x", ()).seal("t.task").unwrap();
        let report = TaskReport::new(&plan, "s");
        assert_eq!(report.verdict, Verdict::Unproven);
        let report = report.proof(above(5.0), above(5.0), 0.0);
        assert_eq!(report.verdict, Verdict::NoEffect);
        let report = report.proof(above(5.0), above(1.0), 0.0);
        assert_eq!(report.verdict, Verdict::Improved);
        let report = report.proof(above(5.0), above(f64::NAN), 0.0);
        assert_eq!(report.verdict, Verdict::Unproven);
        let report = report.proof(above(5.0), above(9.0), 0.0).proof(above(5.0), above(1.0), 0.0);
        assert_eq!(report.verdict, Verdict::Worse);
    }

    #[derive(Debug)]
    struct Counts;

    #[async_trait]
    impl TypedTask for Counts {
        type Work = u32;
        fn name(&self) -> &str {
            "t.counts"
        }
        async fn plan(&self, _cx: &Context) -> Result<Draft<u32>> {
            Ok(Draft::new("x", 3))
        }
        async fn execute(
            &self,
            _cx: &Context,
            plan: &Plan,
            work: u32,
            _permit: WritePermit,
        ) -> Result<TaskReport> {
            Ok(TaskReport::new(plan, format!("counted to {work}")))
        }
    }

    #[tokio::test]
    async fn a_typed_task_gets_its_own_work_back_and_nothing_else() {
        let task: Arc<dyn MaintenanceTask> = Arc::new(Counts);
        let cx = Context::new();
        let alice = || Confirmation::person("alice");
        let plan = task.plan(&cx).await.unwrap();
        let report = task.execute(&cx, &plan, plan.permit(alice()).unwrap()).await.unwrap();
        assert_eq!((report.summary.as_str(), &report.plan), ("counted to 3", plan.hash()));

        let other_payload = Draft::new("x", "three").seal("t.counts").unwrap();
        let other_task = Draft::new("x", 3).seal("t.other").unwrap();
        for (plan, permitted) in
            [(&other_payload, &other_payload), (&other_task, &other_task), (&plan, &other_task)]
        {
            let error = task.execute(&cx, plan, permitted.permit(alice()).unwrap()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{plan:?}");
        }
    }
}
