//! A log from its end, over its rotations.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::Files;

/// How much is read at once.
const CHUNK: u64 = 64 * 1024;
/// Of a longer line only the beginning is looked at.
const LONGEST_LINE: usize = 256 * 1024;

/// Reads lines from the end of a log's newest file towards its beginning, and on in the file before it.
///
/// A file that is renamed meanwhile is the one that is open. One that is truncated meanwhile was copied first
/// (logrotate's copytruncate): what is left to read stands at the same place in the copy.
#[derive(Debug)]
pub(super) struct Tail {
    files: Files,
    /// The one that is read, and when it was last written.
    path: PathBuf,
    modified: Option<SystemTime>,
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
    /// Reads the newest of `files`, and of the others those that were written since `since`; at most `budget` bytes.
    pub(super) fn open(files: Files, since: SystemTime, budget: u64) -> io::Result<Self> {
        let path = files.newest()?;
        let file = File::open(&path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self {
            files,
            path,
            modified: meta.modified().ok(),
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

    /// What it reads.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// The file that the last lines came from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// When that was last written.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Leaves what is unread of this file.
    pub(super) fn leave(&mut self) {
        self.position = 0;
        self.carry.clear();
    }

    /// Some more lines, the newest first, of one file; `None` at the end.
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
                self.short = Some(super::LONG);
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

    /// Goes on in the file that was written last, of those that are unread.
    fn older(&mut self) -> io::Result<bool> {
        let Some((path, meta)) = self.unread(&self.files.clone())?.into_iter().next() else {
            return Ok(false);
        };
        self.file = File::open(&path)?;
        self.seen.insert((meta.dev(), meta.ino()));
        (self.position, self.length) = (meta.len(), meta.len());
        (self.modified, self.path) = (meta.modified().ok(), path);
        Ok(true)
    }

    /// Goes on in the copy of the file that was truncated, at the same place.
    fn copy(&mut self) -> io::Result<bool> {
        let copies = self.unread(&Files::of(&self.path))?;
        let Some((path, meta)) = copies.into_iter().find(|(_, meta)| meta.len() >= self.position) else {
            return Ok(false);
        };
        self.file = File::open(path)?;
        self.seen.insert((meta.dev(), meta.ino()));
        self.length = meta.len();
        Ok(true)
    }

    /// The unread ones of `files` that were written within the window, the newest first.
    fn unread(&mut self, files: &Files) -> io::Result<Vec<(PathBuf, std::fs::Metadata)>> {
        let written = files.written(self.since)?;
        self.compressed.extend(written.compressed);
        let unread = |meta: &std::fs::Metadata| !self.seen.contains(&(meta.dev(), meta.ino()));
        Ok(written.legible.into_iter().filter(|(_, meta)| unread(meta)).collect())
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
            self.tail_of("app.log", SystemTime::UNIX_EPOCH, u64::MAX)
        }

        fn tail_of(&self, name: &str, since: SystemTime, budget: u64) -> Tail {
            Tail::open(Files::of(&self.path(name)), since, budget).unwrap()
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
        let mut tail = dir.tail_of("app.log", later, u64::MAX);
        assert_eq!((numbers(&mut tail).len(), tail.compressed.len()), (10, 0), "older ones are not opened");
    }

    #[test]
    fn of_a_pattern_all_that_were_written_since_are_read() {
        let dir = Dir::new();
        let hour = std::time::Duration::from_secs(3600);
        let now = SystemTime::now();
        for (name, lines, age) in [
            ("app-2026-01-03.log", 0..5, 30),
            ("app-2026-01-04.log", 5..10, 2),
            ("app-2026-01-05.log", 10..20, 0),
            ("other-2026-01-05.log", 90..95, 0),
            ("app-2026-01-02.log.gz", 95..99, 1),
        ] {
            dir.write(name, &numbered(lines));
            let file = File::options().write(true).open(dir.path(name)).unwrap();
            file.set_modified(now - hour * age).unwrap();
        }
        let mut tail = dir.tail_of("app-*.log", now - hour * 3, u64::MAX);
        assert_eq!(numbers(&mut tail), (5..20).rev().collect::<Vec<_>>());
        assert_eq!(tail.compressed, [dir.path("app-2026-01-02.log.gz")].into());
        let mut tail = dir.tail_of("app-*.log", now - hour, u64::MAX);
        assert_eq!(tail.lines().unwrap().unwrap().len(), 9);
        tail.leave();
        assert_eq!(numbers(&mut tail), Vec::<u32>::new());
        let none = Tail::open(Files::of(&dir.path("none-*.log")), now, u64::MAX).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
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
        let mut tail = dir.tail_of("app.log", SystemTime::UNIX_EPOCH, 100_000);
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
