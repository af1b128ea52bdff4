//! How often patterns are met, and with which values.

use std::collections::BTreeMap;

use ops_core::{Error, ErrorKind, Result};
use regex::{Regex, RegexBuilder};

use crate::config::PatternConfig;

/// Different values kept for a pattern: those that come later are counted without their names.
const VALUES: usize = 1000;
const LONGEST_VALUE: usize = 100;
/// Values told of a pattern.
const TOLD: usize = 5;

/// What is searched for.
#[derive(Clone, Debug)]
pub(super) struct Patterns(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern {
    config: PatternConfig,
    regex: Regex,
    /// What each line that it matches holds, where that is known: it is looked for first, which costs a tenth.
    word: Option<&'static str>,
}

/// A pattern as a regular expression.
///
/// # Errors
/// `Configuration` where it is none, or too large.
pub(crate) fn compile(pattern: &PatternConfig) -> Result<Regex> {
    RegexBuilder::new(&pattern.regex).size_limit(1 << 20).build().map_err(|error| {
        let why = match error {
            regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
            other => {
                // The last line of a drawing; the others point at the place.
                let drawn = other.to_string();
                let said = drawn.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                format!("it is no regular expression: {said}")
            }
        };
        Error::new(ErrorKind::Configuration, "read the pattern").on(&pattern.name).because(why)
    })
}

impl Patterns {
    pub(super) fn compile(patterns: &[PatternConfig]) -> Result<Self> {
        let pattern = |config: &PatternConfig| {
            Ok(Pattern { config: config.clone(), regex: compile(config)?, word: None })
        };
        patterns.iter().map(pattern).collect::<Result<_>>().map(Self)
    }

    /// Says what each line holds that the patterns match, in their order.
    pub(super) fn with_words(mut self, words: impl IntoIterator<Item = &'static str>) -> Self {
        self.0.iter_mut().zip(words).for_each(|(pattern, word)| pattern.word = Some(word));
        self
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PatternConfig> {
        self.0.iter().map(|pattern| &pattern.config)
    }
}

/// What was met, for each pattern.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) lines: u64,
    counts: Vec<(u64, BTreeMap<String, u64>)>,
}

impl Tally {
    /// Counts a line.
    pub(super) fn add(&mut self, patterns: &Patterns, line: &str) {
        self.counts.resize_with(patterns.0.len(), Default::default);
        self.lines += 1;
        for ((count, values), Pattern { regex, word, .. }) in self.counts.iter_mut().zip(&patterns.0) {
            if word.is_some_and(|word| !line.contains(word)) {
                continue;
            }
            let value = match regex.captures_len() {
                1 if regex.is_match(line) => None,
                1 => continue,
                _ => match regex.captures(line) {
                    Some(groups) => {
                        groups.get(1).map(|group| group.as_str().chars().take(LONGEST_VALUE).collect())
                    }
                    None => continue,
                },
            };
            *count += 1;
            if let Some(value) = value.filter(|value| values.len() < VALUES || values.contains_key(value)) {
                *values.entry(value).or_default() += 1;
            }
        }
    }

    /// Counts what another one counted.
    pub(super) fn merge(&mut self, other: Self) {
        self.lines += other.lines;
        self.counts.resize_with(self.counts.len().max(other.counts.len()), Default::default);
        for ((count, values), (more, others)) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
            for (value, times) in others {
                if values.len() < VALUES || values.contains_key(&value) {
                    *values.entry(value).or_default() += times;
                }
            }
        }
    }

    /// How often the pattern of this index was met.
    pub(super) fn count(&self, index: usize) -> u64 {
        self.counts.get(index).map_or(0, |(count, _)| *count)
    }

    /// The most frequent values of its group.
    pub(super) fn frequent(&self, index: usize) -> Vec<(&str, u64)> {
        let values = self.counts.get(index).into_iter().flat_map(|(_, values)| values);
        let mut values: Vec<_> = values.map(|(value, times)| (value.as_str(), *times)).collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        values.truncate(TOLD);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_values_are_counted() {
        let patterns =
            [PatternConfig::new("errors", "ERROR"), PatternConfig::new("tables", "relation \"(\\w+)\"")];
        let patterns = Patterns::compile(&patterns).unwrap();
        let (mut first, mut second) = (Tally::default(), Tally::default());
        for line in ["ERROR:  relation \"a\" x", "ERROR:  relation \"b\" x", "LOG:  fine"] {
            first.add(&patterns, line);
        }
        second.add(&patterns, "ERROR:  relation \"b\" x");
        first.merge(second);
        assert_eq!((first.lines, first.count(0), first.count(1)), (4, 3, 3));
        assert_eq!(first.frequent(1), [("b", 2), ("a", 1)]);
        assert!(first.frequent(0).is_empty());
    }

    #[test]
    fn a_pattern_that_is_none_says_so() {
        for (regex, words) in
            [("(", "it is no regular expression: unclosed group"), ("\\w{1000}{1000}", "too large")]
        {
            let error = compile(&PatternConfig::new("x", regex)).unwrap_err();
            assert!(error.kind() == ErrorKind::Configuration && error.to_string().contains(words), "{error}");
        }
    }
}
