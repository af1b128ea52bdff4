//! Where a machine's facts are found: files, and programs that read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ops_core::{Context, Error, ErrorKind, Result};
use tokio::process::Command;
use tokio::sync::oneshot;

/// Where a machine's facts are found; by default where Linux and systemd have them.
///
/// ```
/// use ops_host::Machine;
/// let machine = Machine::default().with_proc("/host/proc").with_sys("/host/sys");
/// assert_eq!(machine.proc, std::path::Path::new("/host/proc"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Machine {
    /// The kernel's processes and counters.
    pub proc: PathBuf,
    /// The kernel's devices and control groups.
    pub sys: PathBuf,
    /// What was written since the start; systemd's presence shows there.
    pub run: PathBuf,
    /// The program that asks systemd.
    pub systemctl: PathBuf,
    /// The program that reads systemd's journal.
    pub journalctl: PathBuf,
    /// The program that asks about the clock.
    pub timedatectl: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            run: "/run".into(),
            systemctl: "systemctl".into(),
            journalctl: "journalctl".into(),
            timedatectl: "timedatectl".into(),
        }
    }
}

impl Machine {
    /// Reads processes and counters here.
    #[must_use]
    pub fn with_proc(mut self, path: impl Into<PathBuf>) -> Self {
        self.proc = path.into();
        self
    }

    /// Reads devices and control groups here.
    #[must_use]
    pub fn with_sys(mut self, path: impl Into<PathBuf>) -> Self {
        self.sys = path.into();
        self
    }

    /// Looks for systemd's presence here.
    #[must_use]
    pub fn with_run(mut self, path: impl Into<PathBuf>) -> Self {
        self.run = path.into();
        self
    }

    /// Asks systemd by this program.
    #[must_use]
    pub fn with_systemctl(mut self, program: impl Into<PathBuf>) -> Self {
        self.systemctl = program.into();
        self
    }

    /// Reads the journal by this program.
    #[must_use]
    pub fn with_journalctl(mut self, program: impl Into<PathBuf>) -> Self {
        self.journalctl = program.into();
        self
    }

    /// Asks about the clock by this program.
    #[must_use]
    pub fn with_timedatectl(mut self, program: impl Into<PathBuf>) -> Self {
        self.timedatectl = program.into();
        self
    }

    /// A file of the kernel's, which answers at once.
    pub(crate) fn read(&self, path: &Path) -> Result<String> {
        std::fs::read_to_string(path).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::Unsupported,
            };
            Error::new(kind, "read the kernel's figures")
                .on(path.display().to_string())
                .because(error.to_string())
        })
    }

    /// A file under [`Machine::proc`].
    pub(crate) fn proc(&self, file: &str) -> Result<String> {
        self.read(&self.proc.join(file))
    }

    /// What tells this start of the machine from others.
    pub(crate) fn boot(&self) -> String {
        let id =
            self.proc("sys/kernel/random/boot_id").or_else(|_| self.proc("stat").map(|stat| btime(&stat)));
        id.map(|id| id.trim().to_owned()).unwrap_or_default()
    }

    /// Whether systemd runs this machine, by the rule of sd_booted(3).
    pub(crate) fn has_systemd(&self) -> bool {
        self.run.join("systemd/system").is_dir()
    }

    /// Runs a program that reads, in the C locale and in UTC, and returns what it printed.
    pub(crate) async fn ask(&self, cx: &Context, program: &Path, arguments: &[&str]) -> Result<String> {
        let failed = |kind, why: String| {
            Error::new(kind, "ask the system").on(program.display().to_string()).because(why)
        };
        let work = async {
            Command::new(program)
                .args(arguments)
                .env("LC_ALL", "C")
                .env("TZ", "UTC")
                .env("SYSTEMD_COLORS", "0")
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output()
                .await
                .map_err(|error| failed(ErrorKind::NotFound, error.to_string()))
        };
        let output = cx.run("ask the system", work).await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().next().unwrap_or("it fails and says nothing");
            return Err(failed(ErrorKind::Failed, line.to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn btime(stat: &str) -> String {
    stat.lines().find_map(|line| line.strip_prefix("btime ")).unwrap_or_default().to_owned()
}

/// `KEY=VALUE` lines, as systemd's programs print them; blocks are separated by an empty line.
pub(crate) fn properties(text: &str) -> Vec<BTreeMap<String, String>> {
    text.split("\n\n")
        .map(|block| {
            block
                .lines()
                .filter_map(|line| line.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        })
        .filter(|block: &BTreeMap<_, _>| !block.is_empty())
        .collect()
}

/// Runs what may block on a thread of its own, and gives it up in time. Not on the runtime's blocking pool: the
/// runtime would wait for a dead network file system when it shuts down.
pub(crate) async fn apart<T: Send + 'static>(
    cx: &Context,
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new().spawn(move || {
        // The probe may have given up meanwhile.
        let _ = answer.send(work());
    });
    spawned.map_err(|error| Error::new(ErrorKind::Exhausted, operation).because(error.to_string()))?;
    cx.run(operation, async {
        receiver.await.map_err(|_| Error::new(ErrorKind::Bug, operation).because("the reader ended"))?
    })
    .await
}
