//! A log from its end, over its rotations.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How much is read at once.
const CHUNK: u64 = 64 * 1024;
/// Of a longer line only the beginning is looked at.
const LONGEST_LINE: usize = 256 * 1024;
const COMPRESSED: [&str; 5] = ["gz", "xz", "zst", "bz2", "lz4"];

/// Reads lines from the end of a file towards its beginning, and on in the file that it was rotated from.
///
/// A file that is renamed meanwhile is the one that is open. One that is truncated meanwhile was copied first
/// (logrotate's copytruncate): what is left to read stands at the same place in the copy.
pub(super) struct Tail {
    path: PathBuf,
    file: File,
    /// What stands before is unread.
    position: u64,
    /// How long the file was: a shorter one was truncated.
    length: u64,
    /// The beginning of a line that is not read to its beginning yet, as bytes in their order.
    carry: Vec<u8>,
    seen: BTreeSet<(u64, u64)>,
    since: SystemTime,
    budget: u64,
    /// Rotated files that were compressed within the window.
    pub(super) compressed: BTreeSet<PathBuf>,
    /// Why the reading ended before the window did.
    pub(super) short: Option<&'static str>,
}

impl Tail {
    /// Reads `path`, at most `budget` bytes, and no file that was last written before `since`.
    pub(super) fn open(path: &Path, since: SystemTime, budget: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            position: meta.len(),
            length: meta.len(),
            carry: Vec::new(),
            seen: [(meta.dev(), meta.ino())].into(),
            since,
            budget,
            compressed: BTreeSet::new(),
            short: None,
        })
    }

    /// Some more lines, the newest first; `None` at the end.
    pub(super) fn lines(&mut self) -> io::Result<Option<Vec<String>>> {
        loop {
            if self.position == 0 {
                let first = std::mem::take(&mut self.carry);
                if !first.is_empty() {
                    return Ok(Some(vec![text(&first)]));
                }
                if !self.older()? {
                    return Ok(None);
                }
                continue;
            }
            if self.budget == 0 {
                self.short = Some("the log is longer than what is read of it");
                return Ok(None);
            }
            let size = CHUNK.min(self.position).min(self.budget);
            let start = self.position - size;
            let mut chunk = vec![0; usize::try_from(size).unwrap_or_default()];
            let truncated = self.file.metadata()?.len() < self.length;
            if truncated || self.file.read_exact_at(&mut chunk, start).is_err() {
                if !self.copy()? {
                    self.short = Some("the log was truncated while it was read, and there is no copy of it");
                    return Ok(None);
                }
                continue;
            }
            self.position = start;
            self.budget -= size;
            let lines = self.split(chunk);
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
    }

    /// The complete lines of a chunk, the newest first; its first line may have begun before it.
    fn split(&mut self, mut chunk: Vec<u8>) -> Vec<String> {
        chunk.append(&mut self.carry);
        let mut parts: Vec<&[u8]> = chunk.split(|byte| *byte == b'\n').collect();
        let first = parts.remove(0).to_vec();
        let lines = parts.into_iter().rev().filter(|line| !line.is_empty()).map(text).collect();
        self.carry = first;
        self.carry.truncate(LONGEST_LINE);
        lines
    }

    /// Goes on in the file that was rotated last, of those that are unread.
    fn older(&mut self) -> io::Result<bool> {
        let Some((path, meta)) = self.rotated()?.into_iter().next() else { return Ok(false) };
        let file = File::open(path)?;
        self.seen.insert((meta.dev(), meta.ino()));
        (self.position, self.length, self.file) = (meta.len(), meta.len(), file);
        Ok(true)
    }

    /// Goes on in the copy of the file that was truncated, at the same place.
    fn copy(&mut self) -> io::Result<bool> {
        let Some((path, meta)) = self.rotated()?.into_iter().find(|(_, meta)| meta.len() >= self.position)
        else {
            return Ok(false);
        };
        self.file = File::open(path)?;
        self.seen.insert((meta.dev(), meta.ino()));
        self.length = meta.len();
        Ok(true)
    }

    /// Unread rotated files beside the log that were written within the window, the newest first.
    fn rotated(&mut self) -> io::Result<Vec<(PathBuf, std::fs::Metadata)>> {
        let (Some(dir), Some(name)) =
            (self.path.parent(), self.path.file_name().and_then(|name| name.to_str()))
        else {
            return Ok(Vec::new());
        };
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir)?.flatten() {
            let own = entry.file_name();
            let rest = own.to_str().and_then(|own| own.strip_prefix(name)).unwrap_or_default();
            // app.log.1 and app.log-20260105, and not app.log.orig.
            if !rest.starts_with(['.', '-']) || !rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let Ok(meta) = entry.metadata() else { continue };
            let recent = meta.modified().is_ok_and(|modified| modified >= self.since);
            if !recent || !meta.is_file() || self.seen.contains(&(meta.dev(), meta.ino())) {
                continue;
            }
            let path = entry.path();
            if path.extension().and_then(|end| end.to_str()).is_some_and(|end| COMPRESSED.contains(&end)) {
                self.compressed.insert(path);
            } else {
                found.push((path, meta));
            }
        }
        found.sort_by_key(|(_, meta)| std::cmp::Reverse(meta.modified().ok()));
        Ok(found)
    }
}

fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many numbered lines, of some 30 bytes each.
    fn numbered(range: std::ops::Range<u32>) -> String {
        range.map(|line| format!("line {line:06} {}\n", "x".repeat(16))).collect()
    }

    fn numbers(tail: &mut Tail) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Some(lines) = tail.lines().unwrap() {
            numbers.extend(lines.iter().map(|line| line[5..11].parse::<u32>().unwrap()));
        }
        numbers
    }

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        fn tail(&self) -> Tail {
            Tail::open(&self.path("app.log"), SystemTime::UNIX_EPOCH, u64::MAX).unwrap()
        }
    }

    #[test]
    fn every_line_comes_once_and_the_newest_first() {
        let dir = Dir::new();
        dir.write("app.log", &numbered(0..20_000));
        assert_eq!(numbers(&mut dir.tail()), (0..20_000).rev().collect::<Vec<_>>());
        // Without a newline at its end, with empty lines, and with nothing at all.
        dir.write("app.log", "line 000001\n\nline 000002");
        assert_eq!(numbers(&mut dir.tail()), [2, 1]);
        dir.write("app.log", "");
        assert_eq!(numbers(&mut dir.tail()), Vec::<u32>::new());
    }

    #[test]
    fn rotated_files_follow_and_compressed_ones_are_named() {
        let dir = Dir::new();
        dir.write("app.log.2.gz", "compressed");
        dir.write("app.log.orig", &numbered(900..901));
        dir.write("app.log-20260105", &numbered(0..10));
        std::thread::sleep(std::time::Duration::from_millis(20));
        dir.write("app.log.1", &numbered(10..20));
        dir.write("app.log", &numbered(20..30));
        let mut tail = dir.tail();
        assert_eq!(numbers(&mut tail), (0..30).rev().collect::<Vec<_>>());
        assert_eq!(tail.compressed, [dir.path("app.log.2.gz")].into());
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        let mut tail = Tail::open(&dir.path("app.log"), later, u64::MAX).unwrap();
        assert_eq!((numbers(&mut tail).len(), tail.compressed.len()), (10, 0), "older ones are not opened");
    }

    #[test]
    fn a_file_that_is_renamed_meanwhile_is_read_once() {
        let dir = Dir::new();
        dir.write("app.log", &numbered(0..10_000));
        let mut tail = dir.tail();
        let first = tail.lines().unwrap().unwrap();
        std::fs::rename(dir.path("app.log"), dir.path("app.log.1")).unwrap();
        dir.write("app.log", &numbered(10_000..10_001));
        assert_eq!(first.len() + numbers(&mut tail).len(), 10_000);
    }

    #[test]
    fn a_file_that_is_truncated_meanwhile_is_read_on_in_its_copy() {
        let dir = Dir::new();
        dir.write("app.log", &numbered(0..10_000));
        let mut tail = dir.tail();
        let first = tail.lines().unwrap().unwrap().len();
        std::fs::copy(dir.path("app.log"), dir.path("app.log.1")).unwrap();
        dir.write("app.log", "");
        let rest = numbers(&mut tail);
        assert_eq!(rest, (0..10_000 - u32::try_from(first).unwrap()).rev().collect::<Vec<_>>());
        assert_eq!(tail.short, None);

        dir.write("app.log", &numbered(0..10_000));
        std::fs::remove_file(dir.path("app.log.1")).unwrap();
        let mut tail = dir.tail();
        tail.lines().unwrap();
        dir.write("app.log", "");
        assert!(numbers(&mut tail).is_empty() && tail.short.is_some());
    }

    #[test]
    fn no_more_is_read_than_allowed() {
        let dir = Dir::new();
        dir.write("app.log", &numbered(0..100_000));
        let mut tail = Tail::open(&dir.path("app.log"), SystemTime::UNIX_EPOCH, 100_000).unwrap();
        let lines = numbers(&mut tail).len();
        assert!((3000..4000).contains(&lines) && tail.short.is_some(), "{lines}");
    }

    #[test]
    fn a_line_without_end_costs_no_memory() {
        let dir = Dir::new();
        dir.write("app.log", &format!("{}\nline 000001\n", "x".repeat(4 << 20)));
        let mut tail = dir.tail();
        let mut lines = Vec::new();
        while let Some(more) = tail.lines().unwrap() {
            assert!(tail.carry.len() <= LONGEST_LINE);
            lines.extend(more);
        }
        assert_eq!((lines.len(), lines[0].as_str()), (2, "line 000001"));
        assert!(lines[1].len() <= LONGEST_LINE);
    }
}
