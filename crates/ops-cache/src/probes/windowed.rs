//! Counters of `INFO` over a window.

use std::sync::{Mutex, PoisonError};

use ops_core::window::{Sample, SampleOutcome, WindowKey, observe};
use ops_core::{Context, ProbeReport, Result, Unit};

use crate::info::Info;
use crate::target::{InfoReading, RedisTarget};

/// The rise of `counters` since the last run, or over [`Context::window_gap`] within this one. The server's run
/// id changes when it restarts, and starts a new baseline; after `CONFIG RESETSTAT` a counter counts from zero.
pub(crate) async fn rise(
    cx: &Context,
    redis: &RedisTarget,
    probe: &'static str,
    counters: &[&'static str],
) -> Result<SampleOutcome> {
    let server = redis.info(cx).await?.info.run_id()?.to_owned();
    let key = WindowKey { server, probe: probe.to_owned() };
    let first = Mutex::new(None);
    observe(cx, &key, async || {
        let not_before = *first.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = redis.info_since(cx, not_before).await?;
        // A second sample is read anew, and shared by the windowed probes that wait for one at the same time.
        *first.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading.read + cx.window_gap());
        sample(&reading, counters)
    })
    .await
}

fn sample(reading: &InfoReading, counters: &[&'static str]) -> Result<Sample> {
    let values = counters
        .iter()
        .map(|counter| Ok(((*counter).to_owned(), reading.info.need::<f64>(counter)?)))
        .collect::<Result<_>>()?;
    Ok(Sample { at: reading.at, epoch: epoch(&reading.info)?, counters: values })
}

fn epoch(info: &Info) -> Result<String> {
    info.run_id().map(str::to_owned)
}

/// What a probe reports while it has only one sample.
pub(crate) fn no_window(reason: &str) -> ProbeReport {
    ProbeReport::unknown(format!("nothing to compare with yet: {reason}"), None)
}

/// A window's length as an operator says it.
pub(crate) fn length(window: &ops_core::window::Window) -> String {
    Unit::Seconds.format(window.length.as_secs_f64())
}
