//! Rates and ratios over a window, never over a lifetime.
//!
//! A counter that has run since the server started says nothing about now: an hour of trouble disappears in a
//! month of calm. So a windowed probe takes a [`Sample`], compares it with the last one stored under the same
//! [`WindowKey`], and speaks about the time between. Where none is stored, it samples twice within the run.
//! A sample from another epoch (statistics reset, server restarted, failed over) starts a new baseline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use crate::baseline::{Baselines, MemoryBaselines, Sample, WindowKey};
use crate::context::Context;
use crate::error::Result;

/// A baseline older than this describes another day: the probe samples twice instead. Two hours, so that a check that
/// runs every hour, and is late, has one.
pub const MAX_BASELINE_AGE: Duration = Duration::from_secs(2 * 3600);

/// What two samples say together.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleOutcome {
    /// The counters' rise over the time between.
    Window(Window),
    /// They belong to different epochs, or no time passed: the later one is a new baseline, and there is
    /// nothing to say yet.
    NewBaseline {
        /// Why.
        reason: &'static str,
    },
}

/// The rise of counters over a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// From when to when, as long as it is.
    pub length: Duration,
    deltas: BTreeMap<String, f64>,
    appeared: BTreeSet<String>,
}

impl Window {
    /// Compares two samples. A counter that is new in the later sample rose from zero; one that went down was
    /// dropped and counted anew (as `pg_stat_statements` does when it evicts), so its value is its rise.
    ///
    /// ```
    /// use ops_core::window::{Sample, SampleOutcome, Window};
    /// let at = |s: i64, hits: f64| Sample {
    ///     at: chrono::DateTime::from_timestamp(s, 0).unwrap(),
    ///     epoch: "a".into(),
    ///     counters: [("hits".to_owned(), hits)].into(),
    /// };
    /// let SampleOutcome::Window(window) = Window::between(&at(0, 100.0), &at(10, 150.0)) else { panic!() };
    /// assert_eq!(window.per_second("hits"), 5.0);
    /// ```
    pub fn between(earlier: &Sample, later: &Sample) -> SampleOutcome {
        if earlier.epoch != later.epoch {
            return SampleOutcome::NewBaseline { reason: "the counters were reset" };
        }
        let Ok(length) = (later.at - earlier.at).to_std() else {
            return SampleOutcome::NewBaseline { reason: "the clock went back" };
        };
        if length.is_zero() {
            return SampleOutcome::NewBaseline { reason: "no time passed" };
        }
        let is_new = |name: &&String| !earlier.counters.contains_key(*name);
        let appeared = later.counters.keys().filter(is_new).cloned().collect();
        let deltas = later
            .counters
            .iter()
            .map(|(name, now)| match earlier.counters.get(name) {
                Some(before) if before <= now => (name.clone(), now - before),
                Some(_) | None => (name.clone(), *now),
            })
            .collect();
        SampleOutcome::Window(Window { length, deltas, appeared })
    }

    /// How much a counter rose; zero for one that is not there.
    pub fn delta(&self, counter: &str) -> f64 {
        self.deltas.get(counter).copied().unwrap_or(0.0)
    }

    /// How much a counter rose per second.
    pub fn per_second(&self, counter: &str) -> f64 {
        self.delta(counter) / self.length.as_secs_f64()
    }

    /// How much a counter rose per hour.
    pub fn per_hour(&self, counter: &str) -> f64 {
        self.per_second(counter) * 3600.0
    }

    /// How often an hour what rose by `rise` happens, where a window shorter than `shortest` counts as that long: a
    /// rate made of one event in one second is none.
    pub fn per_hour_over(&self, rise: f64, shortest: Duration) -> f64 {
        rise / self.length.max(shortest).as_secs_f64() * 3600.0
    }

    /// Whether a counter is new in the later sample. Where the samples hold a selection only, it may have counted
    /// before, and its rise from zero is none of this window's.
    pub fn appeared(&self, counter: &str) -> bool {
        self.appeared.contains(counter)
    }

    /// All counters with their rise.
    pub fn deltas(&self) -> impl Iterator<Item = (&str, f64)> {
        self.deltas.iter().map(|(name, delta)| (name.as_str(), *delta))
    }
}

/// Takes a sample and compares it with the stored one. Where there is none, or only one of another epoch or older
/// than [`MAX_BASELINE_AGE`], it takes two, [`Context::window_gap`] apart; one that is younger than the gap it
/// lets grow that old. The last sample taken is stored. `take` must read fresh counters each time: PostgreSQL
/// caches statistics inside a transaction.
///
/// # Errors
/// Those of `take` and of the store.
pub async fn observe<F>(cx: &Context, key: &WindowKey, take: impl Fn() -> F + Send) -> Result<SampleOutcome>
where
    F: Future<Output = Result<Sample>> + Send,
{
    let stored = cx.baselines().latest(key).await?;
    let mut later = take().await?;
    let usable =
        stored.filter(|earlier| earlier.epoch == later.epoch && age(earlier, &later) <= MAX_BASELINE_AGE);
    let earlier = usable.unwrap_or_else(|| later.clone());
    let short = cx.window_gap().saturating_sub(age(&earlier, &later));
    if !short.is_zero() {
        let gap = async {
            cx.waiting(tokio::time::sleep(short)).await;
            Ok(())
        };
        cx.run("wait for a second sample", gap).await?;
        later = take().await?;
    }
    cx.baselines().store(key, &later).await?;
    Ok(Window::between(&earlier, &later))
}

/// The time between two samples; endless where the clock went back.
fn age(earlier: &Sample, later: &Sample) -> Duration {
    (later.at - earlier.at).to_std().unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn sample(second: i64, epoch: &str, counters: &[(&str, f64)]) -> Sample {
        Sample {
            at: DateTime::from_timestamp(second, 0).unwrap(),
            epoch: epoch.to_owned(),
            counters: counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        }
    }

    #[test]
    fn a_reset_starts_a_new_baseline() {
        let outcome = Window::between(&sample(0, "a", &[("x", 5.0)]), &sample(60, "b", &[("x", 900.0)]));
        assert!(matches!(outcome, SampleOutcome::NewBaseline { .. }));
    }

    #[test]
    fn counters_that_appear_or_fall_rose_from_zero() {
        let earlier = sample(0, "a", &[("kept", 10.0), ("evicted", 100.0)]);
        let later = sample(10, "a", &[("kept", 15.0), ("evicted", 3.0), ("new", 7.0)]);
        let SampleOutcome::Window(window) = Window::between(&earlier, &later) else { panic!("a window") };
        assert_eq!(window.deltas().collect::<Vec<_>>(), [("evicted", 3.0), ("kept", 5.0), ("new", 7.0)]);
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_rate() {
        let outcome = Window::between(&sample(60, "a", &[]), &sample(0, "a", &[]));
        assert!(matches!(outcome, SampleOutcome::NewBaseline { .. }));
    }

    /// Observes at this second a counter that stands at ten times the second, waiting included.
    async fn observed_at(cx: &Context, second: i64) -> Option<(Duration, f64)> {
        let key = WindowKey { server: "s".into(), probe: "p".into() };
        let started = tokio::time::Instant::now();
        let take = || async {
            let now = second as f64 + started.elapsed().as_secs_f64();
            Ok(Sample {
                at: DateTime::from_timestamp_millis((now * 1000.0) as i64).unwrap(),
                epoch: "a".into(),
                counters: [("x".to_owned(), now * 10.0)].into(),
            })
        };
        match observe(cx, &key, take).await.unwrap() {
            SampleOutcome::Window(window) => Some((window.length, window.per_second("x").round())),
            SampleOutcome::NewBaseline { .. } => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_baseline_serves_when_it_is_neither_too_young_nor_too_old() {
        let cx = Context::new().with_window_gap(Duration::from_secs(2));
        let seconds = Duration::from_secs;
        assert_eq!(observed_at(&cx, 1000).await, Some((seconds(2), 10.0)), "none stored: two samples");
        assert_eq!(observed_at(&cx, 1302).await, Some((seconds(300), 10.0)), "the stored one");
        assert_eq!(observed_at(&cx, 1303).await, Some((seconds(2), 10.0)), "too young: it grows to the gap");
        assert_eq!(observed_at(&cx, 9000).await, Some((seconds(2), 10.0)), "too old: two samples");
    }
}
