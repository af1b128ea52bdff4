//! A store in a directory.

use std::collections::HashSet;
use std::io::{self, ErrorKind as Io};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::BytesMut;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use ops_core::words::count;
use ops_core::{
    BackupStore, ByteRange, ByteStream, Capabilities, Capability, Context, Error, ErrorKind, Object,
    ObjectKey, ObjectMeta, PutMode, Result,
};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

/// Where objects are written before they get their name. `~` is in no key, so nobody can ask for it; and since it
/// is made with the store, a directory without it is no store: an empty mount point is not taken for an empty store.
const PARTIAL: &str = "~partial";

/// A put that wrote nothing for so long was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// A [`BackupStore`] in a directory: a file per object, a folder per segment. It has
/// [`IfAbsent`](Capability::IfAbsent).
///
/// A put writes a file of its own, makes it durable (fsync), gives it its name in one step (a rename, or for
/// if-absent a hard link, which fails when the name is taken), and makes the name durable (fsync of the folder)
/// before it returns. Files have mode 0600, folders 0700. The file system needs hard links, as every local one of
/// Linux and macOS has, and NFS; objects put elsewhere than through this store should not be there.
///
/// A put that is killed leaves a file in the folder `~partial`, which [`LocalStore::open`] removes once it is a day
/// old. Folders that became empty stay. Files whose names are no keys are not shown.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("backups");
/// use ops_backup::LocalStore;
/// use ops_core::{BackupStoreExt, Context, ObjectKey, PutMode};
///
/// let store = LocalStore::create(&path).await?;
/// let key = ObjectKey::parse("wal/000000010000000000000002")?;
/// store.put_bytes(&Context::new(), &key, "segment".into(), PutMode::IfAbsent).await?;
/// assert_eq!(std::fs::read(path.join("wal/000000010000000000000002")).unwrap(), b"segment");
/// # Ok::<(), ops_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LocalStore {
    root: PathBuf,
    /// Folders whose names this process made durable, or saw to be.
    durable: Arc<Mutex<HashSet<PathBuf>>>,
}

impl LocalStore {
    /// Makes a directory a store, and opens it. The directory may be there already, also as a store; its parent has
    /// to be.
    ///
    /// # Errors
    /// Those of the file system, as `NotFound`, `PermissionDenied`, `Exhausted`, `Failed`.
    pub async fn create(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        make_folder(&root).await.map_err(|cause| failed("make the store", &root, cause))?;
        let partial = root.join(PARTIAL);
        make_folder(&partial).await.map_err(|cause| failed("make the store", &partial, cause))?;
        Self::open(root).await
    }

    /// Opens a directory that [`LocalStore::create`] made a store, and removes what puts that were killed more than
    /// a day ago have left.
    ///
    /// # Errors
    /// `Unreachable` when it is no store: perhaps its file system is not mounted.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let store = Self { root: root.into(), durable: Arc::default() };
        store.is_there("open the store").await?;
        store.sweep().await.map_err(|cause| failed("open the store", &store.root, cause))?;
        Ok(store)
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// What is not found in a store that is not there is not proven absent.
    async fn is_there(&self, operation: &'static str) -> Result<()> {
        match fs::metadata(self.root.join(PARTIAL)).await {
            Ok(_) => Ok(()),
            Err(cause) if cause.kind() == Io::NotFound => Err(not_a_store(operation, &self.root)),
            Err(cause) => Err(failed(operation, &self.root, cause)),
        }
    }

    async fn sweep(&self) -> io::Result<()> {
        let mut entries = fs::read_dir(self.root.join(PARTIAL)).await?;
        while let Some(entry) = entries.next_entry().await? {
            let written = entry.metadata().await.and_then(|meta| meta.modified());
            let age = written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            if age.is_ok_and(|age| age > ABANDONED) {
                // Another opener may have been quicker.
                let _ = fs::remove_file(entry.path()).await;
            }
        }
        Ok(())
    }

    async fn write(&self, key: &ObjectKey, bytes: ByteStream, mode: PutMode) -> Result<()> {
        let target = self.path(key);
        let broken = |cause| self.put_failed(key, cause);
        let partial = Partial(self.root.join(PARTIAL).join(uuid::Uuid::now_v7().to_string()));
        let mut file = match private_file().open(&partial.0).await {
            Ok(file) => file,
            Err(cause) if cause.kind() == Io::NotFound => {
                return Err(not_a_store("put an object", &self.root));
            }
            Err(cause) => return Err(broken(cause)),
        };
        let mut bytes = bytes;
        while let Some(piece) = bytes.try_next().await? {
            file.write_all(&piece).await.map_err(broken)?;
        }
        file.sync_all().await.map_err(broken)?;
        drop(file);
        self.make_folders(&target).await.map_err(broken)?;
        // On a thread of its own it runs to its end, also when this future is dropped meanwhile.
        let committed = tokio::task::spawn_blocking(move || commit(partial, &target, mode)).await;
        match committed {
            Ok(result) => result.map_err(broken),
            Err(cause) => Err(Error::new(ErrorKind::Bug, "put an object").caused_by(cause)),
        }
    }

    /// Makes the folders of `target`, from the root down, each durable in the one above: also one that is there
    /// already, since another put may have made it and not synced it yet. The root itself is never made here: it
    /// would hide that it is not mounted.
    async fn make_folders(&self, target: &Path) -> io::Result<()> {
        let durable = || self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let folders: Vec<_> = target.ancestors().skip(1).take_while(|folder| *folder != self.root).collect();
        for folder in folders.into_iter().rev() {
            let known = durable().contains(folder);
            if !known || !fs::try_exists(folder).await? {
                make_folder(folder).await?;
                durable().insert(folder.to_owned());
            }
        }
        Ok(())
    }

    fn put_failed(&self, key: &ObjectKey, cause: io::Error) -> Error {
        match cause.kind() {
            Io::AlreadyExists => Error::new(ErrorKind::Precondition, "put an object")
                .on(self.path(key).to_string_lossy())
                .because("it is there already"),
            Io::NotADirectory | Io::IsADirectory | Io::DirectoryNotEmpty => {
                Error::new(ErrorKind::InvalidInput, "put an object")
                    .on(self.path(key).to_string_lossy())
                    .because("a key can't be an object and a folder at once")
                    .caused_by(cause)
            }
            _ => failed("put an object", &self.path(key), cause),
        }
    }
}

/// A file that is removed unless it got its name.
#[derive(Debug)]
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; after a link it is the second name.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Gives a durable file its name, and makes the name durable.
fn commit(partial: Partial, target: &Path, mode: PutMode) -> io::Result<()> {
    match mode {
        PutMode::Overwrite => std::fs::rename(&partial.0, target)?,
        PutMode::IfAbsent => std::fs::hard_link(&partial.0, target)?,
    }
    sync_folder_of(target)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// Makes a folder that may be there already, durable in the one above.
async fn make_folder(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    let made = move || {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&path) {
            Err(cause) if cause.kind() != Io::AlreadyExists => return Err(cause),
            _ => sync_folder_of(&path)?,
        }
        if path.is_dir() { Ok(()) } else { Err(Io::NotADirectory.into()) }
    };
    tokio::task::spawn_blocking(made).await?
}

fn private_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

fn failed(operation: &'static str, path: &Path, cause: io::Error) -> Error {
    let kind = match cause.kind() {
        Io::NotFound => ErrorKind::NotFound,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::Exhausted,
        Io::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Failed,
    };
    Error::new(kind, operation).on(path.to_string_lossy()).because(cause.to_string()).caused_by(cause)
}

fn not_a_store(operation: &'static str, root: &Path) -> Error {
    Error::new(ErrorKind::Unreachable, operation).on(root.to_string_lossy()).because(format!(
        "it is no store, since it holds no {PARTIAL}: perhaps its file system is not mounted"
    ))
}

/// Whether nothing of that name can be there: also below a file, and in place of a folder.
fn is_absent(cause: &io::Error) -> bool {
    matches!(cause.kind(), Io::NotFound | Io::NotADirectory)
}

#[async_trait]
impl BackupStore for LocalStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities::none().with(Capability::IfAbsent)
    }

    async fn put(&self, cx: &Context, key: &ObjectKey, bytes: ByteStream, mode: PutMode) -> Result<()> {
        cx.run("put an object", self.write(key, bytes, mode)).await
    }

    async fn get(&self, cx: &Context, key: &ObjectKey, range: ByteRange) -> Result<Object> {
        let path = self.path(key);
        cx.run("get an object", async {
            match open(&path, range).await {
                Ok(Some(object)) => return Ok(object),
                Ok(None) => {}
                Err(cause) if is_absent(&cause) => {}
                Err(cause) => return Err(failed("get an object", &path, cause)),
            }
            self.is_there("get an object").await?;
            Err(Error::new(ErrorKind::NotFound, "get an object").on(path.to_string_lossy()))
        })
        .await
    }

    fn list(&self, cx: &Context, prefix: Option<&ObjectKey>) -> BoxStream<'static, Result<ObjectMeta>> {
        let start = prefix.map_or_else(|| self.root.clone(), |prefix| self.path(prefix));
        let (store, cx) = (self.clone(), cx.clone());
        let checked = async move {
            store.is_there("list objects").await?;
            Ok(stream::try_unfold(Walk::new(store.root, start, cx), Walk::next))
        };
        stream::once(checked).try_flatten().boxed()
    }

    async fn delete(&self, cx: &Context, key: &ObjectKey) -> Result<()> {
        let path = self.path(key);
        cx.run("delete an object", async {
            self.is_there("delete an object").await?;
            let (target, folder) = (path.clone(), path.is_dir());
            let remove = move || match std::fs::remove_file(&target) {
                Ok(()) => sync_folder_of(&target),
                Err(cause) if folder || is_absent(&cause) => Ok(()),
                Err(cause) => Err(cause),
            };
            let removed = tokio::task::spawn_blocking(remove).await.unwrap_or_else(|cause| Err(cause.into()));
            removed.map_err(|cause| failed("delete an object", &path, cause))
        })
        .await
    }
}

/// Opens a file for the bytes wanted; `None` for what is there but no object.
async fn open(path: &Path, range: ByteRange) -> io::Result<Option<Object>> {
    // Looked at before it is opened: opening a named pipe would wait for its writer.
    if !fs::metadata(path).await?.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path).await?;
    let size = file.metadata().await?.len();
    let wanted = range.within(size);
    file.seek(io::SeekFrom::Start(wanted.start)).await?;
    let state = (file, wanted.end - wanted.start, path.to_owned());
    let bytes = stream::try_unfold(state, |(mut file, left, path)| async move {
        if left == 0 {
            return Ok(None);
        }
        let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut bytes = BytesMut::with_capacity(piece);
        let read = (&mut file).take(piece as u64).read_buf(&mut bytes).await;
        match read.map_err(|cause| failed("get an object", &path, cause))? {
            0 => Err(Error::new(ErrorKind::Corrupt, "get an object")
                .on(path.to_string_lossy())
                .because(format!("the file ended {} too early", count(left as f64, "byte", "bytes")))),
            read => Ok(Some((bytes.freeze(), (file, left - read as u64, path)))),
        }
    });
    Ok(Some(Object { size, bytes: bytes.boxed() }))
}

/// Walks a folder and those below it, one open at a time.
#[derive(Debug)]
struct Walk {
    root: PathBuf,
    folders: Vec<PathBuf>,
    open: Option<fs::ReadDir>,
    cx: Context,
}

impl Walk {
    fn new(root: PathBuf, start: PathBuf, cx: Context) -> Self {
        Self { root, folders: vec![start], open: None, cx }
    }

    async fn next(mut self) -> Result<Option<(ObjectMeta, Self)>> {
        let cx = self.cx.clone();
        let found = cx.run("list objects", async {
            self.step().await.map_err(|cause| failed("list objects", &self.root, cause))
        });
        Ok(found.await?.map(|meta| (meta, self)))
    }

    async fn step(&mut self) -> io::Result<Option<ObjectMeta>> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(folder) = self.folders.pop() else { return Ok(None) };
                match fs::read_dir(&folder).await {
                    Ok(entries) => self.open = Some(entries),
                    // The prefix of nothing, or removed meanwhile.
                    Err(cause) if is_absent(&cause) => {}
                    Err(cause) => return Err(cause),
                }
                continue;
            };
            let Some(entry) = open.next_entry().await? else {
                self.open = None;
                continue;
            };
            let path = entry.path();
            let Some(key) = self.key(&path) else { continue };
            let meta = match entry.metadata().await {
                Ok(meta) => meta,
                Err(cause) if is_absent(&cause) => continue,
                Err(cause) => return Err(cause),
            };
            if meta.is_dir() {
                self.folders.push(path);
            } else if meta.is_file() {
                let modified = DateTime::<Utc>::from(meta.modified()?);
                return Ok(Some(ObjectMeta { key, size: meta.len(), modified }));
            }
        }
    }

    /// The key of a path, unless it is none: the folder of partial files, or something not put by a store.
    fn key(&self, path: &Path) -> Option<ObjectKey> {
        ObjectKey::parse(path.strip_prefix(&self.root).ok()?.to_str()?).ok()
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
