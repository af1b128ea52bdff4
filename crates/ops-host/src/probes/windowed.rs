//! The kernel's counters over a window.

use std::collections::BTreeMap;

use ops_core::window::{Sample, SampleOutcome, Window, WindowKey, observe};
use ops_core::{Context, ProbeReport, Result};

use crate::host::HostTarget;

/// What the counters that `take` reads have done since the last run, or over [`Context::window_gap`] within this
/// one; or the report to give while there is nothing to compare with. They count from the machine's start.
pub(super) async fn rise<F>(
    cx: &Context,
    host: &HostTarget,
    probe: &str,
    take: impl Fn() -> F + Send + Sync,
) -> Result<std::result::Result<Window, ProbeReport>>
where
    F: Future<Output = Result<BTreeMap<String, f64>>> + Send,
{
    let boot = host.machine().boot();
    let key = WindowKey { server: format!("{boot} {}", host.name()), probe: probe.to_owned() };
    let sample = async || {
        let counters = take().await?;
        Ok(Sample { at: cx.now(), epoch: boot.clone(), counters })
    };
    Ok(match observe(cx, &key, sample).await? {
        SampleOutcome::Window(window) => Ok(window),
        SampleOutcome::NewBaseline { reason } => {
            Err(ProbeReport::unknown(format!("nothing to compare with yet: {reason}"), None))
        }
    })
}

/// A window's length as an operator says it.
#[cfg(feature = "kernel")]
pub(super) fn length(window: &Window) -> String {
    ops_core::Unit::Seconds.format(window.length.as_secs_f64())
}
