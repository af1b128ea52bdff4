//! The kernel's own files, which answer at once.

use std::path::Path;

use ops_core::{Error, ErrorKind, Result};

use crate::machine::Machine;

impl Machine {
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
}

fn btime(stat: &str) -> String {
    stat.lines().find_map(|line| line.strip_prefix("btime ")).unwrap_or_default().to_owned()
}
