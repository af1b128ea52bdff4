//! The workspace's own programs, which cargo builds for nobody else's tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program of that name, built under the same profile as this test.
///
/// # Panics
/// Where it is not there, with the command that builds it.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    // target/PROFILE/deps/TEST
    let profile = test.ancestors().nth(2).unwrap_or(Path::new("/"));
    let found = profile.join(name);
    assert!(
        found.is_file(),
        "MISSING: {} is not built: run `cargo build --workspace --bins` (`scripts/test` does)",
        found.display()
    );
    found
}

/// What a program left: its exit code, and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Said {
    /// Runs a command to its end, with nothing on stdin.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn by(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().expect("a program that starts");
        output.into()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("a program writes UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}
