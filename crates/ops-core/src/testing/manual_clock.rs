//! A clock that moves when told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::context::Clock;

/// Wall time that stands still until it is moved. Clones show the same time.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use std::time::Duration;
/// use ops_core::{Context, testing::ManualClock};
///
/// let clock = ManualClock::at("2026-03-29T00:59:59Z".parse().unwrap());
/// let cx = Context::new().with_clock(clock.clone());
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(cx.now().to_rfc3339(), "2026-03-29T01:00:01+00:00");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<DateTime<Utc>>>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// Sets it, also back.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
