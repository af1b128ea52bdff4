//! What was measured when.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::health::HealthReport;
use crate::status::Status;
use crate::unit::Unit;

/// What a row of values is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series {
    /// The target, by its name in the configuration.
    pub target: String,
    /// The database, for a probe that looks into one.
    pub database: Option<String>,
    /// The probe.
    pub probe: String,
    /// The measurement, or [`Series::GOOD`].
    pub measurement: String,
    /// What tells it from others of its name.
    pub labels: BTreeMap<String, String>,
    /// The unit of its values.
    pub unit: Unit,
}

impl Series {
    /// The measurement that says whether a probe was content: 1 for ok and warning, 0 for critical, and no point
    /// where it could not tell. Its mean over a time is the attainment of that time.
    pub const GOOD: &'static str = "good";
}

/// A value of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Of what.
    pub series: Series,
    /// When.
    pub at: DateTime<Utc>,
    /// How much, in the measurement's unit; finite.
    pub value: f64,
}

impl Point {
    /// What a health report leaves for later: every measurement, and whether each probe was content. What is no
    /// finite number is left out.
    pub fn of_report(report: &HealthReport) -> Vec<Point> {
        let mut points = Vec::new();
        for result in &report.probes {
            let series = |measurement: &str, labels: &BTreeMap<String, String>, unit: Unit| Series {
                target: result.target.clone(),
                database: result.database.clone(),
                probe: result.probe.clone(),
                measurement: measurement.to_owned(),
                labels: labels.clone(),
                unit,
            };
            let good = match result.status {
                Status::Ok | Status::Warning => Some(1.0),
                Status::Critical => Some(0.0),
                Status::Unknown | Status::NotApplicable => None,
            };
            let good = good.map(|value| (series(Series::GOOD, &BTreeMap::new(), Unit::Ratio), value));
            let measured = result.measurements.iter().map(|m| (series(&m.name, &m.labels, m.unit), m.value));
            points.extend(
                good.into_iter()
                    .chain(measured)
                    .filter(|(_, value)| value.is_finite())
                    .map(|(series, value)| Point { series, at: report.at, value }),
            );
        }
        points
    }
}

/// How finely history is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Each point as it was taken.
    Raw,
    /// One bucket an hour (UTC).
    Hourly,
}

/// The points of a series within a stretch of time, as one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// When it begins; for a raw point, when that was taken.
    pub at: DateTime<Utc>,
    /// How many points it is made of.
    pub count: u64,
    /// The least of them.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// The latest.
    pub last: f64,
}

impl Bucket {
    /// The bucket of one point.
    pub fn of_point(at: DateTime<Utc>, value: f64) -> Self {
        Self { at, count: 1, min: value, max: value, mean: value, last: value }
    }

    /// With one more point, later than those it has.
    #[must_use]
    pub fn and(self, value: f64) -> Self {
        let count = self.count + 1;
        Self {
            at: self.at,
            count,
            min: self.min.min(value),
            max: self.max.max(value),
            mean: self.mean + (value - self.mean) / count as f64,
            last: value,
        }
    }

    /// The beginning of the hour that `at` is in.
    pub fn hour_of(at: DateTime<Utc>) -> DateTime<Utc> {
        let seconds = at.timestamp();
        DateTime::from_timestamp(seconds - seconds.rem_euclid(3600), 0).unwrap_or(at)
    }
}

/// How long history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Retention {
    /// Points as they were taken; 14 days.
    pub raw: Duration,
    /// Hourly buckets; 400 days, so that a month can be held against that month of last year.
    pub hourly: Duration,
    /// Runs in the journal that have ended; 400 days.
    pub runs: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Retention {
    fn default() -> Self {
        Self { raw: 14 * DAY, hourly: 400 * DAY, runs: 400 * DAY }
    }
}

impl Retention {
    /// With raw points kept for `raw`.
    #[must_use]
    pub fn with_raw(mut self, raw: Duration) -> Self {
        self.raw = raw;
        self
    }

    /// With hourly buckets kept for `hourly`.
    #[must_use]
    pub fn with_hourly(mut self, hourly: Duration) -> Self {
        self.hourly = hourly;
        self
    }

    /// With ended runs kept for `runs`.
    #[must_use]
    pub fn with_runs(mut self, runs: Duration) -> Self {
        self.runs = runs;
        self
    }
}

/// Keeps points: each as it was taken for a while, and as hourly buckets for longer.
///
/// # Errors
/// Those of the store.
#[async_trait]
pub trait History: Send + Sync + Debug {
    /// Adds points, all or none. A point of a series and time that is there already changes nothing: recording a
    /// report twice is recording it once.
    async fn record(&self, points: &[Point]) -> Result<()>;

    /// The buckets of `series` that begin within `since..until`, in order of time.
    async fn buckets(
        &self,
        series: &Series,
        resolution: Resolution,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Bucket>>;

    /// Every series there is anything of, in order.
    async fn series(&self) -> Result<Vec<Series>>;

    /// Forgets what is older than `retention` allows, at `now`: points, buckets, and runs of the journal that
    /// ended. What has not ended is kept whatever its age.
    async fn prune(&self, retention: &Retention, now: DateTime<Utc>) -> Result<()>;
}
