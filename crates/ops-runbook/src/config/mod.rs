//! Reading `ops.toml`: every mistake at once, each with its line, secrets kept secret.
//!
//! A file is read in four steps, and all of them report: the text as TOML, its `${NAME}` variables, its shape
//! by the same JSON Schema that [`schema`] gives to editors, and its meaning (secrets have values, URLs
//! parse, bounds stand the right way round). What one step finds unsound, the next leaves out.
//!
//! ```
//! use std::path::Path;
//! use ops_runbook::config::{Config, GivenSurroundings};
//!
//! let text = r#"
//!     [postgres.main]
//!     url = { env = "DATABASE_URL" }
//!     [thresholds."pg.connections"]
//!     used = { warning = 70, critical = 85 }
//! "#;
//! let around = GivenSurroundings::default().with_env("DATABASE_URL", "postgres://ops:hunter2@db/shop");
//! let config = Config::read(text, Path::new("ops.toml"), &around)?;
//! assert!(config.postgres.contains_key("main"));
//! assert!(!format!("{config:?}").contains("hunter2"));
//! # Ok::<(), ops_runbook::config::ConfigErrors>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use ops_cache::RedisConfig;
use ops_core::{Bounds, Limits, ProbeSpec, Secret};
use ops_host::{HostConfig, HttpConfig};
use ops_pg::{MetricConfig, PgConfig};

use crate::state::StateConfig;

mod build;
mod document;
mod file;
mod init;
mod interpolate;
mod lines;
mod mistake;
mod nearest;
mod quantity;
mod report;
mod schema;
mod secret;
mod semantics;
mod show;
mod structure;
mod surroundings;
mod syntax;
#[cfg(test)]
mod tests;

pub use init::init;
pub use mistake::{ConfigErrors, Mistake};
pub use ops_core::quantity::parse_duration;
pub use schema::schema;
pub use show::Override;
pub use surroundings::{GivenSurroundings, Surroundings};

/// A configuration without mistakes: secrets have values, and every default is filled in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The service that all this belongs to; `ops` by default.
    pub service: String,
    /// How a check runs.
    pub check: Check,
    /// What ops remembers between runs.
    pub state: StateTarget,
    /// PostgreSQL servers by name.
    pub postgres: BTreeMap<String, PostgresTarget>,
    /// Redis and Valkey servers by name.
    pub redis: BTreeMap<String, RedisTarget>,
    /// HTTP endpoints by name.
    pub http: BTreeMap<String, HttpTarget>,
    /// Names for the machine that ops runs on.
    pub host: BTreeMap<String, HostConfig>,
    /// Metrics in SQL; the target of each is one of `postgres`.
    pub metrics: Vec<MetricConfig>,
    /// Bounds other than the defaults, by probe and threshold.
    pub thresholds: BTreeMap<String, BTreeMap<String, Bounds>>,
    /// What is allowed and yet unwise, such as a secret in a file that everybody may read.
    pub remarks: Vec<Mistake>,
    /// What the file gives, and where from: everything else is a default.
    sources: show::Sources,
}

/// How a check runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// How long a run may take; 30 s by default.
    pub timeout: Duration,
    /// How long one probe may take; 5 s by default.
    pub probe_timeout: Duration,
}

/// `[state]`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StateTarget {
    /// The PostgreSQL database that keeps it, in place of a file.
    pub url: Option<Secret>,
    /// The rest.
    pub config: StateConfig,
}

/// `[postgres.NAME]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PostgresTarget {
    /// Where it is, and who we are there.
    pub url: Secret,
    /// Where the admin console of its PgBouncer is, and who we are there.
    pub pgbouncer: Option<Secret>,
    /// The rest.
    pub config: PgConfig,
}

/// `[redis.NAME]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisTarget {
    /// Where it is, and who we are there.
    pub url: Secret,
    /// The rest.
    pub config: RedisConfig,
}

/// `[http.NAME]`. Prints without its URL, which may hold a token.
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpTarget {
    /// The endpoint, with its URL.
    pub config: HttpConfig,
    /// Headers to send.
    pub headers: Vec<(String, Secret)>,
}

impl Default for Check {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), probe_timeout: Duration::from_secs(5) }
    }
}

impl fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTarget")
            .field("status", &self.config.status)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the text of an `ops.toml`. `path` is where it came from: it names the file in messages, and
    /// relative paths of secrets start in its directory. Reads the environment variables and files that the
    /// text names, through `surroundings`; connects to nothing.
    ///
    /// # Errors
    /// Every mistake in the file.
    pub fn read(text: &str, path: &Path, surroundings: &dyn Surroundings) -> Result<Self, ConfigErrors> {
        let (mut root, map, errors) = document::parse(text);
        let mut report = report::Report::new(&map);
        let (mistakes, doubt) = syntax::judge(&errors, &map);
        report.syntax(mistakes, doubt);
        let interpolated = interpolate::expand(&mut root, surroundings, &mut report);
        let unsound = structure::check(&root, &mut report);
        structure::prune(&mut root, &unsound);
        let directory = path.parent().unwrap_or(Path::new(""));
        let resolved = semantics::check(&root, directory, surroundings, &mut report);
        build::build(root, resolved, interpolated, report, path)
    }

    /// The thresholds of a probe: its defaults, with what the file puts in their place.
    pub fn limits_for(&self, spec: &'static ProbeSpec) -> Limits {
        let given = self.thresholds.get(spec.name).into_iter().flatten();
        given.fold(Limits::defaults(spec), |limits, (name, bounds)| {
            // Reading has tried each of them; one that was put here since and makes no sense has no effect.
            limits.clone().with(name, *bounds).unwrap_or(limits)
        })
    }
}

impl Default for Config {
    /// What an empty file says.
    fn default() -> Self {
        Self {
            service: "ops".to_owned(),
            check: Check::default(),
            state: StateTarget::default(),
            postgres: BTreeMap::new(),
            redis: BTreeMap::new(),
            http: BTreeMap::new(),
            host: BTreeMap::new(),
            metrics: Vec::new(),
            thresholds: BTreeMap::new(),
            remarks: Vec::new(),
            sources: show::Sources::default(),
        }
    }
}
