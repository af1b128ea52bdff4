//! Whether a file has the shape that the schema asks for; each objection of the validator in our own words.

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::document::{child, keys};
use super::nearest::did_you_mean;
use super::report::Report;
use super::schema::{EXPECTED, compiled};

/// At most this many keys are listed where none is near.
const LISTED: usize = 14;

/// Reports what is wrong with the shape of `root`, and returns the pointers of what is.
pub(super) fn check(root: &Value, report: &mut Report<'_>) -> Vec<String> {
    let (schema, validator) = compiled();
    let mut check = Check { schema, report, unsound: Vec::new() };
    for error in validator.iter_errors(root) {
        check.explain(&error);
    }
    check.nulls(root, "");
    check.unsound
}

struct Check<'r, 'm> {
    schema: &'static Value,
    report: &'r mut Report<'m>,
    unsound: Vec<String>,
}

impl Check<'_, '_> {
    fn explain(&mut self, error: &ValidationError<'_>) {
        let pointer = error.instance_path().as_str().to_owned();
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                for key in unexpected {
                    self.unknown_key(error, &pointer, key);
                }
            }
            Kind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                let message = format!("{} has no `{property}`", self.report.map.name(&pointer));
                self.report.missing(&pointer, message, None);
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                self.no_branch(error, &pointer, context);
            }
            _ => {
                let (message, help) = self.wrong_value(error, &pointer);
                self.value(pointer, message, help);
            }
        }
    }

    fn value(&mut self, pointer: String, message: String, help: Option<String>) {
        self.report.value(&pointer, format!("{}: {message}", self.report.map.name(&pointer)), help);
        self.unsound.push(pointer);
    }

    /// What JSON cannot say, where the schema takes anything.
    fn nulls(&mut self, value: &Value, pointer: &str) {
        match value {
            Value::Null => {
                let kind = self.report.map.place(pointer).map_or("a value of this kind", |place| place.kind);
                self.value(pointer.to_owned(), format!("{kind} cannot stand here"), None);
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.nulls(element, &format!("{pointer}/{index}"));
                }
            }
            Value::Object(table) => {
                for (key, entry) in table {
                    self.nulls(entry, &child(pointer, key));
                }
            }
            _ => {}
        }
    }

    /// Of several shapes the one that was meant is the one of the same type.
    fn no_branch(
        &mut self,
        error: &ValidationError<'_>,
        pointer: &str,
        branches: &[Vec<ValidationError<'static>>],
    ) {
        if let Some(options) = options(branches) {
            let (message, help) = one_of(&options, error.instance());
            return self.value(pointer.to_owned(), message, help);
        }
        let mistyped = |branch: &&Vec<ValidationError<'static>>| {
            branch.iter().any(|inner| {
                inner.instance_path().as_str() == pointer
                    // A word among other shapes: "all", or an array of names.
                    && matches!(inner.kind(), Kind::Type { .. } | Kind::Enum { .. } | Kind::Constant { .. })
            })
        };
        let mut meant = branches.iter().filter(|branch| !mistyped(branch));
        match (meant.next(), meant.next()) {
            (Some(branch), None) => branch.iter().for_each(|inner| self.explain(inner)),
            _ => {
                let message = self.expected(error, pointer);
                self.value(pointer.to_owned(), message, None);
            }
        }
    }

    /// The schema that objects.
    fn node(&self, error: &ValidationError<'_>) -> Option<&'static Value> {
        let path = error.schema_path().as_str();
        let keyword = format!("/{}", error.kind().keyword());
        self.schema.pointer(&path[..path.rfind(&keyword)?])
    }

    fn expected(&self, error: &ValidationError<'_>, pointer: &str) -> String {
        let hint = self.node(error).and_then(|node| node.get(EXPECTED)).and_then(Value::as_str);
        let expected = match (hint, error.kind()) {
            (Some(hint), _) => hint.to_owned(),
            (None, Kind::Type { kind: TypeKind::Single(kind) }) => type_name(*kind).to_owned(),
            (None, Kind::Type { kind: TypeKind::Multiple(kinds) }) => {
                kinds.iter().map(type_name).collect::<Vec<_>>().join(" or ")
            }
            (None, _) => return "is not valid here".to_owned(),
        };
        // The kind is news only where it is the wrong one.
        match self.report.map.place(pointer) {
            Some(place) if matches!(error.kind(), Kind::Type { .. } | Kind::AnyOf { .. }) => {
                format!("expected {expected}, found {}", place.kind)
            }
            _ => format!("expected {expected}"),
        }
    }

    fn wrong_value(&self, error: &ValidationError<'_>, pointer: &str) -> (String, Option<String>) {
        let message = match error.kind() {
            Kind::Enum { options } => {
                let options: Vec<_> =
                    options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                return one_of(&options, error.instance());
            }
            Kind::MinLength { .. } => "must not be empty".to_owned(),
            Kind::MaxProperties { .. } | Kind::MinProperties { .. } if self.hinted(error).is_none() => {
                match error.kind() {
                    Kind::MinProperties { .. } => "must not be empty".to_owned(),
                    _ => "takes one key only".to_owned(),
                }
            }
            Kind::Minimum { limit } if self.hinted(error).is_none() => format!("must be at least {limit}"),
            Kind::Maximum { limit } if self.hinted(error).is_none() => format!("must be at most {limit}"),
            Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
            Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
            Kind::MinItems { limit } => format!("needs at least {limit}"),
            Kind::MaxItems { limit } => format!("takes at most {limit}"),
            Kind::UniqueItems => "has an element twice".to_owned(),
            _ => self.expected(error, pointer),
        };
        (message, None)
    }

    fn hinted(&self, error: &ValidationError<'_>) -> Option<&'static Value> {
        self.node(error).and_then(|node| node.get(EXPECTED))
    }

    fn unknown_key(&mut self, error: &ValidationError<'_>, pointer: &str, key: &str) {
        let place = child(pointer, key);
        let known: Vec<&str> = self
            .node(error)
            .and_then(|node| node.get("properties")?.as_object())
            .map(|properties| properties.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let (message, help) = self.unknown(error, pointer, key, &known);
        self.report.key(&place, message, help);
        self.unsound.push(place);
    }

    fn unknown(
        &self,
        error: &ValidationError<'_>,
        pointer: &str,
        key: &str,
        known: &[&str],
    ) -> (String, Option<String>) {
        let map = self.report.map;
        let path: Vec<String> = keys(pointer).collect();
        let near = did_you_mean(key, known.iter().copied());
        let names_are_free = self.node(error).is_some_and(|node| node.get("patternProperties").is_some());
        match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            _ if names_are_free => (
                format!("`{key}` cannot be a name"),
                Some("a name has letters, digits, `_` and `-`, and begins with a letter or digit".to_owned()),
            ),
            ["thresholds"] => self.unknown_probe(error, key, near),
            ["thresholds", probe] => (
                format!("{probe} has no threshold `{key}`"),
                near.or_else(|| list("its thresholds are", known)),
            ),
            [] => {
                let kind = map.place(&child(pointer, key)).map(|place| place.kind);
                let message = match (kind, error.instance().get(key)) {
                    (Some("a table"), _) => format!("unknown section [{key}]"),
                    (_, Some(Value::Array(rows)))
                        if rows.iter().all(Value::is_object) && !rows.is_empty() =>
                    {
                        format!("unknown section [[{key}]]")
                    }
                    _ => format!("unknown key `{key}`"),
                };
                (message, near.or_else(|| list("known are", known)))
            }
            _ => (
                format!("unknown key `{key}`{}", map.within(pointer)),
                near.or_else(|| list("known are", known)),
            ),
        }
    }

    fn unknown_probe(
        &self,
        error: &ValidationError<'_>,
        key: &str,
        near: Option<String>,
    ) -> (String, Option<String>) {
        let instance = error.instance();
        // [thresholds.pg.connections] is TOML for a table in a table.
        let unquoted = instance.get(key).and_then(Value::as_object).and_then(|table| {
            let full = table
                .keys()
                .map(|name| format!("{key}.{name}"))
                .find(|name| self.schema["properties"]["thresholds"]["properties"].get(name).is_some())?;
            Some(format!("quote the name: [thresholds.\"{full}\"]"))
        });
        let metric = key
            .starts_with("metric.")
            .then(|| "the bounds of a metric stand in its [[metric]] section".to_owned());
        let help = unquoted.or(metric).or(near);
        (format!("there is no probe `{key}`"), help.or_else(|| Some("`ops explain` lists them".to_owned())))
    }
}

fn list(introduction: &str, known: &[&str]) -> Option<String> {
    let listed = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    (!known.is_empty() && known.len() <= LISTED).then(|| format!("{introduction} {listed}"))
}

/// The words to choose from, where every branch is one.
fn options<'e>(branches: &'e [Vec<ValidationError<'static>>]) -> Option<Vec<&'e str>> {
    let mut options = Vec::new();
    for branch in branches {
        let words = branch.iter().find_map(|error| match error.kind() {
            Kind::Constant { expected_value } => Some(std::slice::from_ref(&**expected_value)),
            Kind::Enum { options } => options.as_array().map(Vec::as_slice),
            _ => None,
        })?;
        options.extend(words.iter().filter_map(Value::as_str));
    }
    (!options.is_empty()).then_some(options)
}

fn one_of(options: &[&str], instance: &Value) -> (String, Option<String>) {
    let listed = options.iter().map(|option| format!("\"{option}\"")).collect::<Vec<_>>().join(", ");
    let near = instance.as_str().and_then(|word| did_you_mean(word, options.iter().copied()));
    (format!("expected one of {listed}"), near)
}

fn type_name(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "an array",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "nothing",
        JsonType::Number => "a number",
        JsonType::Object => "a table",
        JsonType::String => "a string",
    }
}

/// Takes what is unsound out of `root`, so that the rest can be looked at further. An array with an unsound
/// element goes as a whole: the places of the others would shift.
pub(super) fn prune(root: &mut Value, unsound: &[String]) {
    for pointer in unsound {
        let mut pointer = pointer.as_str();
        while let Some(cut) = pointer.rfind('/') {
            let key = keys(&pointer[cut..]).next().unwrap_or_default();
            pointer = &pointer[..cut];
            match root.pointer_mut(pointer) {
                Some(Value::Object(table)) => {
                    table.remove(&key);
                    break;
                }
                Some(_) => {}
                None => break,
            }
        }
    }
}
