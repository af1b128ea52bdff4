//! `[state]`: where ops keeps what it remembers, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use ops_core::quantity::DurationText;
use ops_core::state::Retention;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where what ops remembers is kept, and how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct StateConfig {
    /// The SQLite file, made on first use; relative to this file. By default state.db in $XDG_STATE_HOME/ops, which
    /// is ~/.local/state/ops where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// How long measurements are kept as they were taken; 14d by default.
    pub raw: DurationText,
    /// How long their hourly figures are kept; 400d by default.
    pub hourly: DurationText,
    /// How long runs of procedures are kept that have ended; 400d by default.
    pub runs: DurationText,
}

impl Default for StateConfig {
    fn default() -> Self {
        let Retention { raw, hourly, runs, .. } = Retention::default();
        Self { file: None, raw: DurationText(raw), hourly: DurationText(hourly), runs: DurationText(runs) }
    }
}

impl StateConfig {
    /// How long things are kept.
    pub fn retention(&self) -> Retention {
        Retention::default().with_raw(self.raw.0).with_hourly(self.hourly.0).with_runs(self.runs.0)
    }

    /// Its mistakes, by key: a time that keeps nothing, and hourly figures that go before what they are made of.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let times = [("raw", self.raw), ("hourly", self.hourly), ("runs", self.runs)];
        let mut mistakes: Vec<_> = times
            .into_iter()
            .filter(|(_, time)| time.0 < Duration::from_secs(3600))
            .map(|(key, _)| (key, "must be an hour at least".to_owned()))
            .collect();
        if self.hourly.0 < self.raw.0 {
            mistakes.push((
                "hourly",
                format!("hourly figures go before the measurements, kept for {}", self.raw),
            ));
        }
        mistakes
    }
}
