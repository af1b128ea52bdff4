//! Waiting for what happens soon, without guessing how soon.

use std::time::{Duration, Instant};

/// Polls until `ready` has something, and returns it.
///
/// # Panics
/// After `within`, naming `what` did not happen.
#[track_caller]
pub fn eventually<T>(
    what: &str,
    within: Duration,
    mut ready: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            if let Some(found) = ready().await {
                return found;
            }
            assert!(began.elapsed() < within, "{caller}: not within {within:?}: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
