//! What a number counts, and how an operator reads it.

use serde::{Deserialize, Serialize};

/// The unit of a [`Measurement`](crate::Measurement).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
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
    /// Bytes per second.
    BytesPerSecond,
    /// Bytes per hour.
    BytesPerHour,
    /// Bytes per day.
    BytesPerDay,
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
            Unit::BytesPerSecond => "bytes_per_second",
            Unit::BytesPerHour => "bytes_per_hour",
            Unit::BytesPerDay => "bytes_per_day",
            Unit::Ratio => "ratio",
        }
    }

    /// Whether it counts bytes, at once or over a time.
    pub fn is_bytes(self) -> bool {
        matches!(self, Unit::Bytes | Unit::BytesPerSecond | Unit::BytesPerHour | Unit::BytesPerDay)
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
            Unit::BytesPerSecond => format!("{}/s", format_bytes(value)),
            Unit::BytesPerHour => format!("{}/h", format_bytes(value)),
            Unit::BytesPerDay => format!("{}/day", format_bytes(value)),
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
            (Unit::BytesPerSecond, 2048.0, "2.0 KiB/s"),
            (Unit::BytesPerDay, 3e9, "2.8 GiB/day"),
            (Unit::Count, -1200.0, "-1,200"),
            (Unit::PerSecond, 0.5, "0.5/s"),
        ] {
            assert_eq!(unit.format(value), expected);
        }
    }
}
