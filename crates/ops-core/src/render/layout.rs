//! Columns, wrapping and colour for the human report.

use anstyle::{AnsiColor, Style as Ansi};
use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use super::Style;
use crate::status::Status;

/// Left margin of everything but the header.
const MARGIN: usize = 2;
/// Width of the longest severity word and the gap behind it.
const WORD: usize = 10;
/// A column grows with what it holds, up to here; what is longer puts its message on the next line.
const MAX_PROBE: usize = 26;
const MAX_PLACE: usize = 20;
/// A message narrower than this reads worse than one under its heading.
const MIN_MESSAGE: usize = 44;
/// The indent of messages under their heading, and of statements on a line of their own.
const STACKED: usize = 4;
/// Nothing is wrapped narrower than this.
const MIN_WIDTH: usize = 20;

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Status(Status),
    Heading,
    Command,
    Quiet,
}

impl Tone {
    fn ansi(self) -> Ansi {
        match self {
            Tone::Status(Status::Critical) => AnsiColor::Red.on_default().bold(),
            Tone::Status(Status::Warning) => AnsiColor::Yellow.on_default().bold(),
            Tone::Status(Status::Unknown) => AnsiColor::Magenta.on_default().bold(),
            Tone::Status(Status::Ok) => AnsiColor::Green.on_default().bold(),
            Tone::Heading => Ansi::new().bold(),
            Tone::Command => AnsiColor::Cyan.on_default(),
            Tone::Status(Status::NotApplicable) | Tone::Quiet => Ansi::new().dimmed(),
        }
    }
}

/// A page being written.
#[derive(Debug)]
pub(super) struct Page {
    width: usize,
    color: bool,
    probe: usize,
    place: usize,
    stacked: bool,
    out: String,
}

impl Page {
    /// A page whose columns hold these probes and places.
    pub(super) fn new(style: &Style, rows: &[(String, String)]) -> Self {
        let (mut probe, mut place) = (0, 0);
        for (a, b) in rows {
            probe = probe.max(display_width(a).min(MAX_PROBE));
            place = place.max(display_width(b).min(MAX_PLACE));
        }
        let width = style.width.max(MIN_WIDTH);
        let stacked = MARGIN + WORD + probe + 2 + place + 2 + MIN_MESSAGE > width;
        Self { width, color: style.color, probe, place, stacked, out: String::new() }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    /// `text` in the colour of its tone.
    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        let ansi = tone.ansi();
        if self.color { format!("{ansi}{text}{ansi:#}") } else { text.to_owned() }
    }

    pub(super) fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    fn indent(&self) -> usize {
        if self.stacked { STACKED } else { MARGIN + WORD + self.probe + 2 + self.place + 2 }
    }

    /// The line of an entry: its word, probe and place, with the message beside them or below.
    pub(super) fn entry(&mut self, word: &str, tone: Tone, probe: &str, place: &str, message: &str) {
        let word_width = display_width(word);
        let painted = self.paint(tone, word);
        let margin = " ".repeat(MARGIN);
        let name = self.paint(Tone::Heading, probe);
        if self.stacked {
            self.line(&format!("{margin}{painted}  {name}  {place}"));
            self.text(message);
            return;
        }
        let pad = |text: &str, width: usize| " ".repeat(width.saturating_sub(display_width(text)));
        let gap = " ".repeat(WORD.saturating_sub(word_width).max(1));
        let head = format!(
            "{margin}{painted}{gap}{name}{}  {place}{}  ",
            pad(probe, self.probe),
            pad(place, self.place)
        );
        let fits = display_width(&head) <= self.indent();
        let mut wrapped = self.wrap(message, self.indent(), 0).into_iter();
        match wrapped.next() {
            Some(first) if fits => self.line(&format!("{head}{}", first.trim_start())),
            Some(first) => {
                self.line(&head);
                self.line(&first);
            }
            None => self.line(&head),
        }
        wrapped.for_each(|line| self.line(&line));
    }

    /// Text below an entry, wrapped.
    pub(super) fn text(&mut self, text: &str) {
        for line in self.wrap(text, self.indent(), 0) {
            self.line(&line);
        }
    }

    /// An item of a list below an entry, wrapped.
    pub(super) fn item(&mut self, text: &str) {
        for line in self.wrap(&format!("- {text}"), self.indent(), 2) {
            self.line(&line);
        }
    }

    /// A blank line between entries whose heading stands above them; columns need none.
    pub(super) fn gap(&mut self) {
        if self.stacked {
            self.blank();
        }
    }

    /// A command below an entry: beside its label where it fits, else on lines of its own, never wrapped.
    pub(super) fn command(&mut self, label: &str, command: &[String]) {
        let indent = self.indent();
        let margin = " ".repeat(indent);
        let quiet = self.paint(Tone::Quiet, label);
        if let [single] = command
            && indent + display_width(label) + 1 + display_width(single) <= self.width
        {
            let painted = self.paint(Tone::Command, single);
            return self.line(&format!("{margin}{quiet} {painted}"));
        }
        let widest = command.iter().map(|line| display_width(line)).max().unwrap_or_default();
        let under = if indent + 2 + widest <= self.width { indent + 2 } else { STACKED };
        self.line(&format!("{margin}{quiet}"));
        for line in command {
            let painted = self.paint(Tone::Command, line);
            self.line(&format!("{}{painted}", " ".repeat(under)));
        }
    }

    /// A labelled list in the margin, broken between items only: `Fine: availability 2/2, locks 1/1`.
    pub(super) fn list(&mut self, label: &str, separator: &str, items: &[String]) {
        let label = if label.is_empty() { String::new() } else { self.paint(Tone::Heading, label) + " " };
        let hang = if self.stacked { STACKED } else { MARGIN + display_width(&label) };
        self.flow(&format!("{}{label}", " ".repeat(MARGIN)), hang, separator, items);
    }

    /// Whether a list of `items` with one more stays on one line.
    pub(super) fn fits(&self, items: &[String], separator: &str, more: &str) -> bool {
        let items: usize = items.iter().map(|item| display_width(item) + separator.len()).sum();
        MARGIN + items + display_width(more) <= self.width
    }

    /// Items behind `head`, broken between them only; further lines hang at `hang`.
    pub(super) fn flow(&mut self, head: &str, hang: usize, separator: &str, items: &[String]) {
        let mut line = head.to_owned();
        let mut width = display_width(&line);
        let mut fresh = true;
        for (index, item) in items.iter().enumerate() {
            let last = index + 1 == items.len();
            let item = if last { item.clone() } else { format!("{item}{separator}") };
            let needed = display_width(item.trim_end());
            if !fresh && width + needed > self.width {
                self.line(&line);
                line = " ".repeat(hang);
                width = hang;
            }
            width += display_width(&item);
            line.push_str(&item);
            fresh = false;
        }
        self.line(&line);
    }

    /// Lines of `text`, indented; words are never cut, so that what is long can be copied.
    fn wrap(&self, text: &str, indent: usize, hang: usize) -> Vec<String> {
        let margin = " ".repeat(indent);
        let further = " ".repeat(indent + hang);
        let text = keep_units(text).replace(" ≥ ", "\u{a0}≥\u{a0}").replace(" ≤ ", "\u{a0}≤\u{a0}");
        let options = Options::new(self.width.max(indent + MIN_WIDTH))
            .initial_indent(&margin)
            .subsequent_indent(&further)
            .break_words(false)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        textwrap::wrap(&text, options).into_iter().map(|line| line.replace('\u{a0}', " ")).collect()
    }
}

/// Ties a number to the unit behind it, so that both stand on one line.
fn keep_units(text: &str) -> String {
    const UNITS: [&str; 10] = ["%", "µs", "ms", "s", "min", "h", "B", "KiB", "MiB", "GiB"];
    let words: Vec<&str> = text.split(' ').collect();
    let mut out = String::with_capacity(text.len() + 8);
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |before| words[before]);
        let unit = UNITS.contains(&word.trim_end_matches([',', ';', '.', ':', ')']));
        let tied = unit && before.ends_with(|c: char| c.is_ascii_digit());
        out.push_str(if tied {
            "\u{a0}"
        } else if index > 0 {
            " "
        } else {
            ""
        });
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_keep_the_columns() {
        let rows = ["orders", "数据库", "🦀"].map(|place| ("pg.size".to_owned(), place.to_owned()));
        let mut page = Page::new(&Style::default(), &rows);
        for (probe, place) in &rows {
            page.entry("WARNING", Tone::Quiet, probe, place, "grows");
        }
        let text = page.finish();
        let before = |line: &str| display_width(line.split("grows").next().unwrap_or_default());
        assert_eq!(text.lines().map(before).collect::<Vec<_>>(), [29; 3]);
    }

    #[test]
    fn a_number_stays_beside_its_unit() {
        assert_eq!(
            keep_units("idle for 7.9 s: 33 % of 2 GiB, is it"),
            "idle for 7.9\u{a0}s: 33\u{a0}% of 2\u{a0}GiB, is it"
        );
        assert_eq!(keep_units(" a s  b"), " a s  b");
    }
}
