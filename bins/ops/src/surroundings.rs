//! The real environment and file system, for libraries that read neither by themselves.

use std::io::{self, Read as _};
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
        read(path, 64 << 10)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o7777)
    }
}

/// The text of a file of at most `most` bytes: one that never ends is a mistake, and not to be waited for.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    match text.len() as u64 > most {
        true => {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} KiB", most >> 10)))
        }
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = read(Path::new("/dev/zero"), 1024).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1 KiB");
    }
}
