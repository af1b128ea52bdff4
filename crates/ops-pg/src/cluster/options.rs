//! What a throwaway cluster is made of.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ops_core::Secret;

/// Which PostgreSQL, where, and with which settings.
///
/// ```
/// use ops_pg::cluster::ClusterOptions;
/// let options = ClusterOptions::default().with_major(17).with_setting("log_min_duration_statement", "0");
/// assert_eq!(options.major, Some(17));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// The directory with `initdb` and `postgres`. Without one they are searched for.
    pub bin_dir: Option<PathBuf>,
    /// A `PATH` to search besides the places where distributions put PostgreSQL.
    pub path: Option<OsString>,
    /// The major version wanted. Without one, the newest that is found.
    pub major: Option<u32>,
    /// The directory to make the scratch directory in; `/tmp` by default. Socket paths are short: so must this be.
    pub parent: PathBuf,
    /// Listens on a free port of 127.0.0.1 as well; by default only on a socket in the scratch directory.
    pub tcp: bool,
    /// The superuser's password, which TCP asks for. By default an unguessable one.
    pub password: Option<Secret>,
    /// Certificate chain and key, in PEM, with which TCP connections can be encrypted.
    pub tls: Option<(String, Secret)>,
    /// Data checksums on or off; by default as the version's `initdb` has it: on from 18.
    pub data_checksums: Option<bool>,
    /// Settings for `postgresql.conf`, which win over the defaults.
    pub settings: BTreeMap<String, String>,
    /// How long it may take from `initdb` to the first connection; 30 s by default.
    pub ready_within: Duration,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            bin_dir: None,
            path: None,
            major: None,
            parent: "/tmp".into(),
            tcp: false,
            password: None,
            tls: None,
            data_checksums: None,
            settings: BTreeMap::new(),
            ready_within: Duration::from_secs(30),
        }
    }
}

impl ClusterOptions {
    /// Uses the binaries in `bin_dir`, and no others.
    #[must_use]
    pub fn with_bin_dir(mut self, bin_dir: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(bin_dir.into());
        self
    }

    /// Searches `path`, a `PATH`, as well.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<OsString>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Wants this major version.
    #[must_use]
    pub fn with_major(mut self, major: u32) -> Self {
        self.major = Some(major);
        self
    }

    /// Makes the scratch directory inside `parent`.
    #[must_use]
    pub fn with_parent(mut self, parent: impl Into<PathBuf>) -> Self {
        self.parent = parent.into();
        self
    }

    /// Listens on a free port of 127.0.0.1 as well.
    #[must_use]
    pub fn with_tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Gives the superuser this password.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Encrypts TCP connections that ask for it; implies [`with_tcp`](Self::with_tcp).
    #[must_use]
    pub fn with_tls(mut self, certificate_pem: impl Into<String>, key_pem: impl Into<Secret>) -> Self {
        self.tls = Some((certificate_pem.into(), key_pem.into()));
        self.with_tcp()
    }

    /// Makes the cluster with data checksums. A standby is as its primary.
    #[must_use]
    pub fn with_data_checksums(mut self) -> Self {
        self.data_checksums = Some(true);
        self
    }

    /// Makes the cluster without data checksums. A standby is as its primary.
    #[must_use]
    pub fn without_data_checksums(mut self) -> Self {
        self.data_checksums = Some(false);
        self
    }

    /// Sets a parameter, as `postgresql.conf` would.
    #[must_use]
    pub fn with_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// Gives it this long to start.
    #[must_use]
    pub fn with_ready_within(mut self, ready_within: Duration) -> Self {
        self.ready_within = ready_within;
        self
    }
}
