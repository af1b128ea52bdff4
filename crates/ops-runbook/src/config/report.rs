//! Collects mistakes: one for each place, each redacted once more on its way in.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use ops_core::redact::redact;

use super::document::SourceMap;
use super::mistake::{ConfigErrors, Mistake};
use super::syntax::{Doubt, SyntaxMistake};

/// The mistakes found so far.
#[derive(Debug)]
pub(super) struct Report<'m> {
    pub(super) map: &'m SourceMap<'m>,
    mistakes: Vec<Mistake>,
    seen: BTreeSet<(usize, usize)>,
    doubt: Option<Doubt>,
}

impl<'m> Report<'m> {
    pub(super) fn new(map: &'m SourceMap<'m>) -> Self {
        Self { map, mistakes: Vec::new(), seen: BTreeSet::new(), doubt: None }
    }

    /// Mistakes of syntax. Nothing more is said, from now on, about what is in doubt because of them.
    pub(super) fn syntax(&mut self, mistakes: Vec<SyntaxMistake>, doubt: Doubt) {
        for mistake in mistakes {
            self.push(mistake.at..mistake.at, mistake.message, None);
        }
        self.doubt = Some(doubt).filter(Doubt::is_any);
    }

    /// A mistake in the value of `pointer`.
    pub(super) fn value(&mut self, pointer: &str, message: String, help: Option<String>) {
        self.push(self.map.value_span(pointer), message, help);
    }

    /// A mistake in the key of `pointer`.
    pub(super) fn key(&mut self, pointer: &str, message: String, help: Option<String>) {
        self.push(self.map.key_span(pointer), message, help);
    }

    /// Something missing in the table at `pointer`: nothing is known to be missing where the text is in
    /// doubt.
    pub(super) fn missing(&mut self, pointer: &str, message: String, help: Option<String>) {
        if self.doubt.is_none() {
            self.value(pointer, message, help);
        }
    }

    fn push(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        let (line, column) = self.map.position(span.start);
        if self.doubt.as_ref().is_some_and(|doubt| doubt.covers(span.start, line)) {
            return;
        }
        // One mistake for each place: the first check that objects says the most.
        if !span.is_empty() && !self.seen.insert((span.start, span.end)) {
            return;
        }
        // Values are masked already; a URL in the place of a key is not.
        let is_plain = |line: &str| !line.contains("://") || redact(line) == line;
        let excerpt = self.map.excerpt(&span).filter(|excerpt| is_plain(&excerpt.line));
        let message = redact(&message);
        self.mistakes.push(Mistake { line, column, message, help, excerpt });
    }

    /// The mistakes in the order of their lines.
    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        self.mistakes.dedup();
        self.mistakes
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The error.
    pub(super) fn finish(self, path: &Path) -> ConfigErrors {
        ConfigErrors { path: path.to_owned(), mistakes: self.into_mistakes() }
    }
}
