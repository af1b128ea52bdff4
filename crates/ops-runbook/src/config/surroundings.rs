//! What a configuration refers to outside its file. Libraries never read the environment: the binary hands it
//! in.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

/// The environment variables and files that a configuration may name.
pub trait Surroundings: Debug {
    /// The value of an environment variable; `None` where it is unset.
    fn env(&self, name: &str) -> Option<String>;
    /// The text of a file.
    ///
    /// # Errors
    /// As the file system has them.
    fn file(&self, path: &Path) -> io::Result<String>;
    /// Whether something is there, a socket for instance.
    fn exists(&self, path: &Path) -> bool;
    /// The permission bits of a file, where the system has them.
    fn mode(&self, path: &Path) -> Option<u32>;
}

/// Surroundings given value by value, for tests and embedders: nothing of the process shines through.
///
/// ```
/// use ops_runbook::config::{GivenSurroundings, Surroundings};
/// let around = GivenSurroundings::default().with_env("DATABASE_URL", "postgres:///shop");
/// assert_eq!(around.env("DATABASE_URL").as_deref(), Some("postgres:///shop"));
/// assert_eq!(around.env("HOME"), None);
/// ```
#[derive(Clone, Default)]
pub struct GivenSurroundings {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, (String, u32)>,
}

impl GivenSurroundings {
    /// Sets an environment variable.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Puts a file there that its owner alone may read.
    #[must_use]
    pub fn with_file(self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.with_file_mode(path, text, 0o600)
    }

    /// Puts a file there with these permission bits.
    #[must_use]
    pub fn with_file_mode(mut self, path: impl Into<PathBuf>, text: impl Into<String>, mode: u32) -> Self {
        self.files.insert(path.into(), (text.into(), mode));
        self
    }
}

/// Names what is there, never what it says: both may be secrets.
impl Debug for GivenSurroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GivenSurroundings")
            .field("variables", &self.variables.keys())
            .field("files", &self.files.keys())
            .finish()
    }
}

impl Surroundings for GivenSurroundings {
    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).map(|(text, _)| text.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        self.files.get(path).map(|(_, mode)| *mode)
    }
}
