//! Where ok ends: bounds, their direction, and the defaults a probe declares.

use serde::{Deserialize, Serialize};

use crate::status::Status;
use crate::unit::Unit;

/// On which side of a bound trouble lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// High values are trouble: usage, age, lag.
    #[default]
    Above,
    /// Low values are trouble: free space, hit rates, days until a certificate ends.
    Below,
}

impl Direction {
    pub(crate) fn is_above(&self) -> bool {
        *self == Direction::Above
    }
}

/// Bounds with their direction. A bound that is `None` never alarms; reaching a bound is over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// On which side of the bounds trouble lies.
    pub direction: Direction,
    /// From here it is a warning.
    pub warning: Option<f64>,
    /// From here it is critical.
    pub critical: Option<f64>,
}

impl Threshold {
    /// Trouble from `warning` and from `critical` upwards.
    pub fn above(warning: f64, critical: f64) -> Self {
        Self { direction: Direction::Above, warning: Some(warning), critical: Some(critical) }
    }

    /// Trouble from `warning` and from `critical` downwards.
    pub fn below(warning: f64, critical: f64) -> Self {
        Self { direction: Direction::Below, warning: Some(warning), critical: Some(critical) }
    }

    /// What the bounds make of `value`; `Unknown` for what is not a number.
    pub fn judge(&self, value: f64) -> Status {
        if value.is_nan() {
            return Status::Unknown;
        }
        let reached = |bound: Option<f64>| {
            bound.is_some_and(|bound| match self.direction {
                Direction::Above => value >= bound,
                Direction::Below => value <= bound,
            })
        };
        if reached(self.critical) {
            Status::Critical
        } else if reached(self.warning) {
            Status::Warning
        } else {
            Status::Ok
        }
    }
}

/// A threshold as a probe declares it: its default, its unit, and where the default comes from.
#[derive(Clone, Copy, Debug)]
pub struct ThresholdSpec {
    /// The key in `[thresholds."probe"]`.
    pub name: &'static str,
    /// What is compared, in one line.
    pub meaning: &'static str,
    /// The unit of both bounds.
    pub unit: Unit,
    /// On which side trouble lies.
    pub direction: Direction,
    /// The default from which it is a warning.
    pub warning: Option<f64>,
    /// The default from which it is critical.
    pub critical: Option<f64>,
    /// Where the defaults come from.
    pub source: &'static str,
}

/// Bounds given by a configuration, in the unit of the threshold they replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// From here it is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    /// From here it is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaching_a_bound_is_over_it() {
        let above = Threshold::above(80.0, 90.0);
        let below = Threshold::below(20.0, 10.0);
        for (threshold, value, expected) in [
            (above, 79.9, Status::Ok),
            (above, 80.0, Status::Warning),
            (above, 90.0, Status::Critical),
            (above, f64::NAN, Status::Unknown),
            (below, 20.1, Status::Ok),
            (below, 20.0, Status::Warning),
            (below, 9.0, Status::Critical),
        ] {
            assert_eq!(threshold.judge(value), expected, "{value} by {threshold:?}");
        }
    }
}
