//! Durations and sizes as text. One table makes both the pattern of the schema and the reading, so that the
//! two never disagree.

use std::borrow::Cow;
use std::time::Duration;

use ops_core::Unit;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::schema::EXPECTED;

/// The schema of a duration.
pub(super) use ops_core::Span as DurationText;
use ops_core::span::UNITS as TIMES;

/// Each unit in bytes; the first name of a size is the one to print.
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

/// Reads a duration as `ops.toml` has it: a number and one of `ms`, `s`, `min`, `h` and `d`.
///
/// ```
/// use std::time::Duration;
/// use ops_runbook::config::parse_duration;
/// assert_eq!(parse_duration("2min"), Some(Duration::from_secs(120)));
/// assert_eq!(parse_duration("5"), None);
/// ```
pub fn parse_duration(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(parse(text, TIMES)?).ok()
}

/// A duration as the file would have it.
pub(super) fn duration_text(duration: Duration) -> String {
    format(duration.as_secs_f64(), TIMES)
}

/// A bound as the file has it, in the unit of its threshold.
pub(super) fn bound(unit: Unit, value: &Value) -> Option<f64> {
    match unit {
        Unit::Seconds => parse(value.as_str()?, TIMES),
        Unit::Milliseconds => parse(value.as_str()?, TIMES).map(|seconds| seconds * 1000.0),
        Unit::Bytes => parse(value.as_str()?, SIZES),
        _ => value.as_f64(),
    }
}

/// A bound as the file would have it.
pub(super) fn bound_value(unit: Unit, bound: f64) -> Value {
    match unit {
        Unit::Seconds => format(bound, TIMES).into(),
        Unit::Milliseconds => format(bound / 1000.0, TIMES).into(),
        Unit::Bytes => format(bound, SIZES).into(),
        _ if bound.fract() == 0.0 && bound.abs() < 9e15 => (bound as i64).into(),
        _ => bound.into(),
    }
}

/// What a bound of this unit looks like.
pub(super) fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds | Unit::Milliseconds => "a duration such as \"5s\"",
        Unit::Bytes => "a size such as \"200MiB\"",
        Unit::Percent => "a percentage, as a number from 0 to 100",
        _ => "a number",
    }
}

/// The schema of a bound.
pub(super) fn bound_schema(generator: &mut SchemaGenerator, unit: Unit) -> Schema {
    match unit {
        Unit::Seconds | Unit::Milliseconds => generator.subschema_for::<DurationText>(),
        Unit::Bytes => generator.subschema_for::<SizeText>(),
        Unit::Percent => {
            json_schema!({ "type": "number", "minimum": 0, "maximum": 100, (EXPECTED): example(unit) })
        }
        _ => json_schema!({ "type": "number" }),
    }
}

/// The schema of a size.
pub(super) enum SizeText {}

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
            (EXPECTED): example(Unit::Bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_read_in_the_unit_of_its_threshold() {
        for (unit, text, expected) in [
            (Unit::Seconds, "5s", Some(5.0)),
            (Unit::Seconds, "2min", Some(120.0)),
            (Unit::Seconds, "1.5 h", Some(5400.0)),
            (Unit::Milliseconds, "250ms", Some(250.0)),
            (Unit::Bytes, "200MiB", Some(209_715_200.0)),
            (Unit::Bytes, "1 kB", Some(1000.0)),
            (Unit::Bytes, "5s", None),
            (Unit::Seconds, "5", None),
            (Unit::Seconds, "5m", None),
            (Unit::Seconds, "-5s", None),
            (Unit::Seconds, "1..5s", None),
            (Unit::Seconds, "s", None),
            (Unit::Seconds, "", None),
        ] {
            let read = bound(unit, &Value::from(text));
            assert_eq!(read.map(|value| value.round()), expected, "{text}");
        }
    }

    #[test]
    fn durations_print_as_one_would_write_them() {
        for (millis, text) in
            [(0, "0ms"), (500, "500ms"), (30_000, "30s"), (90_000, "90s"), (120_000, "2min")]
        {
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
        assert_eq!(bound_value(Unit::Bytes, 209_715_200.0), Value::from("200MiB"));
        assert_eq!(bound_value(Unit::Percent, 80.0).to_string(), "80");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(millis in 0_u64..10_000_000_000) {
            let given = Duration::from_millis(millis);
            let read = parse_duration(&duration_text(given)).expect("a duration");
            prop_assert!(read.abs_diff(given) < Duration::from_millis(1));
        }

        #[test]
        fn what_matches_the_pattern_is_read(text in "[0-9]{1,4}(\\.[0-9]{1,3})? ?(ms|s|min|h|d|B|KiB|MB)") {
            let value = Value::from(text);
            prop_assert!(bound(Unit::Seconds, &value).is_some() != bound(Unit::Bytes, &value).is_some());
        }
    }
}
