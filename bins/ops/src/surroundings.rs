//! The real environment and file system, for libraries that read neither by themselves.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ops_runbook::config::Surroundings;

/// This process's environment and files.
#[derive(Debug)]
pub(crate) struct Real;

impl Surroundings for Real {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o7777)
    }
}
