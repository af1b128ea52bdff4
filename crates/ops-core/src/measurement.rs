//! A number with its unit and the bounds it was judged by.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::status::Status;
use crate::threshold::{Direction, Threshold};
use crate::unit::Unit;

/// One number that a probe saw.
///
/// ```
/// use ops_core::{Measurement, Status, Threshold, Unit};
/// let used = Measurement::new("used", 92.0, Unit::Percent).judged_by(Threshold::above(80.0, 90.0));
/// assert_eq!(used.status(), Status::Critical);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Measurement {
    /// What was measured, unique within the probe together with `labels`.
    pub name: Cow<'static, str>,
    /// The value, in `unit`. One that is not a number is null in JSON, which has no other word for it.
    #[serde(deserialize_with = "null_is_nan")]
    #[schemars(extend("type" = ["number", "null"]))]
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
    /// The bound from which it is a warning, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    /// The bound from which it is critical, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
    /// On which side of the bounds trouble lies.
    #[serde(default, skip_serializing_if = "Direction::is_above")]
    pub direction: Direction,
    /// What tells this measurement from its siblings of the same name, such as a mount point.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn null_is_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Measurement {
    /// A measurement that is shown but not judged.
    pub fn new(name: impl Into<Cow<'static, str>>, value: f64, unit: Unit) -> Self {
        Self {
            name: name.into(),
            // A sum of nothing is -0.0, which nobody wants to read.
            value: value + 0.0,
            unit,
            warning: None,
            critical: None,
            direction: Direction::Above,
            labels: BTreeMap::new(),
        }
    }

    /// Judges the value by `threshold`.
    #[must_use]
    pub fn judged_by(mut self, threshold: Threshold) -> Self {
        self.warning = threshold.warning;
        self.critical = threshold.critical;
        self.direction = threshold.direction;
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// What its bounds make of its value. A value that is not a number is `Unknown`.
    pub fn status(&self) -> Status {
        Threshold { direction: self.direction, warning: self.warning, critical: self.critical }
            .judge(self.value)
    }

    /// The value as an operator reads it.
    pub fn format(&self) -> String {
        self.unit.format(self.value)
    }
}
