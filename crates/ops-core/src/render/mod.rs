//! One health report, six ways to read it: [`human`], [`json`], [`health_json`],
//! [`markdown`], [`nagios`], [`openmetrics`].
//!
//! Each takes a [`HealthReport`] and returns text that ends with a newline. None looks at the terminal, the
//! environment or the clock: the binary decides on width and colour and says so in a [`Style`].
//!
//! Object names, application names and messages come from servers and may hold anything: control characters
//! and those that turn the direction of text are shown as escapes, so that nobody's table name moves a cursor,
//! forges a line, or ends a perfdata field. Only [`json`] keeps text as it is, quoted as JSON quotes it.

mod health_json;
mod human;
mod layout;
mod markdown;
mod nagios;
mod openmetrics;
mod text;
mod view;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use health_json::health_json;
pub use human::human;
pub use markdown::markdown;
pub use nagios::nagios;
pub use openmetrics::openmetrics;

use crate::health::HealthReport;

/// How much [`human`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// What needs attention; what is fine only in numbers; repetitions capped.
    #[default]
    Short,
    /// Every probe by name, every finding, all evidence.
    Full,
}

/// How [`human`] writes.
///
/// ```
/// use ops_core::render::{Detail, Style};
/// let style = Style::default().with_width(140).with_color(true).with_detail(Detail::Full);
/// assert_eq!(style.width, 140);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Style {
    /// Columns to write into. Text is wrapped to it; statements and commands never are, since a statement that
    /// was cut cannot be copied. 100.
    pub width: usize,
    /// Whether to colour with ANSI sequences. No.
    pub color: bool,
    /// How much to tell. What needs attention.
    pub detail: Detail,
}

impl Default for Style {
    fn default() -> Self {
        Self { width: 100, color: false, detail: Detail::Short }
    }
}

impl Style {
    /// Sets the columns to write into.
    #[must_use]
    pub fn with_width(mut self, width: usize) -> Self {
        self.width = width;
        self
    }

    /// Sets whether to colour.
    #[must_use]
    pub fn with_color(mut self, color: bool) -> Self {
        self.color = color;
        self
    }

    /// Sets how much to tell.
    #[must_use]
    pub fn with_detail(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }
}

/// For programs: the report itself, schema [`SCHEMA`](crate::health::SCHEMA), indented.
pub fn json(report: &HealthReport) -> String {
    let mut text = match serde_json::to_string_pretty(report) {
        Ok(text) => text,
        // Serialisation fails on maps with keys that are not strings, and the report has none.
        Err(error) => serde_json::json!({"schema": report.schema, "error": error.to_string()}).to_string(),
    };
    text.push('\n');
    text
}
