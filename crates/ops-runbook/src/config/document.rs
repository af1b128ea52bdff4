//! TOML as JSON, with where each value stands in the text.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::lines::Lines;
use super::mistake::Excerpt;

/// Longer lines are not shown: the place is told, and a file of one line may have a mistake at every key.
const LONGEST_SHOWN: usize = 400;

/// Where a value stands, by its JSON pointer.
#[derive(Clone, Debug)]
pub(super) struct Place {
    key: Option<Range<usize>>,
    value: Range<usize>,
    /// What it is, with its article.
    pub(super) kind: &'static str,
}

/// The text of a file, and where its values stand.
#[derive(Debug)]
pub(super) struct SourceMap<'t> {
    text: &'t str,
    lines: Lines<'t>,
    places: BTreeMap<String, Place>,
    /// Scalars in the order of the text, with whether a reader may see them.
    scalars: Vec<(Range<usize>, bool)>,
    /// Whether the text is TOML: otherwise no line of it is shown, since a secret may stand anywhere.
    sound: bool,
}

/// Reads text as far as it is TOML.
pub(super) fn parse(text: &str) -> (Value, SourceMap<'_>, Vec<toml::de::Error>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let (lines, sound) = (Lines::of(text), errors.is_empty());
    let mut map = SourceMap { text, lines, places: BTreeMap::new(), scalars: Vec::new(), sound };
    let root = map.table(table.get_ref(), "");
    // Tables come in the order of their keys.
    map.scalars.sort_unstable_by_key(|(span, _)| span.start);
    map.places.insert(String::new(), Place { key: None, value: 0..0, kind: "a table" });
    (root, map, errors)
}

/// `pointer/key`, escaped as JSON pointers are.
pub(super) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The keys of a pointer.
pub(super) fn keys(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~"))
}

/// A key as TOML writes it.
pub(super) fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { toml_string(key) }
}

/// A string as TOML writes it on one line.
pub(super) fn toml_string(text: &str) -> String {
    // A JSON string is a TOML basic string: all of its escapes are TOML's too, save for DEL, which it leaves
    // bare.
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

impl SourceMap<'_> {
    fn table(&mut self, table: &DeTable<'_>, pointer: &str) -> Value {
        let mut object = Map::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let converted = self.value(value, child(pointer, name), Some(key.span()));
            object.insert(name.to_owned(), converted);
        }
        Value::Object(object)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, pointer: String, key: Option<Range<usize>>) -> Value {
        // What JSON cannot say becomes null, which no part of the schema accepts; `kind` says what it was.
        let (kind, converted) = match value.get_ref() {
            DeValue::String(text) => ("a string", Value::from(text.as_ref())),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => ("an integer", Value::from(number)),
                Err(_) => ("an integer beyond 64 bits", Value::Null),
            },
            DeValue::Float(float) => match float.as_str().parse().ok().and_then(Number::from_f64) {
                Some(number) => ("a number", Value::Number(number)),
                None => ("a number that is not finite", Value::Null),
            },
            DeValue::Boolean(truth) => ("a boolean", Value::Bool(*truth)),
            DeValue::Datetime(_) => ("a date or time", Value::Null),
            DeValue::Array(array) => {
                let elements = array
                    .iter()
                    .enumerate()
                    .map(|(index, element)| self.value(element, format!("{pointer}/{index}"), None))
                    .collect();
                ("an array", Value::Array(elements))
            }
            DeValue::Table(table) => ("a table", self.table(table, &pointer)),
        };
        if !matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_)) {
            let bound = pointer.starts_with("/thresholds/") || pointer.starts_with("/metric/");
            self.scalars.push((value.span(), bound && converted.is_number()));
        }
        self.places.insert(pointer, Place { key, value: value.span(), kind });
        converted
    }

    /// A part of the text.
    pub(super) fn slice(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// What follows on the same line.
    pub(super) fn rest_of_line(&self, at: usize) -> &str {
        self.text.get(at..).and_then(|rest| rest.lines().next()).unwrap_or_default()
    }

    /// Where the string or number begins that `at` is in, or at the end of.
    pub(super) fn scalar_around(&self, at: usize) -> Option<usize> {
        let after = self.scalars.partition_point(|(span, _)| span.start <= at);
        let (span, _) = self.scalars[..after].last()?;
        (at <= span.end).then_some(span.start)
    }

    /// Where the array or inline table begins that `at` is in.
    pub(super) fn bracket_before(&self, at: usize) -> Option<usize> {
        let open = |place: &&Place| {
            let text = self.slice(&place.value);
            place.value.start < at
                && (place.kind == "an array" && text.starts_with('[') && !text.starts_with("[[")
                    || place.kind == "a table" && text.starts_with('{'))
        };
        self.places.values().filter(open).map(|place| place.value.start).max()
    }

    /// What stands at `pointer`.
    pub(super) fn place(&self, pointer: &str) -> Option<&Place> {
        self.places.get(pointer)
    }

    /// Where the value of `pointer`, or what is nearest to it, stands.
    pub(super) fn value_span(&self, pointer: &str) -> Range<usize> {
        self.nearest_place(pointer).map_or(0..0, |place| place.value.clone())
    }

    /// Where the key of `pointer`, or what is nearest to it, stands.
    pub(super) fn key_span(&self, pointer: &str) -> Range<usize> {
        self.nearest_place(pointer).map_or(0..0, |place| place.key.clone().unwrap_or(place.value.clone()))
    }

    fn nearest_place(&self, mut pointer: &str) -> Option<&Place> {
        loop {
            if let Some(place) = self.places.get(pointer) {
                return Some(place);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }

    /// How the file names what stands at `pointer`: `` `rls.schemas` in [postgres.main] ``.
    pub(super) fn name(&self, pointer: &str) -> String {
        let mut section = pointer;
        let header = loop {
            if let Some(header) = self.header(section) {
                break Some(header);
            }
            match section.rfind('/') {
                Some(cut) => section = &section[..cut],
                None => break None,
            }
        };
        let rest = self.path(section, pointer);
        match header {
            Some(header) if rest.is_empty() => header,
            Some(header) => format!("`{rest}` in {header}"),
            None if rest.is_empty() => "the file".to_owned(),
            None => format!("`{rest}`"),
        }
    }

    /// The keys from `section` to `pointer`: `json."/status"`, `databases[1]`.
    fn path(&self, section: &str, pointer: &str) -> String {
        let mut path = String::new();
        let mut at = section.to_owned();
        for key in keys(&pointer[section.len()..]) {
            if self.places.get(&at).is_some_and(|place| place.kind == "an array") {
                path.push_str(&format!("[{key}]"));
            } else {
                let dot = if path.is_empty() { "" } else { "." };
                path.push_str(&format!("{dot}{}", quoted(&key)));
            }
            at = child(&at, &key);
        }
        path
    }

    /// ` in [section]` for the table at `pointer`; nothing for the file itself.
    pub(super) fn within(&self, pointer: &str) -> String {
        if pointer.is_empty() { String::new() } else { format!(" in {}", self.name(pointer)) }
    }

    /// The header of a table that has one. Made of its keys, not cut from the text: where a bracket is not closed,
    /// the parser takes the lines that follow for a part of it, and a secret may stand there.
    fn header(&self, pointer: &str) -> Option<String> {
        let place = self.places.get(pointer)?;
        if place.kind != "a table" || !self.slice(&place.value).starts_with('[') {
            return None;
        }
        let parent = &pointer[..pointer.rfind('/')?];
        Some(match self.places.get(parent) {
            Some(rows) if rows.kind == "an array" => format!("[[{}]]", self.path("", parent)),
            _ => format!("[{}]", self.path("", pointer)),
        })
    }

    /// Line and column, both from 1.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        self.lines.position(at)
    }

    /// The line around `span`, with every value masked that could be a secret, and the comment left out.
    pub(super) fn excerpt(&self, span: &Range<usize>) -> Option<Excerpt> {
        if !self.sound || span.is_empty() {
            return None;
        }
        let mut pieces: Vec<_> = self.masked(self.lines.start(span.start)).take(LONGEST_SHOWN + 1).collect();
        if pieces.len() > LONGEST_SHOWN {
            return None;
        }
        while pieces.pop_if(|(_, shown)| shown.is_whitespace()).is_some() {}
        let caret = pieces.iter().position(|(part, _)| span.start < part.end)?;
        let width = pieces[caret..].iter().take_while(|(part, _)| part.start < span.end).count().max(1);
        let blank = |(_, shown): &(_, char)| if *shown == '\t' { '\t' } else { ' ' };
        Some(Excerpt {
            line: pieces.iter().map(|(_, shown)| shown).collect(),
            indent: pieces[..caret].iter().map(blank).collect(),
            width,
        })
    }

    /// The line that begins at `start`, character by character with its place, up to a comment; a value is one
    /// `…`.
    fn masked(&self, start: usize) -> impl Iterator<Item = (Range<usize>, char)> {
        let first = self.scalars.partition_point(|(span, _)| span.end <= start);
        let mut hidden =
            self.scalars[first..].iter().filter(|(_, seen)| !seen).map(|(span, _)| span).peekable();
        let mut at = start;
        std::iter::from_fn(move || {
            while hidden.next_if(|span| span.end <= at).is_some() {}
            let (end, shown) = match hidden.peek() {
                Some(span) if span.start <= at => (span.end, '…'),
                _ => {
                    let next = self.text[at..].chars().next().filter(|c| *c != '\n' && *c != '#')?;
                    (at + next.len_utf8(), next)
                }
            };
            let part = at..end;
            at = end;
            Some((part, shown))
        })
    }
}
