//! Where a value is going, by what it was.
//!
//! The slope is the median of the slopes between all pairs of points (Theil 1950, Sen 1968): up to 29 % of the points
//! may be anything, and it stays. Its range is Sen's interval of 95 %, by the variance of Kendall's statistic.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::context::Context;
use crate::error::Result;
use crate::state::{Resolution, Series};

/// Points that it takes: with fewer, the interval of 95 % is as wide as all that was seen.
pub const FEWEST: usize = 6;

/// The least time that the points must span: less says nothing about a day.
pub const SHORTEST: Duration = Duration::from_secs(6 * 3600);

/// More points than this are thinned out evenly: the slopes are of all pairs.
const MOST: usize = 400;

const DAY: f64 = 86_400.0;

/// A line through points of time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Trend {
    /// How much it rises a day, in the values' unit; negative where it falls.
    pub per_day: f64,
    /// The least and the most that it may be with 95 % confidence.
    pub range: (f64, f64),
    /// How many points it is made of.
    pub points: usize,
    /// The time between the first of them and the last.
    pub over: Duration,
}

/// When a limit is met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Met {
    /// It is over the limit already.
    Already,
    /// Between these times; `None` of one that may never come.
    Between(DateTime<Utc>, Option<DateTime<Utc>>),
    /// Not as it goes now.
    Never,
}

impl Trend {
    /// The trend of these points, in order of time; `None` where there are fewer than [`FEWEST`], or they span less
    /// than [`SHORTEST`].
    ///
    /// ```
    /// use chrono::{TimeDelta, Utc};
    /// use ops_core::trend::Trend;
    ///
    /// let now = Utc::now();
    /// let points: Vec<_> = (0..48).map(|hour| (now + TimeDelta::hours(hour), 10.0 + hour as f64)).collect();
    /// assert_eq!(Trend::of(&points).unwrap().per_day, 24.0);
    /// assert_eq!(Trend::of(&points[..2]), None);
    /// ```
    pub fn of(points: &[(DateTime<Utc>, f64)]) -> Option<Self> {
        let ((first, _), (last, _)) = (points.first()?, points.last()?);
        let over = (*last - *first).to_std().ok()?;
        if points.len() < FEWEST || over < SHORTEST {
            return None;
        }
        let step = points.len().div_ceil(MOST);
        let kept: Vec<_> = points.iter().step_by(step).collect();
        let mut slopes: Vec<f64> = Vec::with_capacity(kept.len() * (kept.len() - 1) / 2);
        for (i, (at, value)) in kept.iter().enumerate() {
            let later = kept[i + 1..].iter().filter(|(then, _)| then > at);
            slopes.extend(later.map(|(then, other)| (other - value) / days(*then - *at)));
        }
        slopes.sort_by(f64::total_cmp);
        let (n, pairs) = (kept.len() as f64, slopes.len() as f64);
        let spread = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let nth = |index: f64| slopes.get(index.clamp(0.0, pairs - 1.0) as usize).copied();
        let range = (nth(((pairs - spread) / 2.0).floor())?, nth(((pairs + spread) / 2.0).ceil())?);
        Some(Self { per_day: median(&slopes)?, range, points: points.len(), over })
    }

    /// When a value that is `value` at `now` meets `limit` above it.
    pub fn meets(&self, limit: f64, value: f64, now: DateTime<Utc>) -> Met {
        let left = limit - value;
        if left <= 0.0 {
            return Met::Already;
        }
        let at = |per_day: f64| (per_day > 0.0).then(|| after(now, left / per_day)).flatten();
        match (at(self.range.1), at(self.per_day)) {
            (Some(soonest), Some(_)) => Met::Between(soonest, at(self.range.0)),
            _ => Met::Never,
        }
    }
}

/// The trend of a series over this time until now, by its hourly means. `None` where there is no history, or too little
/// of it.
///
/// # Errors
/// Those of the store.
pub async fn of_series(cx: &Context, series: &Series, over: Duration) -> Result<Option<Trend>> {
    let Some(history) = cx.history() else { return Ok(None) };
    let now = cx.now();
    let since = now - TimeDelta::from_std(over).unwrap_or(TimeDelta::MAX);
    let buckets = history.buckets(series, Resolution::Hourly, since, now).await?;
    let points: Vec<_> = buckets.iter().map(|bucket| (bucket.at, bucket.mean)).collect();
    Ok(Trend::of(&points))
}

/// `None` of a time that no calendar has.
fn after(now: DateTime<Utc>, days: f64) -> Option<DateTime<Utc>> {
    let seconds = days * DAY;
    (seconds < 1e12).then(|| now.checked_add_signed(TimeDelta::seconds(seconds as i64))).flatten()
}

fn days(time: TimeDelta) -> f64 {
    time.as_seconds_f64() / DAY
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => Some((sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / 2.0),
        _ => sorted.get(middle).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap()
    }

    fn hours(values: impl IntoIterator<Item = f64>) -> Vec<(DateTime<Utc>, f64)> {
        values.into_iter().enumerate().map(|(hour, v)| (start() + TimeDelta::hours(hour as i64), v)).collect()
    }

    #[test]
    fn a_quarter_of_nonsense_changes_nothing() {
        let steady = |hour: usize| 100.0 + hour as f64;
        let with_nonsense = hours((0..100).map(|hour| if hour % 4 == 3 { 1e9 } else { steady(hour) }));
        let trend = Trend::of(&with_nonsense).unwrap();
        assert!((trend.per_day - 24.0).abs() < 1.0, "{trend:?}");
        let exact = Trend::of(&hours((0..100).map(steady))).unwrap();
        assert_eq!((exact.per_day, exact.range), (24.0, (24.0, 24.0)));
    }

    #[test]
    fn the_truth_lies_in_the_range() {
        // A saw of 50 on a rise of 2 an hour.
        let trend = Trend::of(&hours((0..200).map(|hour| 2.0 * f64::from(hour) + f64::from(hour * 37 % 50))))
            .unwrap();
        assert!(trend.range.0 < 48.0 && 48.0 < trend.range.1 && trend.range.0 > 40.0, "{trend:?}");
    }

    #[test]
    fn little_is_not_enough() {
        assert_eq!(Trend::of(&hours((0..5).map(f64::from))), None);
        let minutes: Vec<_> = (0..60).map(|m| (start() + TimeDelta::minutes(m), m as f64)).collect();
        assert_eq!(Trend::of(&minutes), None);
        assert_eq!(Trend::of(&[]), None);
    }

    #[test]
    fn a_year_of_hours_is_thinned_out() {
        let trend = Trend::of(&hours((0..8760).map(f64::from))).unwrap();
        assert_eq!((trend.per_day, trend.points), (24.0, 8760));
    }

    #[test]
    fn a_limit_is_met_within_the_range_or_never() {
        let trend =
            Trend { per_day: 10.0, range: (5.0, 20.0), points: 48, over: Duration::from_secs(172_800) };
        let day = |days| start() + TimeDelta::days(days);
        assert_eq!(trend.meets(200.0, 100.0, start()), Met::Between(day(5), Some(day(20))));
        assert_eq!(trend.meets(100.0, 100.0, start()), Met::Already);
        let unsure = Trend { range: (-5.0, 20.0), ..trend };
        assert_eq!(unsure.meets(200.0, 100.0, start()), Met::Between(day(5), None));
        assert_eq!(Trend { per_day: -1.0, ..unsure }.meets(200.0, 100.0, start()), Met::Never);
    }
}
