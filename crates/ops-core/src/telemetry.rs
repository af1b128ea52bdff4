//! What a service counts and times within itself, summed up by period.
//!
//! ```
//! use std::time::Duration;
//! use ops_core::telemetry::Recorder;
//!
//! let recorder = Recorder::new("shop", chrono::Utc::now());
//! recorder.observe("checkout", Duration::from_millis(12));
//! recorder.count("order.placed", 1);
//! let period = recorder.close(chrono::Utc::now());
//! assert_eq!(period.counts["order.placed"], 1);
//! assert_eq!(period.times["checkout"].count, 1);
//! ```

mod exposition;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;

pub use exposition::openmetrics;

/// Different names that are kept; what comes later is counted under [`OVERFLOW`]. A name made of user input would
/// otherwise grow without end.
pub const MAX_NAMES: usize = 500;

/// Stands for the names beyond [`MAX_NAMES`].
pub const OVERFLOW: &str = "(others)";

/// The longest time that is told from longer ones.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// Three significant digits: a time is told within a thousandth of itself, in about 100 KiB a name.
const DIGITS: u8 = 3;

/// Counts events and times operations, from any thread. Percentiles are over every observation of the period, not
/// over the last few.
#[derive(Debug)]
pub struct Recorder {
    service: String,
    open: Mutex<Open>,
}

/// The period that is being recorded.
#[derive(Debug)]
struct Open {
    since: DateTime<Utc>,
    counts: BTreeMap<String, u64>,
    times: BTreeMap<String, Histogram<u64>>,
}

/// What happened between two times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Period {
    /// The service that recorded it.
    pub service: String,
    /// From when.
    pub since: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// How often each event happened.
    pub counts: BTreeMap<String, u64>,
    /// How long each operation took.
    pub times: BTreeMap<String, Times>,
}

/// How long an operation took, in milliseconds. A percentile is the time within which that share of the operations
/// ended, by the nearest-rank method, within a thousandth of itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// The mean.
    pub mean_ms: f64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest; those over an hour count as an hour.
    pub max_ms: f64,
}

/// Where periods go.
///
/// # Errors
/// Whatever kept it from storing the period, which is then the caller's still.
#[async_trait]
pub trait PeriodSink: Send + Sync + Debug {
    /// Stores one period. The same period given twice is stored once.
    async fn store(&self, cx: &Context, period: &Period) -> Result<()>;
}

/// Times an operation until it is dropped.
#[derive(Debug)]
pub struct Timer<'r> {
    recorder: &'r Recorder,
    name: &'r str,
    started: Instant,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.recorder.observe(self.name, self.started.elapsed());
    }
}

impl Recorder {
    /// Begins a period now, as the caller's clock has it.
    pub fn new(service: impl Into<String>, now: DateTime<Utc>) -> Self {
        Self { service: service.into(), open: Mutex::new(Open::since(now)) }
    }

    /// Counts `n` events.
    pub fn count(&self, name: &str, n: u64) {
        let mut open = self.open();
        let name = if open.knows(name) { name } else { OVERFLOW };
        match open.counts.get_mut(name) {
            Some(count) => *count = count.saturating_add(n),
            None => drop(open.counts.insert(name.to_owned(), n)),
        }
    }

    /// Takes the time of one operation.
    pub fn observe(&self, name: &str, took: Duration) {
        let mut open = self.open();
        let name = if open.knows(name) { name } else { OVERFLOW };
        let microseconds = u64::try_from(took.min(LONGEST).as_micros()).unwrap_or(u64::MAX);
        if !open.times.contains_key(name) {
            open.times.insert(name.to_owned(), histogram());
        }
        if let Some(times) = open.times.get_mut(name) {
            times.saturating_record(microseconds);
        }
    }

    /// Times what happens until the answer is dropped.
    pub fn time<'r>(&'r self, name: &'r str) -> Timer<'r> {
        Timer { recorder: self, name, started: Instant::now() }
    }

    /// What happened in this period so far; it goes on.
    pub fn peek(&self, now: DateTime<Utc>) -> Period {
        self.open().period(&self.service, now)
    }

    /// Ends the period and begins the next: what is recorded meanwhile is in one of the two.
    pub fn close(&self, now: DateTime<Utc>) -> Period {
        let ended = std::mem::replace(&mut *self.open(), Open::since(now));
        ended.period(&self.service, now)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn since(since: DateTime<Utc>) -> Self {
        Self { since, counts: BTreeMap::new(), times: BTreeMap::new() }
    }

    /// Whether the name is kept, or there is room to.
    fn knows(&self, name: &str) -> bool {
        self.counts.contains_key(name)
            || self.times.contains_key(name)
            || self.counts.len() + self.times.len() < MAX_NAMES
    }

    fn period(&self, service: &str, until: DateTime<Utc>) -> Period {
        let times = self.times.iter().map(|(name, times)| (name.clone(), summed_up(times)));
        Period {
            service: service.to_owned(),
            since: self.since,
            until,
            counts: self.counts.clone(),
            times: times.collect(),
        }
    }
}

/// Microseconds up to [`LONGEST`].
fn histogram() -> Histogram<u64> {
    match Histogram::new_with_max(LONGEST.as_micros() as u64, DIGITS) {
        Ok(histogram) => histogram,
        // Both bounds are constants; a test makes one.
        Err(error) => unreachable!("no histogram: {error}"),
    }
}

fn summed_up(times: &Histogram<u64>) -> Times {
    let ms = |microseconds: f64| microseconds / 1000.0;
    let at = |quantile: f64| ms(times.value_at_quantile(quantile) as f64);
    Times {
        count: times.len(),
        mean_ms: ms(times.mean()),
        p50_ms: at(0.50),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        max_ms: ms(times.max() as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn percentiles_are_of_everything_in_the_period() {
        let recorder = Recorder::new("shop", at(0));
        for n in 1..=1000 {
            recorder.observe("checkout", Duration::from_millis(n));
        }
        let times = recorder.close(at(60)).times["checkout"];
        assert_eq!(times.count, 1000);
        for (told, expected) in [
            (times.mean_ms, 500.5),
            (times.p50_ms, 500.0),
            (times.p95_ms, 950.0),
            (times.p99_ms, 990.0),
            (times.max_ms, 1000.0),
        ] {
            assert!((told - expected).abs() <= expected / 1000.0, "{told}, not {expected}");
        }
    }

    #[test]
    fn a_period_ends_and_the_next_is_empty() {
        let recorder = Recorder::new("shop", at(0));
        recorder.count("order.placed", 2);
        assert_eq!(recorder.peek(at(30)).counts["order.placed"], 2);
        let first = recorder.close(at(60));
        assert_eq!((first.since, first.until, first.counts["order.placed"]), (at(0), at(60), 2));
        let second = recorder.close(at(120));
        assert_eq!((second.since, second.counts.len(), second.times.len()), (at(60), 0, 0));
    }

    #[test]
    fn names_do_not_grow_without_end() {
        let recorder = Recorder::new("shop", at(0));
        for n in 0..10_000 {
            recorder.count(&format!("user {n}"), 1);
        }
        let period = recorder.close(at(60));
        assert_eq!(period.counts.len(), MAX_NAMES + 1);
        assert_eq!(period.counts[OVERFLOW], 10_000 - MAX_NAMES as u64);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let recorder = Recorder::new("shop", at(0));
        let mut closed = 0;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| recorder.count("x", 1)));
            }
            for _ in 0..100 {
                closed += recorder.close(at(1)).counts.get("x").copied().unwrap_or(0);
            }
        });
        assert_eq!(closed + recorder.close(at(2)).counts.get("x").copied().unwrap_or(0), 40_000);
    }

    #[test]
    fn a_time_beyond_the_longest_is_the_longest() {
        let recorder = Recorder::new("shop", at(0));
        recorder.observe("night", Duration::from_secs(100_000));
        drop(recorder.time("short"));
        let times = recorder.close(at(1)).times;
        assert!((times["night"].max_ms - 3_600_000.0).abs() < 3_600.0, "{times:?}");
        assert_eq!(times["short"].count, 1);
    }
}
