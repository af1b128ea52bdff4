//! Since when each index is known: no catalogue tells when it was made, and the counters may be older than it.

use chrono::DateTime;
use ops_core::window::{Sample, WindowKey};
use ops_core::{Context, Result};

use super::{Index, SPEC};
use crate::target::PgTarget;

/// Says of each of these indexes for how long it is known, and remembers those that are new, in the state that rates
/// are taken from. Without one that outlives the process, each is seen for the first time in every run. An index is
/// known by its number: rebuilt or restored, it is a new one.
///
/// # Errors
/// Those of the state.
pub(super) async fn since<'a>(
    cx: &Context,
    pg: &PgTarget,
    indexes: impl Iterator<Item = &'a mut Index>,
) -> Result<()> {
    let key = WindowKey { server: pg.identity(cx).await?, probe: format!("{} sighted", SPEC.name) };
    let (now, known) = (cx.now(), cx.baselines().latest(&key).await?);
    let mut sample = Sample { at: now, epoch: String::new(), counters: Default::default() };
    for index in indexes {
        let number = index.oid.to_string();
        let first = known.as_ref().and_then(|known| known.counters.get(&number)).copied();
        let first = first.unwrap_or(now.timestamp() as f64);
        let since = DateTime::from_timestamp(first as i64, 0).unwrap_or(now);
        index.known_for = (now - since).as_seconds_f64().max(0.0).floor();
        sample.counters.insert(number, first);
    }
    cx.baselines().store(&key, &sample).await
}
