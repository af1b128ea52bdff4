//! Results to stdout, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use ops_core::render::{self, Detail, Style};
use ops_core::{Error, ErrorKind, HealthReport, Progress};
use tracing_subscriber::EnvFilter;

use crate::cli::{Global, LogFormat, Output};

/// Columns of a report where nothing tells how many there are: a pipe, a file, a console without a size.
const PIPE_WIDTH: usize = 100;
/// Below this, and above that, COLUMNS says nothing about a reader.
const COLUMNS: std::ops::RangeInclusive<usize> = 20..=1000;

/// Prints a result. A reader that closed the pipe (`| head`) has seen enough; one that could not take it all (a
/// full disk) must not be taken for satisfied.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(end.as_bytes()));
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::Failed, "write the result").because(error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Says something beside the result.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says how far an operation is, to somebody who watches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched;

impl Progress for Watched {
    fn say(&self, line: &str) {
        if io::stderr().is_terminal() {
            say(line);
        }
    }
}

/// Prints an error with its causes, and what would help.
pub(crate) fn complain(error: &Error) {
    say(&format!("ops: {}", error.report()));
    if let Some(fix) = error.fix() {
        say(&format!("     try: {fix}"));
    }
}

/// Renders a report as asked: `-v` shows a person everything.
pub(crate) fn render(report: &HealthReport, global: &Global) -> String {
    let detail = if global.verbose > 0 { Detail::Full } else { Detail::Short };
    match global.output {
        Output::Human => render::human(report, &style().with_detail(detail)),
        Output::Json => render::json(report),
        Output::Markdown => render::markdown(report),
        Output::Nagios => render::nagios(report),
        Output::Openmetrics => render::openmetrics(report),
    }
}

/// How wide stdout is, and whether it shows colour (`NO_COLOR` is honoured, see no-color.org). A terminal knows its
/// width; elsewhere COLUMNS counts, which `watch` gives to what it runs. Text is wrapped to it, and never cut.
pub(crate) fn style() -> Style {
    let terminal = io::stdout().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)).filter(|_| terminal);
    let told = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| COLUMNS.contains(columns));
    let width = width.or_else(told).unwrap_or(PIPE_WIDTH);
    Style::default().with_width(width).with_color(terminal && !no_color && !dumb)
}

/// `text` behind `head` in a column of its own at `indent`, or below it where that would be narrow.
pub(crate) fn beside(head: &str, indent: usize, text: &str) -> String {
    const NARROW: usize = 40;
    let width = style().width;
    if indent + NARROW > width {
        return format!("{head}\n{}", wrap("    ", "    ", text, width));
    }
    wrap(&format!("{head:<indent$}"), &" ".repeat(indent), text, width)
}

/// Lines of at most `width` columns. Words stay whole: many are names.
pub(crate) fn wrap(first: &str, further: &str, text: &str, width: usize) -> String {
    let options = textwrap::Options::new(width)
        .initial_indent(first)
        .subsequent_indent(further)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options) + "\n"
}

/// Sends log lines to stderr: warnings of ops, errors of the libraries it uses, more with `-v` or `OPS_LOG`.
pub(crate) fn start_logging(global: &Global) {
    let default = match global.verbose {
        0 => "error,ops=warn,ops_core=warn,ops_pg=warn,ops_cache=warn,ops_host=warn,ops_runbook=warn",
        1 => "warn,ops=info,ops_core=info,ops_pg=info,ops_cache=info,ops_host=info,ops_runbook=info",
        _ => "info,ops=debug,ops_core=debug,ops_pg=debug,ops_cache=debug,ops_host=debug,ops_runbook=debug",
    };
    let chosen = EnvFilter::try_from_env("OPS_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // The driver logs what it does not know of a URL, with its value.
    let filter = match "sqlx_postgres::options=off".parse() {
        Ok(silence) => chosen.add_directive(silence),
        Err(_) => chosen,
    };
    let logs = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    match global.log_format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().init(),
    }
}
