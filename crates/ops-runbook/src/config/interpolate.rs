//! `${NAME}` in strings stands for an environment variable, and `$$` for a dollar sign.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::child;
use super::report::Report;
use super::surroundings::Surroundings;

/// A string with variables in it, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interpolated {
    pub(super) raw: String,
    pub(super) names: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    Variable(&'t str),
}

/// Replaces variables in every string of `root` but in SQL, where `$$` quotes a string and a variable would
/// be an injection. Returns the strings that had any, by their pointers.
pub(super) fn expand(
    root: &mut Value,
    surroundings: &dyn Surroundings,
    report: &mut Report<'_>,
) -> BTreeMap<String, Interpolated> {
    let mut walk = Walk { surroundings, found: BTreeMap::new(), mistakes: Vec::new() };
    walk.value(root, "");
    for (pointer, message, help) in walk.mistakes {
        report.value(&pointer, format!("{}: {message}", report.map.name(&pointer)), help);
    }
    walk.found
}

struct Walk<'s> {
    surroundings: &'s dyn Surroundings,
    found: BTreeMap<String, Interpolated>,
    mistakes: Vec<(String, String, Option<String>)>,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value, pointer: &str) {
        match value {
            Value::String(text) if !(pointer.starts_with("/metric/") && pointer.ends_with("/sql")) => {
                self.text(text, pointer);
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    self.value(element, &format!("{pointer}/{index}"));
                }
            }
            Value::Object(entries) => {
                for (key, entry) in entries {
                    self.value(entry, &child(pointer, key));
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &mut String, pointer: &str) {
        let parts = match parse(text) {
            Ok(parts) => parts,
            Err(why) => {
                let help = Some("`$$` stands for a dollar sign".to_owned());
                self.mistakes.push((pointer.to_owned(), why.to_owned(), help));
                return;
            }
        };
        let mut expanded = String::new();
        let mut names = Vec::new();
        for part in parts {
            match part {
                Part::Text(literal) => expanded.push_str(literal),
                Part::Variable(name) => match self.surroundings.env(name) {
                    Some(value) => {
                        expanded.push_str(&value);
                        names.push(name.to_owned());
                    }
                    None => {
                        let message = format!("the environment variable {name} is not set");
                        self.mistakes.push((pointer.to_owned(), message, None));
                        return;
                    }
                },
            }
        }
        let raw = std::mem::replace(text, expanded);
        if !names.is_empty() {
            self.found.insert(pointer.to_owned(), Interpolated { raw, names });
        }
    }
}

fn parse(text: &str) -> Result<Vec<Part<'_>>, &'static str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        parts.push(Part::Text(before));
        if let Some(after) = dollar.strip_prefix("$$") {
            parts.push(Part::Text("$"));
            rest = after;
        } else if let Some(after) = dollar.strip_prefix("${") {
            let (name, after) = after.split_once('}').ok_or("`${` is not closed by `}`")?;
            if !is_variable(name) {
                return Err("between `${` and `}` belongs the name of an environment variable");
            }
            parts.push(Part::Variable(name));
            rest = after;
        } else {
            // A lone dollar sign is one: passwords have them.
            parts.push(Part::Text("$"));
            rest = &dollar[1..];
        }
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// Whether an environment variable can be called so.
pub(super) fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, &'static str> {
        let join = |part| match part {
            Part::Text(text) => text.to_owned(),
            Part::Variable(name) => format!("<{name}>"),
        };
        parse(text).map(|parts| parts.into_iter().map(join).collect())
    }

    #[test]
    fn dollars_mean_what_they_say() {
        for (text, expected) in [
            ("a${B_1}c", "a<B_1>c"),
            ("$${A}", "${A}"),
            ("$$${A}", "$<A>"),
            ("pa$word$", "pa$word$"),
            ("${A}${B}", "<A><B>"),
            ("", ""),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["${A", "${}", "${A B}", "${1A}", "${A${B}}"] {
            assert!(shown(text).is_err(), "{text}");
        }
    }
}
