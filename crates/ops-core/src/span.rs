//! A length of time as a person writes it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Each unit in seconds.
pub const UNITS: &[(&str, f64)] = &[
    ("ms", 0.001),
    ("s", 1.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
    ("day", 86_400.0),
    ("days", 86_400.0),
];

/// A duration in a configuration: a number and one of `ms`, `s`, `min`, `h` and `d`.
///
/// ```
/// use std::time::Duration;
/// use ops_core::Span;
/// let span: Span = "15min".parse().unwrap();
/// assert_eq!((span.duration(), span.to_string().as_str()), (Duration::from_secs(900), "15min"));
/// assert!("15".parse::<Span>().is_err() && "15m".parse::<Span>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// As many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.0.as_secs_f64()
    }
}

/// What is no [`Span`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSpan;

impl fmt::Display for NoSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration is a number and its unit, such as \"5s\"")
    }
}

impl std::error::Error for NoSpan {}

impl FromStr for Span {
    type Err = NoSpan;

    fn from_str(text: &str) -> Result<Self, NoSpan> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(NoSpan)?;
        let (number, name) = text.split_at(split);
        let name = name.strip_prefix(' ').unwrap_or(name);
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == name).ok_or(NoSpan)?;
        let seconds = number.parse::<f64>().map_err(|_| NoSpan)? * factor;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| NoSpan)
    }
}

impl fmt::Display for Span {
    /// By the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)] {
            if millis >= length && millis.is_multiple_of(length) {
                return write!(f, "{}{unit}", millis / length);
            }
        }
        write!(f, "{millis}ms")
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = UNITS.iter().map(|(name, _)| *name).collect();
        json_schema!({
            "type": "string",
            "description": "A number and its unit: ms, s, min, h or d.",
            "pattern": format!("^[0-9]+(\\.[0-9]+)? ?({})$", names.join("|")),
            "examples": ["500ms", "30s", "2min"],
            "x-ops-expected": "a duration such as \"5s\"",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, seconds, written) in [
            ("5s", 5.0, "5s"),
            ("90s", 90.0, "90s"),
            ("1.5 h", 5400.0, "90min"),
            ("250ms", 0.25, "250ms"),
            ("2 days", 172_800.0, "2d"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.seconds(), span.to_string().as_str()), (seconds, written), "{text}");
        }
        for text in ["", "5", "s", "5m", "-5s", "1..5s", "5 s "] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
