//! What a throwaway server is made of.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ops_core::Secret;

/// Which Redis or Valkey, where, and with which settings.
///
/// ```
/// use ops_cache::server::ServerOptions;
/// let options = ServerOptions::default().with_setting("maxmemory", "8mb");
/// assert_eq!(options.settings, [("maxmemory".to_owned(), "8mb".to_owned())]);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The program, a `redis-server` or `valkey-server`. Without one it is searched for.
    pub program: Option<PathBuf>,
    /// A `PATH` to search before the usual places.
    pub path: Option<OsString>,
    /// The directory to make the scratch directory in; `/tmp` by default. Socket paths are short: so must this be.
    pub parent: PathBuf,
    /// Listens on a free port of 127.0.0.1 as well; by default only on a socket in the scratch directory.
    pub tcp: bool,
    /// Certificate chain and key, in PEM: a second port on 127.0.0.1 speaks TLS with them.
    pub tls: Option<(String, Secret)>,
    /// What clients must send with `AUTH`; nothing by default.
    pub password: Option<Secret>,
    /// Starts it as a sentinel, which watches servers and holds no data.
    pub sentinel: bool,
    /// Lines for `redis.conf`, which win over the defaults. The same name may come several times.
    pub settings: Vec<(String, String)>,
    /// How long it may take to answer; 10 s by default.
    pub ready_within: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            program: None,
            path: None,
            parent: "/tmp".into(),
            tcp: false,
            tls: None,
            password: None,
            sentinel: false,
            settings: Vec::new(),
            ready_within: Duration::from_secs(10),
        }
    }
}

impl ServerOptions {
    /// Uses this program, and no other.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Searches `path`, a `PATH`, before the usual places.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<OsString>) -> Self {
        self.path = Some(path.into());
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

    /// Speaks TLS on a second free port of 127.0.0.1. Clients need no certificate.
    #[must_use]
    pub fn with_tls(mut self, certificate_pem: impl Into<String>, key_pem: impl Into<Secret>) -> Self {
        self.tls = Some((certificate_pem.into(), key_pem.into()));
        self
    }

    /// Demands `AUTH` with this password.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Starts it as a sentinel. `SENTINEL MONITOR` tells it what to watch.
    #[must_use]
    pub fn with_sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Adds a line to `redis.conf`, the value quoted as that file wants it: `save` may be `60 1000`, or `""`.
    #[must_use]
    pub fn with_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Gives it this long to start.
    #[must_use]
    pub fn with_ready_within(mut self, ready_within: Duration) -> Self {
        self.ready_within = ready_within;
        self
    }
}
