//! Durations and sizes as a configuration writes them. One table makes both the pattern of the schema and the
//! reading, so that the two never disagree.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The annotation of a schema that says what a value should look like, where the schema says so in too many words.
pub const EXPECTED: &str = "x-ops-expected";

/// What a duration looks like, in words.
pub const DURATION_EXAMPLE: &str = "a duration such as \"5s\"";

/// What a size looks like, in words.
pub const SIZE_EXAMPLE: &str = "a size such as \"200MiB\"";

/// Each unit in seconds; the first name of a size is the one to print.
const TIMES: &[(&str, f64)] = &[
    ("ms", 0.001),
    ("s", 1.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
    ("day", 86_400.0),
    ("days", 86_400.0),
];

const SIZES: &[(&str, f64)] = &[
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
];

fn pattern(units: &[(&str, f64)]) -> String {
    let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
    format!("^[0-9]+(\\.[0-9]+)? ?({})$", names.join("|"))
}

fn parse(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, name) = text.split_at(split);
    let name = name.strip_prefix(' ').unwrap_or(name);
    let (_, factor) = units.iter().find(|(unit, _)| *unit == name)?;
    let value = number.parse::<f64>().ok()? * factor;
    value.is_finite().then_some(value)
}

/// The shortest exact text, by the largest unit that leaves a whole number.
fn format(value: f64, units: &[(&str, f64)]) -> String {
    let whole = |factor: f64| (value / factor).fract() == 0.0 && value >= factor;
    let mut best = units[0];
    for unit in units {
        if whole(unit.1) && unit.1 > best.1 {
            best = *unit;
        }
    }
    // 0.25 s is 250 ms, where floats leave dust.
    let number = value / best.1;
    let rounded = (number * 1e6).round() / 1e6;
    format!("{rounded}{}", best.0)
}

/// Reads seconds: a number and one of `ms`, `s`, `min`, `h` and `d`.
pub fn parse_seconds(text: &str) -> Option<f64> {
    parse(text, TIMES)
}

/// Reads a duration.
///
/// ```
/// use std::time::Duration;
/// use ops_core::quantity::parse_duration;
/// assert_eq!(parse_duration("2min"), Some(Duration::from_secs(120)));
/// assert_eq!(parse_duration("5"), None);
/// ```
pub fn parse_duration(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(parse_seconds(text)?).ok()
}

/// Reads bytes: a number and one of `B`, `KiB` to `TiB`, and `kB` to `TB`.
///
/// ```
/// assert_eq!(ops_core::quantity::parse_bytes("1.5 KiB"), Some(1536.0));
/// ```
pub fn parse_bytes(text: &str) -> Option<f64> {
    parse(text, SIZES)
}

/// Seconds as a configuration would have them.
pub fn seconds_text(seconds: f64) -> String {
    format(seconds, TIMES)
}

/// Bytes as a configuration would have them.
pub fn bytes_text(bytes: f64) -> String {
    format(bytes, SIZES)
}

/// A duration that a configuration writes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

/// A size in bytes that a configuration writes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeText(pub u64);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_duration(&text).map(Self).ok_or_else(|| de::Error::custom(DURATION_EXAMPLE))
    }
}

/// As the configuration would have it.
impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&seconds_text(self.0.as_secs_f64()))
    }
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        // Half a byte is no size, and a float's dust is none either.
        let bytes = parse_bytes(&text).map(|bytes| Self(bytes.round() as u64));
        bytes.ok_or_else(|| de::Error::custom(SIZE_EXAMPLE))
    }
}

impl Serialize for SizeText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&bytes_text(self.0 as f64))
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number and its unit: ms, s, min, h or d.",
            "pattern": pattern(TIMES),
            "examples": ["500ms", "30s", "2min"],
            (EXPECTED): DURATION_EXAMPLE,
        })
    }
}

impl JsonSchema for SizeText {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number and its unit: B, KiB, MiB, GiB, TiB, or kB, MB, GB, TB by thousands.",
            "pattern": pattern(SIZES),
            "examples": ["200MiB", "1.5GB"],
            (EXPECTED): SIZE_EXAMPLE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["\"15min\"", "\"250ms\"", "\"36h\""] {
            let read: DurationText = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        for (text, bytes) in [("\"200MiB\"", 209_715_200), ("\"100GB\"", 100_000_000_000), ("\"0.1kB\"", 100)]
        {
            assert_eq!(serde_json::from_str::<SizeText>(text).unwrap(), SizeText(bytes));
        }
        assert!(serde_json::from_str::<DurationText>("\"15\"").is_err());
        assert!(serde_json::from_str::<SizeText>("15").is_err());
    }
}
