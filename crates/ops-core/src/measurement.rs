//! A number with its unit and the bounds it was judged by.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::status::Status;
use crate::threshold::{Direction, Threshold};

/// The unit of a [`Measurement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unit {
    /// 0 to 100.
    Percent,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// A number of things.
    Count,
    /// Events per second.
    PerSecond,
    /// Events per hour.
    PerHour,
    /// A quotient without a unit.
    Ratio,
}

impl Unit {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Percent => "percent",
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            Unit::Milliseconds => "milliseconds",
            Unit::Count => "count",
            Unit::PerSecond => "per_second",
            Unit::PerHour => "per_hour",
            Unit::Ratio => "ratio",
        }
    }

    /// `value` as an operator reads it: `12.0 %`, `3.4 GiB`, `4 min`, `1,204`.
    pub fn format(self, value: f64) -> String {
        match self {
            Unit::Percent => format!("{value:.1} %"),
            Unit::Bytes => format_bytes(value),
            Unit::Seconds => format_seconds(value),
            Unit::Milliseconds => format_seconds(value / 1000.0),
            Unit::Count => format_count(value),
            Unit::PerSecond => format!("{}/s", format_count(value)),
            Unit::PerHour => format!("{}/h", format_count(value)),
            Unit::Ratio => format!("{value:.2}"),
        }
    }
}

fn format_bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

fn format_seconds(seconds: f64) -> String {
    let magnitude = seconds.abs();
    match magnitude {
        _ if magnitude < 0.001 => format!("{:.0} µs", seconds * 1e6),
        _ if magnitude < 1.0 => format!("{:.0} ms", seconds * 1e3),
        _ if magnitude < 10.0 => format!("{seconds:.1} s"),
        _ if magnitude < 120.0 => format!("{seconds:.0} s"),
        _ if magnitude < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ if magnitude < 172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

fn format_count(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value < 0.0 {
        grouped.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

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
            value,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_an_operator_says_them() {
        for (unit, value, expected) in [
            (Unit::Percent, 98.66, "98.7 %"),
            (Unit::Bytes, 512.0, "512 B"),
            (Unit::Bytes, 3.5 * 1024.0 * 1024.0, "3.5 MiB"),
            (Unit::Seconds, 0.0042, "4 ms"),
            (Unit::Seconds, 240.0, "4 min"),
            (Unit::Milliseconds, 0.25, "250 µs"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::PerHour, 3120.0, "3,120/h"),
            (Unit::Count, -1200.0, "-1,200"),
            (Unit::PerSecond, 0.5, "0.5/s"),
        ] {
            assert_eq!(unit.format(value), expected);
        }
    }
}
