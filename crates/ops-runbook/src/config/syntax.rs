//! What is wrong with the text as TOML, and how far the rest can be trusted.

use std::collections::BTreeSet;

use super::document::SourceMap;

/// Where the text is not TOML.
#[derive(Debug)]
pub(super) struct SyntaxMistake {
    pub(super) at: usize,
    pub(super) message: String,
}

/// What the parser only guessed at. Its guesses prove no further mistake.
#[derive(Debug)]
pub(super) struct Doubt {
    /// Everything from here on.
    from: usize,
    /// These lines.
    lines: BTreeSet<usize>,
}

impl Doubt {
    /// Whether any of the text is in doubt: then nothing is known to be missing.
    pub(super) fn is_any(&self) -> bool {
        self.from < usize::MAX || !self.lines.is_empty()
    }

    /// Whether what stands at `at`, on `line`, is in doubt.
    pub(super) fn covers(&self, at: usize, line: usize) -> bool {
        at >= self.from || self.lines.contains(&line)
    }
}

/// One mistake for each line that is not TOML. The parser begins again after most of them; behind an array or
/// an inline table that never ends, it takes everything for a part of that, and what it says then is left
/// out.
pub(super) fn judge(errors: &[toml::de::Error], map: &SourceMap<'_>) -> (Vec<SyntaxMistake>, Doubt) {
    let at = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    let endless = errors.iter().any(|error| {
        error.message().starts_with("unclosed array,") || error.message().starts_with("unclosed inline table")
    });
    let inside = ["array", "inline table", "key-value pairs"];
    let from = errors
        .iter()
        .filter(|error| endless && inside.iter().any(|word| error.message().contains(word)))
        .map(at)
        .min()
        .map_or(usize::MAX, |first| map.bracket_before(first).unwrap_or(first));
    let mut doubt = Doubt { from, lines: BTreeSet::new() };
    let mut sorted: Vec<_> = errors.iter().filter(|error| at(error) < from).collect();
    sorted.sort_by_key(|error| at(error));
    let mut mistakes = Vec::new();
    if from < usize::MAX {
        let message = "what begins here does not end: there is a bracket to close".to_owned();
        mistakes.push(SyntaxMistake { at: from, message });
    }
    for error in sorted {
        let duplicate = error.message() == "duplicate key";
        let mistake = describe(error, map);
        let (line, _) = map.position(mistake.at);
        // A key given twice is no guess: the parser keeps one of them.
        if duplicate || doubt.lines.insert(line) {
            mistakes.push(mistake);
        }
    }
    (mistakes, doubt)
}

fn describe(error: &toml::de::Error, map: &SourceMap<'_>) -> SyntaxMistake {
    let span = error.span().unwrap_or(0..0);
    let message = error.message();
    let at = span.start;
    if message == "duplicate key" {
        return SyntaxMistake { at, message: format!("`{}` is given twice", map.slice(&span).trim()) };
    }
    if message.starts_with("string values must be quoted") {
        let rest = map.rest_of_line(at).trim_start();
        let nothing = rest.is_empty() || rest.starts_with('#');
        let message = if nothing { "there is no value after `=`" } else { "text must be quoted" };
        return SyntaxMistake { at, message: message.to_owned() };
    }
    if message.starts_with("invalid multi-line")
        && let Some(start) = map.scalar_around(at)
    {
        return SyntaxMistake { at: start, message: "the string that begins here does not end".to_owned() };
    }
    SyntaxMistake { at, message: message.to_owned() }
}
