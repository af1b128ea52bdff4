//! Notifications as lines of a file.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind as Io, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::{Context, Delivery, Error, ErrorKind, Notification, Notifier, Result, Retry};
use serde::{Deserialize, Serialize};

/// The name of a line's schema. Additive changes keep the number.
pub const SCHEMA: &str = "ops.notification/1";

/// Another process holds the lock as long as one line takes; then it is worth another look.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Appends each notification to a file as one line of JSON (schema [`SCHEMA`]): a record that no network can lose,
/// for what collects logs, and for tests.
///
/// A line is durable (fsync) when `notify` returns. Several processes may write to one file: each line is written
/// under the file's lock. A key that is in the file already is [`Delivery::Duplicate`], and not written again. The
/// file is opened by its name each time, so it may be rotated; what was rotated away is forgotten. It is made with
/// mode 0600; its directory has to be there.
///
/// A line that could not be written whole (a full disk) is taken back. One that was cut short by a crash is left
/// where it is, ended, and not counted.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("notifications.jsonl");
/// use ops_alerts::FileNotifier;
/// use ops_core::{Context, Delivery, NoticeKind, Notification, Notifier, Severity};
///
/// let (cx, file) = (Context::new(), FileNotifier::new("log", &path));
/// let notice = Notification::new("api", NoticeKind::Firing, Severity::Warning, "slow", cx.now());
/// assert_eq!(file.notify(&cx, &notice).await?, Delivery::Accepted { receipt: None });
/// assert_eq!(file.notify(&cx, &notice).await?, Delivery::Duplicate);
/// assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
/// # Ok::<(), ops_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct FileNotifier {
    name: String,
    path: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

impl FileNotifier {
    /// The channel `name`, which writes to `path`. Touches nothing yet.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), seen: Arc::default() }
    }

    /// One attempt to get the lock and write; `None` while another holds the lock.
    async fn attempt(&self, line: &Arc<String>, key: &str) -> Result<Option<Delivery>> {
        let (seen, path) = (Arc::clone(&self.seen), self.path.clone());
        let (line, key) = (Arc::clone(line), key.to_owned());
        let append = move || seen.lock().unwrap_or_else(PoisonError::into_inner).append(&path, &line, &key);
        match tokio::task::spawn_blocking(append).await {
            Ok(result) => result.map_err(|cause| failed(&self.path, cause)),
            Err(cause) => Err(Error::new(ErrorKind::Bug, "write the notification").caused_by(cause)),
        }
    }
}

#[async_trait]
impl Notifier for FileNotifier {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, cx: &Context, notification: &Notification) -> Result<Delivery> {
        let line = Line { schema: SCHEMA, written_at: cx.now(), notification };
        let mut line = serde_json::to_string(&line)
            .map_err(|cause| Error::new(ErrorKind::Bug, "write the notification").caused_by(cause))?;
        line.push('\n');
        let line = Arc::new(line);
        cx.run("write the notification", async {
            loop {
                if let Some(delivery) = self.attempt(&line, notification.key.as_str()).await? {
                    return Ok(delivery);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
        .await
    }
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    written_at: DateTime<Utc>,
    #[serde(flatten)]
    notification: &'a Notification,
}

/// As much of a line as tells whether it was written before.
#[derive(Deserialize)]
struct Written {
    key: String,
}

/// The keys of a file, read as far as it went at the last look.
#[derive(Debug, Default)]
struct Seen {
    /// Device and inode: a rotated file is another one.
    file: (u64, u64),
    read_to: u64,
    keys: HashSet<String>,
}

impl Seen {
    fn append(&mut self, path: &Path, line: &str, key: &str) -> io::Result<Option<Delivery>> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
        let cut_short = self.catch_up(&mut file)?;
        if self.keys.contains(key) {
            return Ok(Some(Delivery::Duplicate));
        }
        let end = file.metadata()?.len();
        let text = if cut_short { format!("\n{line}") } else { line.to_owned() };
        if let Err(cause) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
            // What was written of it is no line; if it can't be taken back, it is not counted either.
            let _ = file.set_len(end);
            return Err(cause);
        }
        if end == 0 {
            sync_name(path)?;
        }
        // Not remembered here but read at the next look: what counts is what the file holds.
        Ok(Some(Delivery::Accepted { receipt: None }))
    }

    /// Reads what was added since, and says whether the last line was cut short.
    fn catch_up(&mut self, file: &mut File) -> io::Result<bool> {
        let meta = file.metadata()?;
        let identity = (meta.dev(), meta.ino());
        if self.file != identity || meta.len() < self.read_to {
            *self = Self { file: identity, ..Self::default() };
        }
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut added = Vec::new();
        // Not to the end: a device may have none.
        file.take(meta.len() - self.read_to).read_to_end(&mut added)?;
        let whole = added.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in added[..whole].split(|byte| *byte == b'\n') {
            if let Ok(written) = serde_json::from_slice::<Written>(line) {
                self.keys.insert(written.key);
            }
        }
        self.read_to += whole as u64;
        Ok(whole < added.len())
    }
}

/// A file that was just made is durable only when its name is.
fn sync_name(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, cause: io::Error) -> Error {
    let (kind, retry) = match cause.kind() {
        Io::NotFound => (ErrorKind::NotFound, Retry::Never),
        Io::IsADirectory => (ErrorKind::InvalidInput, Retry::Never),
        Io::PermissionDenied | Io::ReadOnlyFilesystem => (ErrorKind::PermissionDenied, Retry::Never),
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => {
            (ErrorKind::Exhausted, Retry::Safe { after: None })
        }
        _ => (ErrorKind::Failed, Retry::Indeterminate),
    };
    Error::new(kind, "write the notification")
        .on(path.to_string_lossy())
        .because(cause.to_string())
        .caused_by(cause)
        .retry(retry)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
