//! Where PostgreSQL's programs are. Debian and others keep several versions apart, none of them on `PATH`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ops_core::{Context, Error, ErrorKind, Result};
use tokio::process::Command;

use super::ClusterOptions;

/// Directories with one directory per version in them, which begins as told and holds `bin`: Debian and Ubuntu;
/// Fedora and PGDG's RPMs; Homebrew on Apple's and on Intel's processors.
const HOMES: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql@"),
    ("/usr/local/opt", "postgresql@"),
];

/// One installed PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Binaries {
    /// Where `initdb` and `postgres` are.
    pub dir: PathBuf,
    /// What `postgres --version` says, such as `15.14`.
    pub version: String,
    /// The major version.
    pub major: u32,
}

impl Binaries {
    /// Finds the server that `options` ask for.
    ///
    /// # Errors
    /// `NotFound` that names the places looked at; `Failed` where the given directory holds no working server.
    pub async fn find(cx: &Context, options: &ClusterOptions) -> Result<Self> {
        if let Some(dir) = &options.bin_dir {
            let found = cx.run("find PostgreSQL", Self::inspect(dir)).await?;
            return match options.major {
                Some(major) if major != found.major => Err(not_found()
                    .on(dir.to_string_lossy())
                    .because(format!("it holds version {}, and {major} is wanted", found.version))),
                _ => Ok(found),
            };
        }
        let mut found = Self::installed(cx, options.path.as_deref()).await?;
        found.retain(|server| options.major.is_none_or(|major| major == server.major));
        found.into_iter().next().ok_or_else(|| {
            let wanted = options.major.map(|major| format!(" {major}")).unwrap_or_default();
            not_found()
                .because(format!(
                    "there is no PostgreSQL{wanted} server on PATH, nor in /usr/lib/postgresql/*/bin, \
                     /usr/pgsql-*/bin or Homebrew's postgresql@*/bin"
                ))
                .with_fix("install the package postgresql (Debian), postgresql-server (Fedora) or postgresql@18 (brew)")
        })
    }

    /// Every server on this machine, the newest first.
    ///
    /// # Errors
    /// Only those of the context: what does not work is not listed.
    pub async fn installed(cx: &Context, path: Option<&OsStr>) -> Result<Vec<Self>> {
        let mut found: Vec<Self> = Vec::new();
        for dir in candidates(path) {
            let inspected = cx.run("find PostgreSQL", Self::inspect(&dir)).await;
            match inspected {
                Ok(server) => found.push(server),
                Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Cancelled) => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        found.sort_by_key(|server| std::cmp::Reverse(server.major));
        Ok(found)
    }

    async fn inspect(dir: &Path) -> Result<Self> {
        let fail = |why: String| not_found().on(dir.to_string_lossy()).because(why);
        let dir = real(dir).ok_or_else(|| fail("it holds no postgres".into()))?;
        if !dir.join("initdb").is_file() {
            return Err(fail("it holds no initdb".into()));
        }
        let said = Command::new(dir.join("postgres")).arg("--version").env_clear().output().await;
        let said = said.map_err(|error| fail(format!("postgres: {error}")))?;
        let line = String::from_utf8_lossy(&said.stdout).into_owned();
        parse_version(&line)
            .map(|(version, major)| Self { dir: dir.clone(), version, major })
            .ok_or_else(|| fail(format!("postgres --version says {line:?}")))
    }

    /// A program of this version.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether a loadable library is installed with it.
    pub fn has_library(&self, name: &str) -> bool {
        let Some(prefix) = self.dir.parent() else { return false };
        ["lib", "lib/postgresql", "lib/pgsql", "lib64", "lib64/pgsql"].iter().any(|lib| {
            ["so", "dylib"].iter().any(|suffix| prefix.join(lib).join(format!("{name}.{suffix}")).is_file())
        })
    }
}

fn candidates(path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    for (home, prefix) in HOMES {
        // A home that is not there holds nothing.
        let Ok(entries) = std::fs::read_dir(home) else { continue };
        let versions = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            let version = name.to_string_lossy().strip_prefix(prefix).map(str::to_owned);
            version.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        dirs.extend(versions.map(|entry| entry.path().join("bin")));
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for dir in dirs.iter().filter_map(|dir| real(dir)) {
        if !found.contains(&dir) {
            found.push(dir);
        }
    }
    found
}

/// Where the server really is: some put links on `PATH`, and its libraries stand beside what the link names.
fn real(dir: &Path) -> Option<PathBuf> {
    dir.join("postgres").canonicalize().ok()?.parent().map(Path::to_owned)
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, `postgres (PostgreSQL) 19beta1`.
fn parse_version(line: &str) -> Option<(String, u32)> {
    let version = line.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some((version.to_owned(), version[..digits].parse().ok()?))
}

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "find a PostgreSQL server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (line, version, major) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", "15.14", 15),
            ("postgres (PostgreSQL) 18.6\n", "18.6", 18),
            ("postgres (PostgreSQL) 19beta1\n", "19beta1", 19),
        ] {
            assert_eq!(parse_version(line), Some((version.to_owned(), major)));
        }
        assert_eq!(parse_version("sh: not found"), None);
    }
}
