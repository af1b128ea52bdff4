//! The schema for editors is the schema that files are checked against.

use super::super::schema;
use super::EXAMPLE;
use crate::catalogue;

#[test]
fn the_schema_is_sound_and_says_so() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["$id"].is_string() && schema["title"] == "ops.toml");
    assert!(!schema.to_string().contains("\"null\""), "TOML has no null");
}

#[test]
fn the_schema_accepts_the_example() {
    let instance: serde_json::Value = toml::from_str(EXAMPLE).unwrap();
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let errors: Vec<_> = validator.iter_errors(&instance).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn every_threshold_of_every_probe_is_there_and_described() {
    let schema = schema();
    for spec in catalogue::all() {
        let probe = &schema["properties"]["thresholds"]["properties"][spec.name];
        assert!(probe["description"].is_string(), "{}", spec.name);
        let names: Vec<_> = probe["properties"].as_object().unwrap().keys().cloned().collect();
        let mut declared: Vec<_> =
            spec.thresholds.iter().map(|threshold| threshold.name.to_owned()).collect();
        declared.sort();
        let mut names = names;
        names.sort();
        assert_eq!(names, declared, "{}", spec.name);
    }
}

/// An editor shows a description for each key, and a typing mistake in each table is found.
#[test]
fn every_table_is_closed_and_every_key_described() {
    fn walk(schema: &serde_json::Value, path: &str) {
        if let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) {
            assert!(schema.get("additionalProperties").is_some(), "{path} takes unknown keys");
            for (key, property) in properties {
                let bound = path.contains("/thresholds/") && (key == "warning" || key == "critical");
                assert!(bound || property.get("description").is_some(), "{path}/{key} has no description");
            }
        }
        match schema {
            serde_json::Value::Object(map) => {
                map.iter().for_each(|(key, value)| walk(value, &format!("{path}/{key}")))
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| walk(value, path)),
            _ => {}
        }
    }
    walk(&schema(), "");
}
