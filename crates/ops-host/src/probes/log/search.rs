//! What a log's files say within a window.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use ops_core::quantity::DurationText;
use ops_core::{Error, ErrorKind, Result, Unit};

use super::Said;
use super::files::Files;
use super::stamp::{self, Stamp};
use super::tail::Tail;
use super::tally::{Patterns, Tally};

/// So many lines in a row that were written before the window end the reading of a file. One does not: whoever writes
/// into a log may begin a line with any date. PostgreSQL indents the further lines of a statement, and in csvlog they
/// are told by their quotes (see [`is_record`]); other programs may print a user's text as it is.
pub(super) const PAST: usize = 1000;
/// A line comes to its file at once, or with what is buffered; zones are a quarter of an hour apart at least.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10 * 60);

/// What bounds a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) since: DateTime<Utc>,
    pub(super) now: DateTime<Utc>,
    /// When to stop whatever is left.
    pub(super) until: Option<Instant>,
    /// How many bytes to read.
    pub(super) budget: u64,
}

/// Counts the lines of the log at `path` that were written since the window began.
pub(super) fn search(path: &Path, patterns: &Patterns, bounds: Bounds) -> Result<Said> {
    let files = Files::of(path);
    let successor = files.successor();
    let goes_on = |pattern: &Path| format!("file = \"{}\"", pattern.display());
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Failed,
        };
        let failed =
            Error::new(kind, "read the log").on(path.display().to_string()).because(error.to_string());
        match &successor {
            Some((_, pattern)) => failed.with_fix(goes_on(pattern)),
            None => failed,
        }
    };
    let mut tail = Tail::open(files, bounds.since.into(), bounds.budget).map_err(failed)?;
    let mut search = Search::of(patterns, bounds);
    let mut late = false;
    while let Some(lines) = tail.lines().map_err(failed)? {
        late = bounds.until.is_some_and(|until| Instant::now() >= until);
        if late {
            break;
        }
        if search.read(&tail, &lines) {
            tail.leave();
        }
    }
    let mut said = search.end(path, &tail, late);
    if let Some((newer, pattern)) = &successor {
        let what =
            format!("{} was written after {}: the server has gone on to it", newer.display(), path.display());
        said.unseen.push((what, Some(goes_on(pattern))));
    }
    Ok(said)
}

/// A search under way, from the newest line to the oldest.
struct Search<'a> {
    patterns: &'a Patterns,
    bounds: Bounds,
    tally: Tally,
    /// Lines that belong to the one before them, which is not read yet.
    undated: Tally,
    /// The newest line that is dated, and when its file was last written.
    newest: Option<(bool, DateTime<Utc>, Option<SystemTime>)>,
    /// The oldest line within the window.
    oldest: Option<DateTime<Utc>>,
    /// How many lines in a row were written before the window.
    past: usize,
}

impl<'a> Search<'a> {
    fn of(patterns: &'a Patterns, bounds: Bounds) -> Self {
        let (tally, undated) = Default::default();
        Self { patterns, bounds, tally, undated, newest: None, oldest: None, past: 0 }
    }

    /// Reads some lines of one file; whether what is left of that file was surely written before the window.
    fn read(&mut self, tail: &Tail, lines: &[String]) -> bool {
        let is_csv = tail.path().file_name().is_some_and(|name| name.to_string_lossy().contains(".csv"));
        for line in lines {
            let Some(stamp) = stamp::of_line(line, self.bounds.now) else {
                self.undated.add(self.patterns, line);
                continue;
            };
            let undated = std::mem::take(&mut self.undated);
            let is_record = !is_csv || is_record(&stamp, line);
            if is_record && self.newest.is_none() {
                self.newest = Some((stamp.is_certain, stamp.at, tail.modified()));
            }
            if stamp.at >= self.bounds.since {
                if undated.lines > 0 {
                    self.tally.merge(undated);
                }
                self.tally.add(self.patterns, line);
                self.oldest = Some(self.oldest.map_or(stamp.at, |oldest| oldest.min(stamp.at)));
            }
            if is_record {
                self.past = if stamp.at < self.bounds.since { self.past + 1 } else { 0 };
            }
            if self.past >= PAST {
                self.past = 0;
                return true;
            }
        }
        false
    }

    fn end(self, path: &Path, tail: &Tail, late: bool) -> Said {
        let shown = path.display();
        let mut unseen = Vec::new();
        if self.undated.lines > 0 && self.newest.is_none() {
            unseen.push((format!("{shown}: its lines do not begin with a time that ops can read"), None));
        }
        if let Some(short) = late.then_some(super::LATE).or(tail.short) {
            let from = self.oldest.map(|at| format!(", back to {}", at.format("%Y-%m-%d %H:%M:%S UTC")));
            let what = format!("{shown}: {short}{}", from.unwrap_or_default());
            unseen.push((what, self.oldest.and_then(|oldest| seen_window(self.bounds.now - oldest))));
        }
        unseen.extend(self.newest.and_then(|newest| doubt(path, newest)));
        // What was compressed lies behind what was read, unless that reached the window's beginning.
        if self.past == 0 || tail.files().is_glob() {
            let compressed = tail.compressed.iter();
            unseen.extend(
                compressed.map(|file| (format!("{} is compressed, and was not read", file.display()), None)),
            );
        }
        Said { tally: self.tally, unseen }
    }
}

/// Whether a line of csvlog begins a record, or ends one. A line within a record's text is quoted, and each of the
/// text's own quotes is doubled: quotes come in even numbers there, whatever a user writes. A record's text is opened
/// by one quote, and closed by one. Between two ends of records stands a beginning, which the server dates.
fn is_record(stamp: &Stamp<'_>, line: &str) -> bool {
    let mut runs = line.split(|c| c != '"').map(str::len);
    stamp.rest.starts_with(',') && runs.any(|quotes| quotes % 2 == 1)
}

/// Why the times of a log may not be what they were taken for.
fn doubt(
    path: &Path,
    (is_certain, at, modified): (bool, DateTime<Utc>, Option<SystemTime>),
) -> Option<(String, Option<String>)> {
    let modified = DateTime::<Utc>::from(modified.filter(|_| !is_certain)?);
    let apart = (modified - at).abs().to_std().unwrap_or(Duration::MAX);
    (apart > WRITTEN_WITHIN).then(|| {
        let what = format!(
            "{}: its times name no offset from UTC, and taken for this machine's the newest of them is {} from when the \
             file was last written",
            path.display(),
            Unit::Seconds.format(apart.as_secs_f64())
        );
        (what, Some("log_timezone = 'UTC'".to_owned()))
    })
}

/// The window that could be seen, as the configuration would have it.
pub(super) fn seen_window(seen: chrono::TimeDelta) -> Option<String> {
    let seconds = u64::try_from(seen.num_seconds()).ok()?;
    let whole = if seconds >= 120 { seconds / 60 * 60 } else { seconds };
    (whole > 0).then(|| format!("window = \"{}\"", DurationText(Duration::from_secs(whole))))
}
