//! One run for all who ask while it lasts, and for those who ask while it is fresh.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use crate::health::HealthReport;

/// A report, and when it was finished. `None` where the runtime ended before it.
type Running = Shared<BoxFuture<'static, Option<(Instant, Arc<HealthReport>)>>>;

/// The last run, which may still be under way. It is a task of its own: who asked for it may give up, and the
/// others still get their report.
#[derive(Debug, Default)]
pub(crate) struct SharedRun {
    last: Mutex<Option<Running>>,
}

impl SharedRun {
    /// The report of the run that is under way, of the last one where that is no older than `fresh_for`, or of a
    /// new one.
    pub(crate) async fn report<F>(&self, fresh_for: Duration, start: impl Fn() -> F) -> Arc<HealthReport>
    where
        F: Future<Output = HealthReport> + Send + 'static,
    {
        let asked = Instant::now();
        loop {
            let running = self.join_or_start(fresh_for, &start);
            match running.await {
                // Finished before, where nobody waited for it any more: it is judged by its age only now.
                Some((at, report)) if at >= asked || at.elapsed() < fresh_for => return report,
                Some(_) | None => {}
            }
        }
    }

    /// The last report, where it is no older than `fresh_for`.
    pub(crate) fn fresh(&self, fresh_for: Duration) -> Option<Arc<HealthReport>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, report) = last.as_ref()?.peek()?.as_ref()?;
        (at.elapsed() < fresh_for).then(|| Arc::clone(report))
    }

    fn join_or_start<F>(&self, fresh_for: Duration, start: &impl Fn() -> F) -> Running
    where
        F: Future<Output = HealthReport> + Send + 'static,
    {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(running) if running.peek().is_none_or(|done| is_fresh(done.as_ref(), fresh_for)) => {
                running.clone()
            }
            _ => last.insert(spawned(start())).clone(),
        }
    }
}

fn is_fresh(done: Option<&(Instant, Arc<HealthReport>)>, fresh_for: Duration) -> bool {
    done.is_some_and(|(at, _)| at.elapsed() < fresh_for)
}

fn spawned(run: impl Future<Output = HealthReport> + Send + 'static) -> Running {
    let task = tokio::spawn(async move {
        let report = Arc::new(run.await);
        (Instant::now(), report)
    });
    let joined = async move {
        match task.await {
            Ok(done) => Some(done),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    };
    joined.boxed().shared()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{Context, ProbeSet};

    const SECOND: Duration = Duration::from_secs(1);

    /// Counts the runs that were begun; each takes a second.
    fn counted(begun: &Arc<AtomicUsize>) -> impl Fn() -> BoxFuture<'static, HealthReport> + use<> {
        let begun = Arc::clone(begun);
        move || {
            begun.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(SECOND).await;
                ProbeSet::new("t").run(&Context::new()).await
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_the_run_from_nobody() {
        let (shared, begun) = (SharedRun::default(), Arc::default());
        let start = counted(&begun);
        let first = tokio::time::timeout(SECOND / 2, shared.report(SECOND, &start));
        let second = shared.report(SECOND, &start);
        let (first, _) = tokio::join!(first, second);
        assert!(first.is_err());
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_that_nobody_waited_for_ages_all_the_same() {
        for (pause, runs) in [(SECOND, 1), (10 * SECOND, 2)] {
            let (shared, begun) = (SharedRun::default(), Arc::default());
            let start = counted(&begun);
            assert!(tokio::time::timeout(SECOND / 2, shared.report(5 * SECOND, &start)).await.is_err());
            tokio::time::sleep(pause).await;
            shared.report(5 * SECOND, &start).await;
            assert_eq!(begun.load(Ordering::SeqCst), runs, "after {pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_that_never_serves_twice_is_still_given_once() {
        let (shared, begun) = (SharedRun::default(), Arc::default());
        let start = counted(&begun);
        shared.report(Duration::ZERO, &start).await;
        shared.report(Duration::ZERO, &start).await;
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        assert!(shared.fresh(Duration::ZERO).is_none() && shared.fresh(SECOND).is_some());
    }
}
