//! What every operation is given: a clock, a deadline, cancellation, a run id, a place to report progress.

use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::baseline::{Baselines, MemoryBaselines};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::state::History;

/// Wall time, injected so that tests need not wait for it.
pub trait Clock: Send + Sync + Debug {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// Where an operation says how far it is.
pub trait Progress: Send + Sync + Debug {
    /// One line about what happens now.
    fn say(&self, line: &str);
}

#[derive(Clone, Copy, Debug)]
struct Silent;

impl Progress for Silent {
    fn say(&self, _line: &str) {}
}

/// Identifies one run: a UUIDv7, so that ids sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(uuid::Uuid);

impl std::str::FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        uuid::Uuid::parse_str(text).map(Self).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "read the run's id").on(text).because(error.to_string())
        })
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// What a run has cost the servers it looked at.
#[derive(Debug, Default)]
pub struct CostMeter {
    round_trips: AtomicU64,
    server_micros: AtomicU64,
}

impl CostMeter {
    /// Counts one round trip that took `took`, seen from the client.
    pub fn round_trip(&self, took: Duration) {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.server_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Round trips so far.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// Time spent waiting for servers so far.
    pub fn server_time(&self) -> Duration {
        Duration::from_micros(self.server_micros.load(Ordering::Relaxed))
    }
}

/// Time allowed, to which waiting for one's turn does not count: a probe that queues behind a slow sibling on
/// their one connection must not be blamed for it.
#[derive(Debug)]
struct Budget {
    began: Instant,
    end: Mutex<BudgetEnd>,
}

#[derive(Debug)]
struct BudgetEnd {
    at: Instant,
    waiting_since: Option<Instant>,
}

impl Budget {
    fn new(allowed: Duration) -> Self {
        let began = Instant::now();
        Self { began, end: Mutex::new(BudgetEnd { at: began + allowed, waiting_since: None }) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut BudgetEnd) -> T) -> T {
        f(&mut self.end.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ends_at(&self) -> Instant {
        self.with(|end| end.at + end.waiting_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }
}

/// The end of the whole run that a look is a part of.
#[derive(Clone, Copy, Debug)]
struct RunEnd {
    at: Instant,
    allowed: Duration,
}

/// Given to every method of the five traits. Cheap to clone; clones share cancellation, progress and cost.
///
/// ```
/// use std::time::Duration;
/// use ops_core::{Context, ErrorKind};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let cx = Context::new().with_deadline(Duration::from_millis(10));
/// let late = cx.run("wait", std::future::pending::<ops_core::Result<()>>()).await;
/// assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
    budget: Option<Arc<Budget>>,
    hard_end: Option<Instant>,
    run_end: Option<RunEnd>,
    run_id: RunId,
    progress: Arc<dyn Progress>,
    baselines: Arc<dyn Baselines>,
    history: Option<Arc<dyn History>>,
    window_gap: Duration,
    cost: Arc<CostMeter>,
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Context {
    /// A context with the system's clock, no deadline, and baselines kept in memory.
    pub fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            cancel: CancellationToken::new(),
            budget: None,
            hard_end: None,
            run_end: None,
            run_id: RunId(uuid::Uuid::now_v7()),
            progress: Arc::new(Silent),
            baselines: Arc::new(MemoryBaselines::default()),
            history: None,
            window_gap: Duration::from_secs(1),
            cost: Arc::new(CostMeter::default()),
        }
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Replaces the progress sink.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Progress + 'static) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// Replaces the store of baselines for windowed rates (see [`window`](crate::window)).
    #[must_use]
    pub fn with_baselines(mut self, baselines: Arc<dyn Baselines>) -> Self {
        self.baselines = baselines;
        self
    }

    /// Gives probes what was measured before, for trends (see [`trend`](crate::trend)).
    #[must_use]
    pub fn with_history(mut self, history: Arc<dyn History>) -> Self {
        self.history = Some(history);
        self
    }

    /// How far apart two samples are taken when no baseline is stored; 1 s by default.
    #[must_use]
    pub fn with_window_gap(mut self, gap: Duration) -> Self {
        self.window_gap = gap;
        self
    }

    /// A child that ends with its parent, and can be cancelled by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { cancel: self.cancel.child_token(), ..self.clone() }
    }

    /// A child that ends after `allowed`, or with its parent, and can be cancelled by itself.
    #[must_use]
    pub fn with_deadline(&self, allowed: Duration) -> Self {
        let mut child = self.child();
        // What bounds the parent bounds the child, whether or not the child waits for its turn.
        child.hard_end = self.deadline();
        child.budget = Some(Arc::new(Budget::new(allowed)));
        child
    }

    /// A child for one look of the run that this is. It knows the run's end from its own: a run that ends first says
    /// nothing about what was looked at.
    pub(crate) fn for_look(&self, allowed: Duration) -> Self {
        let mut look = self.with_deadline(allowed);
        let began = self.budget.as_ref().map(|budget| budget.began);
        look.run_end = began.zip(look.hard_end).map(|(began, at)| RunEnd { at, allowed: at - began });
        look
    }

    /// A new run under the same settings: its own id, its own cost.
    #[must_use]
    pub fn new_run(&self) -> Self {
        let mut run = self.clone();
        run.cancel = self.cancel.child_token();
        run.run_id = RunId(uuid::Uuid::now_v7());
        run.cost = Arc::new(CostMeter::default());
        run
    }

    /// The wall time now.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// When this context ends, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        let own = self.budget.as_ref().map(|budget| budget.ends_at());
        [own, self.hard_end].into_iter().flatten().min()
    }

    /// Time left, if there is a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// The run's id.
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    /// Says what happens now.
    pub fn say(&self, line: &str) {
        self.progress.say(line);
    }

    /// What was measured before, where anything keeps it.
    pub fn history(&self) -> Option<&dyn History> {
        self.history.as_deref()
    }

    /// The store of baselines.
    pub fn baselines(&self) -> &dyn Baselines {
        &*self.baselines
    }

    /// How far apart two samples are taken when no baseline is stored.
    pub fn window_gap(&self) -> Duration {
        self.window_gap
    }

    /// What this run has cost so far.
    pub fn cost(&self) -> &CostMeter {
        &self.cost
    }

    /// Cancels this context and its children.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Whether it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Completes when it is cancelled.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Completes when the deadline is over; never without one. Waiting under [`Context::waiting`] moves it.
    pub async fn expired(&self) {
        while let Some(end) = self.deadline() {
            let now = Instant::now();
            if end <= now {
                return;
            }
            // A deadline that moves while its owner waits is looked at again, not slept through.
            tokio::time::sleep(end.duration_since(now).min(Duration::from_millis(100))).await;
        }
        std::future::pending().await
    }

    /// Awaits one's turn: the time it takes does not count against this context's own deadline, though it does
    /// against its parent's.
    pub async fn waiting<T>(&self, turn: impl Future<Output = T>) -> T {
        let Some(budget) = &self.budget else { return turn.await };
        let outermost = budget.with(|end| match end.waiting_since {
            Some(_) => false,
            None => {
                end.waiting_since = Some(Instant::now());
                true
            }
        });
        // Dropped mid-wait, the budget would stay paused for ever: the guard ends the pause in every case.
        let _resume = outermost.then(|| Resume(budget));
        turn.await
    }

    /// Runs `work`, an operation named by a verb phrase, until it is done, cancelled, or out of time. On either
    /// of the latter `work` is dropped: work that must clean up watches [`Context::cancelled`] itself.
    ///
    /// # Errors
    /// Those of `work`, `Cancelled`, or `Timeout`; the last two say `Indeterminate`, since the other side may
    /// have gone on. A probe whose run ends before its own deadline is `Cancelled`: nobody knows whether the server
    /// would have answered in time.
    pub async fn run<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        tokio::select! {
            biased;
            result = work => result,
            () = self.cancelled() => {
                Err(Error::new(ErrorKind::Cancelled, operation).because("cancelled").retry(Retry::Indeterminate))
            }
            () = self.expired() => {
                Err(self.out_of_time(operation, format!("no answer within {}", in_words(started.elapsed()))))
            }
        }
    }

    /// The error of an operation that the deadline ended; `why` holds where that was its own.
    pub(crate) fn out_of_time(&self, operation: &'static str, why: String) -> Error {
        let (kind, why) = match self.cut_short_by_run() {
            Some(run) => (ErrorKind::Cancelled, format!("the run's {} ended first", in_words(run))),
            None => (ErrorKind::Timeout, why),
        };
        Error::new(kind, operation).because(why).retry(Retry::Indeterminate)
    }

    /// What the run was allowed, where its end lies before this context's own. A probe begins a moment after its
    /// run: one that has had all but a hundredth of its time has had its time.
    fn cut_short_by_run(&self) -> Option<Duration> {
        let (run, own) = (self.run_end?, self.budget.as_ref()?);
        let own_end = own.ends_at();
        let run_first = self.deadline()? >= run.at && own_end > run.at + (own_end - own.began) / 100;
        run_first.then_some(run.allowed)
    }
}

fn in_words(time: Duration) -> String {
    match time.as_millis() {
        short @ ..1000 => format!("{short} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

struct Resume<'a>(&'a Budget);

impl Drop for Resume<'_> {
    fn drop(&mut self) {
        self.0.with(|end| {
            if let Some(since) = end.waiting_since.take() {
                end.at += since.elapsed();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_for_ones_turn_does_not_count() {
        let cx = Context::new().with_deadline(Duration::from_secs(5));
        cx.waiting(tokio::time::sleep(Duration::from_secs(60))).await;
        let left = cx.remaining().unwrap();
        assert!(left > Duration::from_secs(4), "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_does_not_outlive_the_parent() {
        let parent = Context::new().with_deadline(Duration::from_secs(30));
        let child = parent.with_deadline(Duration::from_secs(5));
        let result = child
            .run("wait", async {
                child.waiting(std::future::pending::<()>()).await;
                Ok(())
            })
            .await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(parent.remaining(), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_cancelled_parent_cancels_its_children() {
        let parent = Context::new();
        let child = parent.with_deadline(Duration::from_secs(5));
        parent.cancel();
        let result = child.run("wait", std::future::pending::<Result<()>>()).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
