//! Counters over a window, for the probes whose counters are one query.

use ops_core::window::{Sample, SampleOutcome, Window, WindowKey, observe};
use ops_core::{Context, ProbeReport, Result, Unit};

use crate::target::PgTarget;

/// What the counters that `sql` reads have done since the last run, or over [`Context::window_gap`] within this
/// one; or the report to give while there is nothing to compare with. `sql` returns a row for each counter: `name`
/// (text), `value` (float8), and `epoch` (text: when these counters were reset, null where they never were), the same
/// in all rows: counters that are reset one by one say null there, and show a reset by going down.
pub(super) async fn rise(
    cx: &Context,
    pg: &PgTarget,
    probe: &'static str,
    sql: &str,
) -> Result<std::result::Result<Window, ProbeReport>> {
    let key = WindowKey { server: pg.identity(cx).await?, probe: probe.to_owned() };
    let started_at = pg.capabilities(cx).await?.started_at;
    let take = async || {
        let rows = pg.read(cx, sql).await?;
        // Statistics survive a restart, but not a crash, after which they have no reset time: the server's start
        // is part of what they count from.
        let mut sample = Sample { at: cx.now(), epoch: started_at.to_string(), counters: Default::default() };
        for (index, row) in rows.iter().enumerate() {
            if index == 0 {
                sample.epoch.push_str(&row.get::<Option<String>>("epoch")?.unwrap_or_default());
            }
            sample.counters.insert(row.get("name")?, row.get("value")?);
        }
        Ok(sample)
    };
    Ok(match observe(cx, &key, take).await? {
        SampleOutcome::Window(window) => Ok(window),
        SampleOutcome::NewBaseline { reason } => {
            Err(ProbeReport::unknown(format!("nothing to compare with yet: {reason}"), None))
        }
    })
}

/// A window's length as an operator says it.
pub(super) fn length(window: &Window) -> String {
    Unit::Seconds.format(window.length.as_secs_f64())
}
