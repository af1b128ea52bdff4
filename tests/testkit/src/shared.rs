//! One server for many test processes.
//!
//! nextest runs each test in its own process, and a cluster takes a second or two to make: one per test would
//! double the suite's time. So the first process to want a server starts it and shares it
//! ([`Throwaway::share`](ops_core::throwaway::Throwaway::share)): the others hold a pipe that the server's reaper
//! reads, and the kernel tells it when the last of them is gone, `kill -9` included. It lingers for
//! [`LINGER`], so that a gap between two tests costs no restart. nextest's set-up scripts would be experimental, would
//! start servers that no chosen test needs, and have no tear-down.
//!
//! Who starts is decided by a lock on a file, which ends with its process too. That file and one that names the
//! server stay behind in `<temporary directory>/ops-testkit-<uid>`, a few hundred bytes.

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::throwaway::Share;
use serde_json::Value;

/// How long a shared server waits for the next test.
pub const LINGER: Duration = Duration::from_secs(10);

/// Where a server shared by several processes is described. `key` says which server, and must differ for
/// servers that are made differently.
#[derive(Debug)]
pub(crate) struct Place {
    lock: PathBuf,
    state: PathBuf,
}

/// The right to start the server of a place; others wait.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: File,
    state: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str, key: impl Hash) -> io::Result<Self> {
        let mut hasher = DefaultHasher::new();
        // Two work trees may want different things under one name.
        (env!("CARGO_MANIFEST_DIR"), key).hash(&mut hasher);
        let dir = runtime_dir()?;
        let stem = format!("{name}-{:016x}", hasher.finish());
        Ok(Self { lock: dir.join(format!("{stem}.lock")), state: dir.join(format!("{stem}.json")) })
    }

    /// Waits until no other process is about to start this server.
    pub(crate) async fn turn(&self) -> io::Result<Turn> {
        let lock = open_private(&self.lock)?;
        let locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
        Ok(Turn { _lock: locked.map_err(io::Error::other)??, state: self.state.clone() })
    }
}

impl Turn {
    /// Joins the server that runs, if one does.
    pub(crate) fn join(&self) -> Option<(Value, Share)> {
        let state: Value = serde_json::from_slice(&std::fs::read(&self.state).ok()?).ok()?;
        let share = Share::join(Path::new(state["keeper"].as_str()?)).ok()??;
        let address: SocketAddr = state["address"].as_str()?.parse().ok()?;
        // A server that crashed has a reaper all the same.
        TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        Some((state, share))
    }

    /// Tells the others where the server is.
    pub(crate) fn publish(&self, state: &Value) -> io::Result<()> {
        let fresh = self.state.with_extension("new");
        open_private(&fresh)?.write_all(state.to_string().as_bytes())?;
        std::fs::rename(&fresh, &self.state)
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn runtime_dir() -> io::Result<PathBuf> {
    let uid = nix::unistd::getuid().as_raw();
    let dir = std::env::temp_dir().join(format!("ops-testkit-{uid}"));
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&dir)?;
    // The name is guessable, and the temporary directory everybody's.
    if found.is_dir() && found.uid() == uid {
        return Ok(dir);
    }
    Err(io::Error::other(format!("{} belongs to somebody else", dir.display())))
}
