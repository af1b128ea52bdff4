//! The thresholds that one probe works with.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::probe::ProbeSpec;
use crate::threshold::{Bounds, Direction, Threshold};

/// The thresholds that one probe works with: its defaults, with what a configuration put in their place.
#[derive(Clone, Debug)]
pub struct Limits {
    probe: &'static str,
    thresholds: BTreeMap<&'static str, Threshold>,
}

impl Limits {
    /// The defaults of `spec`.
    pub fn defaults(spec: &'static ProbeSpec) -> Self {
        let thresholds = spec
            .thresholds
            .iter()
            .map(|t| (t.name, Threshold { direction: t.direction, warning: t.warning, critical: t.critical }))
            .collect();
        Self { probe: spec.name, thresholds }
    }

    /// Replaces the bounds of one threshold; a bound left out keeps its default.
    ///
    /// # Errors
    /// `InvalidInput` when the probe has no such threshold, or when the bounds stand the wrong way round.
    pub fn with(mut self, name: &str, bounds: Bounds) -> Result<Self> {
        let known = self.thresholds.keys().copied().collect::<Vec<_>>().join(", ");
        let invalid = |message: String| {
            Error::new(ErrorKind::InvalidInput, "read the thresholds").on(self.probe).because(message)
        };
        let Some(threshold) = self.thresholds.get_mut(name) else {
            return Err(invalid(format!("there is no threshold {name:?}; it has: {known}")));
        };
        threshold.warning = bounds.warning.or(threshold.warning);
        threshold.critical = bounds.critical.or(threshold.critical);
        if let (Some(warning), Some(critical)) = (threshold.warning, threshold.critical) {
            let ordered = match threshold.direction {
                Direction::Above => warning <= critical,
                Direction::Below => warning >= critical,
            };
            if !ordered {
                return Err(invalid(format!(
                    "{name}: a warning at {warning} comes after critical at {critical}"
                )));
            }
        }
        Ok(self)
    }

    /// The threshold that the probe declared under `name`.
    ///
    /// # Panics
    /// When the probe's own `SPEC` does not declare `name`; a probe only asks for what it declared.
    pub fn get(&self, name: &str) -> Threshold {
        match self.thresholds.get(name) {
            Some(threshold) => *threshold,
            None => panic!("{} asks for a threshold it does not declare: {name}", self.probe),
        }
    }
}
