//! The JSON Schema of `ops.toml`: what `ops config schema` prints, and what a file is checked against.

use std::sync::LazyLock;

use jsonschema::Validator;
use ops_core::{ProbeSpec, ThresholdSpec};
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use crate::catalogue;

use super::file::File;
use super::quantity;

pub(super) use ops_core::quantity::EXPECTED;

const ID: &str = "urn:ops:config:1";

static COMPILED: LazyLock<(Value, Validator)> = LazyLock::new(|| {
    let schema = generate();
    let validator = match jsonschema::draft202012::new(&schema) {
        Ok(validator) => validator,
        // Built from our own types: a test compiles it.
        Err(error) => unreachable!("the schema of ops.toml does not compile: {error}"),
    };
    (schema, validator)
});

/// The JSON Schema (2020-12) of `ops.toml`, for editors and for `ops config schema`. The names of probes and
/// of their thresholds are those of the built-in registries.
///
/// ```
/// let schema = ops_runbook::config::schema();
/// let thresholds = &schema["properties"]["thresholds"]["properties"];
/// assert!(thresholds["pg.connections"]["properties"]["used"].is_object());
/// ```
pub fn schema() -> Value {
    COMPILED.0.clone()
}

pub(super) fn compiled() -> (&'static Value, &'static Validator) {
    (&COMPILED.0, &COMPILED.1)
}

fn generate() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(WithoutNull);
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    schema.insert("$id".to_owned(), ID.into());
    schema.to_value()
}

/// TOML has no null: an optional value is left out.
#[derive(Clone, Debug)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
            branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
            if let [Value::Object(only)] = branches.as_slice() {
                let only = only.clone();
                object.remove("anyOf");
                object.extend(only);
            }
        }
    }
}

/// The schema of `[thresholds]`: each probe, and in it each of its thresholds.
pub(super) fn thresholds(generator: &mut SchemaGenerator) -> Schema {
    let probes: Map<String, Value> = catalogue::all()
        .into_iter()
        .map(|spec| (spec.name.to_owned(), probe(generator, spec).to_value()))
        .collect();
    json_schema!({ "type": "object", "properties": probes, "additionalProperties": false })
}

fn probe(generator: &mut SchemaGenerator, spec: &ProbeSpec) -> Schema {
    let thresholds: Map<String, Value> = spec
        .thresholds
        .iter()
        .map(|threshold| (threshold.name.to_owned(), bounds(generator, threshold).to_value()))
        .collect();
    json_schema!({
        "type": "object",
        "title": spec.name,
        "description": spec.explanation.measures,
        "properties": thresholds,
        "additionalProperties": false,
    })
}

fn bounds(generator: &mut SchemaGenerator, threshold: &ThresholdSpec) -> Schema {
    let bound = quantity::bound_schema(generator, threshold.unit).to_value();
    let shown = |bound: Option<f64>| bound.map_or("none".to_owned(), |bound| threshold.unit.format(bound));
    json_schema!({
        "title": threshold.name,
        "description": format!(
            "{}. By default warning {}, critical {}: {}",
            threshold.meaning, shown(threshold.warning), shown(threshold.critical), threshold.source
        ),
        "anyOf": [
            bound,
            {
                "type": "object",
                "properties": { "warning": bound, "critical": bound },
                "additionalProperties": false,
                "minProperties": 1,
            },
        ],
        (EXPECTED): format!("{}, or {{ warning = …, critical = … }}", quantity::example(threshold.unit)),
    })
}
