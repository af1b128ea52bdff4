//! Where a machine's facts are found: files, and programs that read.

use std::path::PathBuf;

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
}
