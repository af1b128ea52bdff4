//! Which files a log is made of.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use regex::Regex;

const COMPRESSED: [&str; 5] = ["gz", "xz", "zst", "bz2", "lz4"];
/// A date from the year on, as log_filename has it, or a day of the week.
const DATE: &str = r"(?:19|20)[0-9]{2}[-_.]?(?:0[1-9]|1[0-2])(?:[-_.T]?[0-9]+)*";
const DAY: &str = r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b";

/// The files of one log: of one name and what it was rotated to, or of all names that a pattern means.
#[derive(Clone, Debug)]
pub(super) struct Files {
    path: PathBuf,
    dir: PathBuf,
    name: String,
    is_glob: bool,
}

/// What was written within the window, the newest first.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) legible: Vec<(PathBuf, Metadata)>,
    pub(super) compressed: BTreeSet<PathBuf>,
}

/// Whether a name is a pattern.
pub(crate) fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

impl Files {
    pub(super) fn of(path: &Path) -> Self {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { path: path.to_owned(), dir: dir.to_owned(), is_glob: is_glob(&name), name }
    }

    pub(super) fn is_glob(&self) -> bool {
        self.is_glob
    }

    /// The file that was written last; the one that is named, where one is.
    pub(super) fn newest(&self) -> io::Result<PathBuf> {
        if !self.is_glob {
            return Ok(self.path.clone());
        }
        let newest = self.written(SystemTime::UNIX_EPOCH)?.legible.into_iter().next();
        let none = || io::Error::new(io::ErrorKind::NotFound, "no file has such a name");
        newest.map(|(path, _)| path).ok_or_else(none)
    }

    /// Those that were written since, without the one that is named itself.
    pub(super) fn written(&self, since: SystemTime) -> io::Result<Written> {
        let mut written = Written::default();
        for (path, meta) in self.entries(|name| self.holds(name))? {
            if meta.modified().is_ok_and(|modified| modified < since) {
                continue;
            }
            if is_compressed(&path) {
                written.compressed.insert(path);
            } else {
                written.legible.push((path, meta));
            }
        }
        // Of two that were written at the same moment, as a copy keeps it, the later name is the newer one.
        written.legible.sort_by_key(|(path, meta)| std::cmp::Reverse((meta.modified().ok(), path.clone())));
        Ok(written)
    }

    /// The file that the server has gone on to, where names have a date in them, and the pattern that means them all.
    /// Other numbers in a name, as of two servers' logs, tell nothing about which is the newer one.
    pub(super) fn successor(&self) -> Option<(PathBuf, PathBuf)> {
        if self.is_glob {
            return None;
        }
        let pattern = dateless(&self.name)?;
        let own = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        let others = self.entries(|name| name != self.name && matches(&pattern, name)).ok()?;
        let later = others.into_iter().filter_map(|(path, meta)| Some((meta.modified().ok()?, path)));
        let (_, newest) = later.filter(|(modified, _)| own.is_none_or(|own| *modified > own)).max()?;
        Some((newest, self.dir.join(pattern)))
    }

    fn entries(&self, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<(PathBuf, Metadata)>> {
        let entries = std::fs::read_dir(&self.dir)?.flatten();
        let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(&wanted));
        let files = named.filter_map(|entry| Some((entry.path(), std::fs::metadata(entry.path()).ok()?)));
        Ok(files.filter(|(_, meta)| meta.is_file()).collect())
    }

    /// app.log.1 and app.log-20260105 are app.log's, and app.log.orig is not.
    fn holds(&self, own: &str) -> bool {
        let is = |name: &str| if self.is_glob { matches(&self.name, name) } else { name == self.name };
        let rotated = own
            .match_indices(['.', '-'])
            .any(|(at, _)| own[at + 1..].starts_with(|c: char| c.is_ascii_digit()) && is(&own[..at]));
        let packed = || COMPRESSED.iter().find_map(|end| own.strip_suffix(end)?.strip_suffix('.'));
        rotated || self.is_glob && (is(own) || packed().is_some_and(is))
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().and_then(|end| end.to_str()).is_some_and(|end| COMPRESSED.contains(&end))
}

/// The name with `*` in place of its date; `None` where it has none.
fn dateless(name: &str) -> Option<String> {
    [DATE, DAY].iter().find_map(|date| {
        let date = Regex::new(date).ok()?;
        date.is_match(name).then(|| date.replace_all(name, "*").into_owned())
    })
}

/// Whether a name is one that the pattern means: `*` is any text, `?` any character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and what it took so far: it may take one more.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_names() {
        for (pattern, name, expected) in [
            ("postgresql-*.log", "postgresql-2026-01-05_000000.log", true),
            ("postgresql-*.log", "postgresql-2026-01-05_000000.csv", false),
            ("postgresql-*.log", "postgresql-.log.log", true),
            ("*", "", true),
            ("a?c*e", "abcde", true),
            ("a?c*e", "abcd", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "ab ", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_a_log_was_rotated_to_is_its_own() {
        for (path, name, expected) in [
            ("/x/app.log", "app.log.1", true),
            ("/x/app.log", "app.log-20260105.gz", true),
            ("/x/app.log", "app.log.orig", false),
            ("/x/app.log", "app.log", false),
            ("/x/app-*.log", "app-1.log", true),
            ("/x/app-*.log", "app-1.log.2", true),
            ("/x/app-*.log", "app-1.log.gz", true),
            ("/x/app-*.log", "app-1.csv", false),
        ] {
            assert_eq!(Files::of(Path::new(path)).holds(name), expected, "{path} {name}");
        }
    }

    #[test]
    fn only_a_date_tells_which_file_follows() {
        for (name, expected) in [
            ("postgresql-2026-01-05_000000.log", Some("postgresql-*.log")),
            ("postgresql-20260105.csv", Some("postgresql-*.csv")),
            ("postgresql-Mon.log", Some("postgresql-*.log")),
            ("postgresql-17-main.log", None),
            ("app1.log", None),
            ("Monday.log", None),
        ] {
            assert_eq!(dateless(name).as_deref(), expected, "{name}");
        }
    }
}
