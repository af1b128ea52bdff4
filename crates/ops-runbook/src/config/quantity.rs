//! Bounds in the unit of their threshold: durations and sizes are text.

use std::time::Duration;

use ops_core::Unit;
use ops_core::quantity::{
    DURATION_EXAMPLE, DurationText, SIZE_EXAMPLE, SizeText, bytes_text, parse_bytes, parse_seconds,
    seconds_text,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::schema::EXPECTED;

/// A duration as the file would have it.
pub(super) fn duration_text(duration: Duration) -> String {
    seconds_text(duration.as_secs_f64())
}

/// A bound as the file has it, in the unit of its threshold.
pub(super) fn bound(unit: Unit, value: &Value) -> Option<f64> {
    match unit {
        Unit::Seconds => parse_seconds(value.as_str()?),
        Unit::Milliseconds => parse_seconds(value.as_str()?).map(|seconds| seconds * 1000.0),
        unit if unit.is_bytes() => parse_bytes(value.as_str()?),
        _ => value.as_f64(),
    }
}

/// A bound as the file would have it.
pub(super) fn bound_value(unit: Unit, bound: f64) -> Value {
    match unit {
        Unit::Seconds => seconds_text(bound).into(),
        Unit::Milliseconds => seconds_text(bound / 1000.0).into(),
        unit if unit.is_bytes() => bytes_text(bound).into(),
        _ if bound.fract() == 0.0 && bound.abs() < 9e15 => (bound as i64).into(),
        _ => bound.into(),
    }
}

/// What a bound of this unit looks like.
pub(super) fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds | Unit::Milliseconds => DURATION_EXAMPLE,
        unit if unit.is_bytes() => SIZE_EXAMPLE,
        Unit::Percent => "a percentage, as a number from 0 to 100",
        _ => "a number",
    }
}

/// The schema of a bound.
pub(super) fn bound_schema(generator: &mut SchemaGenerator, unit: Unit) -> Schema {
    match unit {
        Unit::Seconds | Unit::Milliseconds => generator.subschema_for::<DurationText>(),
        unit if unit.is_bytes() => generator.subschema_for::<SizeText>(),
        Unit::Percent => {
            json_schema!({ "type": "number", "minimum": 0, "maximum": 100, (EXPECTED): example(unit) })
        }
        _ => json_schema!({ "type": "number" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::quantity::parse_duration;
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
