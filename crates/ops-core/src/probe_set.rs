//! Several probes run as one: concurrently, each within its deadline, with one report for all.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::gone;
use crate::health::{Cost, HealthReport};
use crate::probe::HealthProbe;
use crate::report::ProbeReport;
use crate::result::ProbeResult;
use crate::shared_run::SharedRun;

/// How a [`ProbeSet`] runs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProbeSetOptions {
    /// What one probe may take, waiting for its turn on a shared connection apart. 5 s.
    pub probe_deadline: Duration,
    /// What the whole run may take. 30 s. A probe that it cuts short is `Unknown`: the server was not given its time.
    pub run_deadline: Duration,
    /// Probes in flight at once. 64: probes of one target queue at its one connection by themselves.
    pub concurrency: usize,
    /// How long [`ProbeSet::cached`] answers from the last run. 5 s.
    pub cache_for: Duration,
}

impl Default for ProbeSetOptions {
    fn default() -> Self {
        Self {
            probe_deadline: Duration::from_secs(5),
            run_deadline: Duration::from_secs(30),
            concurrency: 64,
            cache_for: Duration::from_secs(5),
        }
    }
}

impl ProbeSetOptions {
    /// Sets what one probe may take.
    #[must_use]
    pub fn with_probe_deadline(mut self, deadline: Duration) -> Self {
        self.probe_deadline = deadline;
        self
    }

    /// Sets what the whole run may take.
    #[must_use]
    pub fn with_run_deadline(mut self, deadline: Duration) -> Self {
        self.run_deadline = deadline;
        self
    }

    /// Sets how many probes are in flight at once; at least one.
    #[must_use]
    pub fn with_concurrency(mut self, probes: usize) -> Self {
        self.concurrency = probes.max(1);
        self
    }

    /// Sets how long a cached report serves.
    #[must_use]
    pub fn with_cache_for(mut self, time: Duration) -> Self {
        self.cache_for = time;
        self
    }
}

/// A probe, and where its result is filed.
#[derive(Clone, Debug)]
struct Entry {
    target: String,
    database: Option<String>,
    group: Cow<'static, str>,
    probe: Arc<dyn HealthProbe>,
}

/// Probes that make one report. See the [crate documentation](crate) for an example.
#[derive(Debug)]
pub struct ProbeSet {
    members: Members,
    shared: SharedRun,
}

/// What a run takes along.
#[derive(Clone, Debug)]
struct Members {
    service: String,
    options: ProbeSetOptions,
    entries: Vec<Entry>,
}

impl ProbeSet {
    /// An empty set for the service of that name.
    pub fn new(service: impl Into<String>) -> Self {
        let (service, options) = (service.into(), ProbeSetOptions::default());
        Self { members: Members { service, options, entries: Vec::new() }, shared: SharedRun::default() }
    }

    /// Replaces the options.
    #[must_use]
    pub fn with_options(mut self, options: ProbeSetOptions) -> Self {
        self.members.options = options;
        self
    }

    /// Adds a probe of the group `custom`.
    pub fn add(&mut self, target: impl Into<String>, probe: impl HealthProbe + 'static) {
        self.add_grouped(target, None, "custom", probe);
    }

    /// Adds a probe with its database and the group that it is scored with.
    pub fn add_grouped(
        &mut self,
        target: impl Into<String>,
        database: Option<String>,
        group: impl Into<Cow<'static, str>>,
        probe: impl HealthProbe + 'static,
    ) {
        self.members.entries.push(Entry {
            target: target.into(),
            database,
            group: group.into(),
            probe: Arc::new(probe),
        });
    }

    /// How many probes it holds.
    pub fn len(&self) -> usize {
        self.members.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.members.entries.is_empty()
    }

    /// Its probes of these names and groups alone, with the same options; cached by itself.
    pub(crate) fn only(&self, is_wanted: impl Fn(&str, &str) -> bool) -> Self {
        let mut members = self.members.clone();
        members.entries.retain(|entry| is_wanted(entry.probe.name(), &entry.group));
        Self { members, shared: SharedRun::default() }
    }

    /// Runs every probe once. Never fails: what could not be told is `Unknown` in the report. A probe that is out
    /// of time is cancelled, given a moment to clean up after itself, and abandoned.
    pub async fn run(&self, cx: &Context) -> HealthReport {
        self.members.run(cx).await
    }

    /// The last report while it is fresh, else a new one; requests that come together share one run. It is a task
    /// of its own, on the context of the first who asked: one who gives up takes it from nobody.
    pub async fn cached(&self, cx: &Context) -> Arc<HealthReport> {
        let start = || {
            let (members, cx) = (self.members.clone(), cx.clone());
            async move { members.run(&cx).await }
        };
        self.shared.report(self.members.options.cache_for, start).await
    }

    /// The report that [`ProbeSet::cached`] would give at once.
    pub(crate) fn fresh(&self) -> Option<Arc<HealthReport>> {
        self.shared.fresh(self.members.options.cache_for)
    }
}

impl Members {
    async fn run(&self, cx: &Context) -> HealthReport {
        let started = Instant::now();
        let run = cx.new_run().with_deadline(self.options.run_deadline);
        // Whoever stops waiting for the report stops its probes, each in a task of its own, as well.
        let _stop = StopOnDrop(run.clone());
        let at = run.now();
        // Futures in a list, not a closure in the stream: with the latter, nobody could await this in a task.
        let probes: Vec<_> =
            self.entries.iter().map(|entry| run_one(&run, entry, self.options.probe_deadline)).collect();
        let mut probes: Vec<ProbeResult> =
            stream::iter(probes).buffered(self.options.concurrency.max(1)).collect().await;
        gone::tell(&mut probes);
        let cost = Cost {
            round_trips: run.cost().round_trips(),
            server_ms: millis(run.cost().server_time()),
            wall_ms: millis(started.elapsed()),
        };
        HealthReport::new(self.service.clone(), at, probes, cost)
    }
}

struct StopOnDrop(Context);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What a cancelled probe may take to stop its server-side work.
const CLEAN_UP: Duration = Duration::from_secs(1);

async fn run_one(run: &Context, entry: &Entry, allowed: Duration) -> ProbeResult {
    let started = Instant::now();
    let mut result = ProbeResult {
        database: entry.database.clone(),
        group: entry.group.clone().into_owned(),
        ..ProbeResult::empty(entry.probe.name(), &entry.target)
    };
    result.fill(bounded(run.for_look(allowed), entry).await);
    result.took_ms = millis(started.elapsed());
    result
}

/// Runs a probe in a task of its own: a panic ends the task, and a task that ignores its deadline is aborted.
async fn bounded(cx: Context, entry: &Entry) -> Result<ProbeReport> {
    let (probe, inner) = (Arc::clone(&entry.probe), cx.clone());
    let mut task = tokio::spawn(async move { probe.probe(&inner).await });
    let failed = |kind, why: String| Error::new(kind, "run the probe").because(why);
    let joined = tokio::select! {
        biased;
        joined = &mut task => joined,
        () = out_of_time(&cx) => {
            let stopped = cx.is_cancelled();
            cx.cancel();
            match tokio::time::timeout(CLEAN_UP, &mut task).await {
                Ok(joined) => joined,
                Err(_) => {
                    task.abort();
                    return Err(if stopped {
                        failed(ErrorKind::Cancelled, "cancelled".into())
                    } else {
                        cx.out_of_time("run the probe", "no result within its deadline".into())
                    });
                }
            }
        }
    };
    match joined {
        Ok(result) => result,
        Err(panic) => Err(failed(ErrorKind::Bug, format!("the probe panicked: {panic}"))),
    }
}

async fn out_of_time(cx: &Context) {
    // The probe's own timer strikes first, at the same deadline: it knows better what to say about it.
    let timer = async {
        cx.expired().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    tokio::select! {
        () = timer => {}
        () = cx.cancelled() => {}
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Finding;
    use crate::status::Status;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug)]
    enum Misbehaves {
        Panics,
        Hangs,
        Fails,
        Behaves,
    }

    #[async_trait]
    impl HealthProbe for Misbehaves {
        fn name(&self) -> &str {
            "t.misbehaves"
        }
        async fn probe(&self, _cx: &Context) -> Result<ProbeReport> {
            match self {
                Misbehaves::Panics => panic!("oh"),
                Misbehaves::Hangs => std::future::pending().await,
                Misbehaves::Fails => {
                    Err(Error::new(ErrorKind::PermissionDenied, "look").with_fix("GRANT x TO y"))
                }
                Misbehaves::Behaves => Ok(ProbeReport::new("fine")),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_or_panics_costs_itself() {
        let mut set = ProbeSet::new("t");
        for probe in [Misbehaves::Panics, Misbehaves::Hangs, Misbehaves::Fails, Misbehaves::Behaves] {
            set.add("x", probe);
        }
        let report = set.run(&Context::new()).await;
        let statuses: Vec<_> = report.probes.iter().map(|probe| probe.status).collect();
        assert_eq!(statuses, [Status::Unknown, Status::Unknown, Status::Unknown, Status::Ok]);
        assert_eq!(report.probes[2].unseen[0].fix.as_deref(), Some("GRANT x TO y"));
        assert_eq!((report.status, report.coverage), (Status::Unknown, 0.25));
    }

    /// Calls a server down that does not answer in time, after a while of waiting for its turn.
    #[derive(Debug)]
    struct Judges {
        turn: Duration,
    }

    #[async_trait]
    impl HealthProbe for Judges {
        fn name(&self) -> &str {
            "t.judges"
        }
        async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
            cx.waiting(tokio::time::sleep(self.turn)).await;
            match cx.run("connect", std::future::pending::<Result<()>>()).await {
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    Ok(ProbeReport::new("").finding(Finding::critical("t.judges.down", error.to_string())))
                }
                other => other.map(|()| ProbeReport::new("connected")),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_ends_first_says_nothing_about_the_server() {
        let seconds = Duration::from_secs;
        for (run, own, turn, status, says) in [
            (Duration::from_millis(1), seconds(5), seconds(0), Status::Unknown, "the run's 1 ms ended first"),
            (seconds(3), seconds(5), seconds(0), Status::Unknown, "the run's 3.0 s ended first"),
            (seconds(5), seconds(5), seconds(0), Status::Critical, "no answer within 5.0 s"),
            (seconds(30), seconds(5), seconds(0), Status::Critical, "no answer within 5.0 s"),
            (seconds(30), seconds(5), seconds(28), Status::Unknown, "the run's 30.0 s ended first"),
        ] {
            let options = ProbeSetOptions::default().with_run_deadline(run).with_probe_deadline(own);
            let mut set = ProbeSet::new("t").with_options(options);
            set.add("x", Judges { turn });
            let report = set.run(&Context::new()).await;
            assert_eq!(report.status, status, "{run:?} {own:?} {turn:?}");
            let said = format!("{:?}", report.probes);
            assert!(said.contains(says), "{says}: {said}");
        }
    }

    #[derive(Debug, Default)]
    struct Counts(Arc<AtomicUsize>);

    #[async_trait]
    impl HealthProbe for Counts {
        fn name(&self) -> &str {
            "t.counts"
        }
        async fn probe(&self, _cx: &Context) -> Result<ProbeReport> {
            self.0.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(ProbeReport::new("counted"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_can_be_spawned() {
        let set = Arc::new(ProbeSet::new("t"));
        let report = tokio::spawn(async move { set.cached(&Context::new()).await }).await.unwrap();
        assert_eq!(report.status, Status::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stampede_costs_one_run() {
        let runs = Arc::new(AtomicUsize::new(0));
        let mut set = ProbeSet::new("t");
        set.add("x", Counts(Arc::clone(&runs)));
        let cx = Context::new();
        futures::future::join_all((0..100).map(|_| set.cached(&cx))).await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        tokio::time::advance(Duration::from_secs(6)).await;
        set.cached(&cx).await;
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
}
