//! Where a throwaway lives, who runs it, and how it ends.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// How a server is asked to end. It starts with `SIGINT` and `SIGQUIT` ignored, as all that a shell starts in
/// the background: these are for servers that handle them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopSignal {
    /// `SIGTERM`.
    Term,
    /// `SIGINT`.
    Int,
    /// `SIGQUIT`.
    Quit,
}

impl StopSignal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
        }
    }
}

/// Where a throwaway lives and how it ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ThrowawayOptions {
    /// The directory to make the scratch directory in; `/tmp` by default. The user it runs as must be able to
    /// write there.
    pub parent: PathBuf,
    /// What the directory's name begins with; `ops-` by default.
    pub prefix: String,
    /// As root: the first of these users that exists runs the server; `nobody` by default.
    pub users: Vec<String>,
    /// What the reaper sends when the client is gone; `SIGTERM` by default.
    pub stop: StopSignal,
    /// How long the server may take to end before `SIGKILL`, in whole seconds, rounded up; 10 s by default.
    pub grace: Duration,
    /// The server's whole environment. By default a `PATH` of the usual places and `LC_ALL=C`.
    pub env: Vec<(OsString, OsString)>,
}

impl Default for ThrowawayOptions {
    fn default() -> Self {
        let path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin";
        Self {
            parent: "/tmp".into(),
            prefix: "ops-".into(),
            users: vec!["nobody".into()],
            stop: StopSignal::Term,
            grace: Duration::from_secs(10),
            env: vec![("PATH".into(), path.into()), ("LC_ALL".into(), "C".into())],
        }
    }
}

impl ThrowawayOptions {
    /// Makes the scratch directory inside `parent`.
    #[must_use]
    pub fn with_parent(mut self, parent: impl Into<PathBuf>) -> Self {
        self.parent = parent.into();
        self
    }

    /// Begins the directory's name with `prefix`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// As root, runs as the first of `users` that exists.
    #[must_use]
    pub fn with_users(mut self, users: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.users = users.into_iter().map(Into::into).collect();
        self
    }

    /// Ends the server with `signal`.
    #[must_use]
    pub fn with_stop(mut self, signal: StopSignal) -> Self {
        self.stop = signal;
        self
    }

    /// Gives the server `grace` to end.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Adds a variable to the server's environment.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub(super) fn grace_seconds(&self) -> u64 {
        self.grace.as_secs() + u64::from(self.grace.subsec_nanos() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_rounded_up() {
        let options = ThrowawayOptions::default().with_grace(Duration::from_millis(1500));
        assert_eq!(options.grace_seconds(), 2);
    }
}
