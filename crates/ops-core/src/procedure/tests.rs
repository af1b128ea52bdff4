use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::*;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::permit::{Confirmation, WritePermit};
use crate::state::{Journal, MemoryState, RunFilter, RunOutcome};
use crate::step::{Effect, Step, Verification};
use crate::testing::{self, Trial};

/// What the steps below change: how often each name is there.
type World = Arc<Mutex<Vec<String>>>;

/// Adds a name, and takes it away.
#[derive(Debug)]
struct Put {
    name: &'static str,
    effect: Effect,
    world: World,
    /// How often it fails before it works, and whether such a failure says that trying again is safe.
    fails: AtomicU32,
    retry: Retry,
    /// Whether it can tell what it did.
    tells: bool,
}

impl Put {
    fn new(name: &'static str, world: &World) -> Self {
        Self {
            name,
            effect: Effect::Reversible,
            world: Arc::clone(world),
            fails: AtomicU32::new(0),
            retry: Retry::Never,
            tells: true,
        }
    }
    fn failing(self, times: u32, retry: Retry) -> Self {
        Self { fails: AtomicU32::new(times), retry, ..self }
    }
    fn with_effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }
}

#[async_trait]
impl Step for Put {
    fn name(&self) -> &str {
        "put"
    }
    fn effect(&self) -> Effect {
        self.effect
    }
    async fn apply(&self, _cx: &Context, permit: &WritePermit) -> Result<Value> {
        permit.allows(self.effect)?;
        if self.fails.load(Ordering::Relaxed) > 0 {
            self.fails.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Failed, "put").because("it does not fit").retry(self.retry));
        }
        if self.effect > Effect::ReadOnly {
            self.world.lock().unwrap().push(self.name.to_owned());
        }
        Ok(json!({ "status": "ok" }))
    }
    async fn verify(&self, _cx: &Context, _recorded: Option<&Value>) -> Result<Verification> {
        if !self.tells {
            return Ok(Verification::Unknown { why: "nobody looked".to_owned() });
        }
        Ok(match self.world.lock().unwrap().iter().any(|name| name == self.name) {
            true => Verification::Applied(json!({ "status": "ok" })),
            false => Verification::NotApplied,
        })
    }
    async fn undo(&self, _cx: &Context, _recorded: &Value, permit: &WritePermit) -> Result<()> {
        permit.allows(self.effect)?;
        if self.effect == Effect::Irreversible {
            return Err(Error::new(ErrorKind::Unsupported, "undo").because("nothing undoes it"));
        }
        self.world.lock().unwrap().retain(|name| name != self.name);
        Ok(())
    }
}

fn procedure(stages: impl IntoIterator<Item = Stage>) -> Procedure {
    let empty = Procedure::new("p", "here").unwrap();
    stages.into_iter().fold(empty, |procedure, stage| procedure.stage(stage).unwrap())
}

async fn run_on(procedure: &Procedure, state: &Arc<MemoryState>) -> Result<RunReport> {
    let plan = procedure.plan()?;
    procedure.run(&Context::new(), &plan, Confirmation::person("alice"), Arc::clone(state) as _).await
}

async fn run(procedure: &Procedure) -> RunReport {
    run_on(procedure, &Arc::default()).await.unwrap()
}

fn standings(report: &RunReport) -> Vec<&str> {
    report.stages.iter().map(|stage| stage.standing.as_str()).collect()
}

const SAFE: Retry = Retry::Safe { after: None };

/// Five steps over one world, of which some read only.
struct Five {
    world: World,
    effects: [Effect; 5],
}

#[async_trait]
impl Trial for Five {
    async fn begin(&self) -> Procedure {
        self.world.lock().unwrap().clear();
        procedure(["a", "b", "c", "d", "e"].into_iter().zip(self.effects).map(|(name, effect)| {
            Stage::new(name, Put::new(name, &self.world).with_effect(effect)).on_failure(OnFailure::RollBack)
        }))
    }
    async fn world(&self) -> Value {
        json!(*self.world.lock().unwrap())
    }
}

#[tokio::test]
async fn a_procedure_keeps_the_rules_wherever_it_is_interrupted() {
    use Effect::{Compensatable, Irreversible, ReadOnly, Reversible};
    for effects in [
        [Reversible; 5],
        [ReadOnly, Reversible, ReadOnly, Compensatable, ReadOnly],
        [Reversible, Reversible, Irreversible, Reversible, ReadOnly],
    ] {
        testing::procedure(&Five { world: World::default(), effects }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_is_tried_again_only_where_that_is_safe_and_it_did_nothing() {
    for (times, retry, retries, expected, attempts) in [
        (1, SAFE, 1, RunOutcome::Succeeded, 2),
        (2, SAFE, 1, RunOutcome::Failed, 2),
        (1, Retry::Never, 5, RunOutcome::Failed, 1),
        (1, Retry::Indeterminate, 5, RunOutcome::Failed, 1),
        (3, SAFE, 3, RunOutcome::Succeeded, 4),
    ] {
        let put = Put::new("a", &World::default()).failing(times, retry);
        let report = run(&procedure([Stage::new("a", put).retried(retries)])).await;
        let case = format!("{times} {retry:?} {retries}");
        assert_eq!((report.outcome, report.stages[0].attempts), (Some(expected), attempts), "{case}");
    }
}

#[tokio::test]
async fn what_nobody_can_tell_ends_the_run_for_a_person() {
    let world = World::default();
    let put = Put { tells: false, ..Put::new("b", &world).failing(1, SAFE) };
    let rolls_back = |stage: Stage| stage.on_failure(OnFailure::RollBack).retried(3);
    let stages = [Stage::new("a", Put::new("a", &world)), Stage::new("b", put)].map(rolls_back);
    let report = run(&procedure(stages)).await;
    assert_eq!(report.outcome, Some(RunOutcome::Unknown));
    assert_eq!(standings(&report), ["applied", "unknown"]);
    assert_eq!(*world.lock().unwrap(), ["a"], "what stands is left alone");
}

#[tokio::test]
async fn what_cannot_be_undone_stops_the_unwinding_and_is_named() {
    let world = World::default();
    let stages = [
        Stage::new("a", Put::new("a", &world)),
        Stage::new("b", Put::new("b", &world).with_effect(Effect::Irreversible)),
        Stage::new("c", Put::new("c", &world)),
        Stage::new("d", Put::new("d", &world).failing(1, Retry::Never)).on_failure(OnFailure::RollBack),
    ];
    let report = run(&procedure(stages)).await;
    assert_eq!(report.outcome, Some(RunOutcome::RollbackFailed));
    assert_eq!(standings(&report), ["applied", "not undone", "undone", "failed"]);
    assert_eq!(*world.lock().unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn a_failure_is_answered_as_the_stage_says() {
    for (on_failure, outcome, expected) in [
        (OnFailure::Stop, RunOutcome::Failed, ["applied", "failed", "pending"]),
        (OnFailure::Continue, RunOutcome::Failed, ["applied", "failed", "applied"]),
        (OnFailure::RollBack, RunOutcome::RolledBack, ["undone", "failed", "pending"]),
    ] {
        let world = World::default();
        let report = run(&procedure([
            Stage::new("a", Put::new("a", &world)),
            Stage::new("b", Put::new("b", &world).failing(1, Retry::Never)).on_failure(on_failure),
            Stage::new("c", Put::new("c", &world)),
        ]))
        .await;
        assert_eq!(
            (report.outcome, standings(&report)),
            (Some(outcome), expected.to_vec()),
            "{on_failure:?}"
        );
    }
}

#[tokio::test]
async fn a_stage_is_due_when_it_says_so() {
    let asks = |when: When| {
        let world = World::default();
        procedure([
            Stage::new("a", Put::new("a", &world)),
            Stage::new("b", Put::new("b", &world).failing(1, Retry::Never)).on_failure(OnFailure::Continue),
            Stage::new("c", Put::new("c", &world)).when(when),
        ])
    };
    let result = |stage: &str, is| When::Result { stage: stage.to_owned(), is: vec![is] };
    let status = |stage: &str, is: &str| When::Status {
        stage: stage.to_owned(),
        is: vec![is.to_owned(), "x".to_owned()],
    };
    for (when, expected) in [
        (result("a", StageResult::Succeeded), "applied"),
        (result("a", StageResult::Failed), "skipped"),
        (result("b", StageResult::Failed), "applied"),
        (status("a", "ok"), "applied"),
        (status("a", "critical"), "skipped"),
        (status("b", "ok"), "skipped"),
    ] {
        assert_eq!(run(&asks(when.clone())).await.stages[2].standing, expected, "{when:?}");
    }
}

#[tokio::test]
async fn one_run_of_a_procedure_and_target_goes_on_at_a_time() {
    #[derive(Debug)]
    struct Waits(Arc<tokio::sync::Notify>, Arc<tokio::sync::Notify>);
    #[async_trait]
    impl Step for Waits {
        fn name(&self) -> &str {
            "wait"
        }
        fn effect(&self) -> Effect {
            Effect::ReadOnly
        }
        async fn apply(&self, _cx: &Context, _permit: &WritePermit) -> Result<Value> {
            self.0.notify_one();
            self.1.notified().await;
            Ok(Value::Null)
        }
        async fn verify(&self, _cx: &Context, _recorded: Option<&Value>) -> Result<Verification> {
            Ok(Verification::NotApplied)
        }
        async fn undo(&self, _cx: &Context, _recorded: &Value, _permit: &WritePermit) -> Result<()> {
            Ok(())
        }
    }
    let (begun, go_on) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let procedure = procedure([Stage::new("a", Waits(Arc::clone(&begun), Arc::clone(&go_on)))]);
    let state = Arc::new(MemoryState::default());
    let first = tokio::spawn({
        let (procedure, state) = (procedure.clone(), Arc::clone(&state));
        async move { run_on(&procedure, &state).await }
    });
    begun.notified().await;
    assert_eq!(run_on(&procedure, &state).await.unwrap_err().kind(), ErrorKind::Busy);
    go_on.notify_one();
    first.await.unwrap().unwrap();
    go_on.notify_one();
    run_on(&procedure, &state).await.unwrap();
    assert_eq!(state.runs(&RunFilter::default()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_rehearsal_reads_and_what_follows_a_write_is_unknown() {
    let world = World::default();
    let look = |name| Stage::new(name, Put::new(name, &world).with_effect(Effect::ReadOnly));
    let report = procedure([look("a"), Stage::new("b", Put::new("b", &world)), look("c")])
        .rehearse(&Context::new())
        .await
        .unwrap();
    assert_eq!(standings(&report), ["applied", "would apply", "unknown"]);
    assert_eq!((report.run, report.outcome), (None, None));
    assert!(world.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_run_is_resumed_as_what_it_was_or_not_at_all() {
    let world = World::default();
    let make = |last: &'static str| {
        procedure([Stage::new("a", Put::new("a", &world)), Stage::new(last, Put::new(last, &world))])
    };
    let state = Arc::new(MemoryState::default());
    let run = run_on(&make("b"), &state).await.unwrap().run.unwrap();
    let cx = Context::new();
    let again = make("b").resume(&cx, run, Arc::clone(&state) as _).await.unwrap();
    assert_eq!(again.outcome, Some(RunOutcome::Succeeded), "one that has ended is reported");
    assert_eq!(*world.lock().unwrap(), ["a", "b"]);
    let changed = make("c").resume(&cx, run, Arc::clone(&state) as _).await.unwrap_err();
    assert_eq!(changed.kind(), ErrorKind::Precondition);
    let none = make("b").resume(&cx, cx.run_id(), Arc::clone(&state) as _).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_plan_of_another_procedure_is_refused() {
    let world = World::default();
    let mine = procedure([Stage::new("a", Put::new("a", &world))]);
    let other = procedure([Stage::new("b", Put::new("b", &world))]);
    let plan = other.plan().unwrap();
    let state = Arc::new(MemoryState::default());
    let error = mine.run(&Context::new(), &plan, Confirmation::person("alice"), state).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(world.lock().unwrap().is_empty());
}

#[test]
fn a_procedure_that_makes_no_sense_is_refused() {
    let world = World::default();
    let stage = |name: &str| Stage::new(name, Put::new("a", &world));
    let two = || procedure([stage("a"), stage("b")]);
    let asks = |about: &str| When::Status { stage: about.to_owned(), is: vec![] };
    let for_good = Put::new("a", &world).with_effect(Effect::Irreversible);
    for wrong in [
        stage("a"),
        stage(" "),
        stage("c").when(asks("d")),
        stage("c").when(asks("c")),
        Stage::new("c", for_good).retried(1),
    ] {
        let name = wrong.name.clone();
        assert_eq!(two().stage(wrong).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
    }
    assert!(Procedure::new("", "here").is_err());
    two().stage(stage("c").when(asks("b")).within(Duration::from_secs(1))).unwrap();
}
