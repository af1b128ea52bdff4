//! Redis and Valkey health: a target, its probes, and the one `INFO` they share.
//!
//! A [`RedisTarget`] is a server; [`registry`] holds the probes; [`RedisTarget::bind`] makes a
//! [`HealthProbe`](ops_core::HealthProbe) of one, to be run alone or in an [`ops_core::ProbeSet`].
//!
//! ```no_run
//! use ops_cache::{RedisOptions, RedisTarget, registry};
//! use ops_core::{Context, Limits, ProbeSet, Secret};
//!
//! # async fn check() -> ops_core::Result<()> {
//! let url = Secret::from("redis://cache:6379".to_owned());
//! let target = RedisTarget::connect_lazily("cache", &url, RedisOptions::default())?;
//! let mut probes = ProbeSet::new("shop");
//! for probe in registry() {
//!     let spec = probe.spec();
//!     probes.add_grouped(target.name(), None, spec.group, target.bind(*probe, Limits::defaults(spec)));
//! }
//! let report = probes.run(&Context::new()).await;
//! # let _ = report;
//! # Ok(())
//! # }
//! ```
//!
//! What a probe sends changes nothing that another measures: `PING` and `INFO` count as no hit and no miss, and
//! touch no key. The user needs `+ping +info`, and `+select` where the URL names a database other than 0. Four probes
//! ask for more, and say which command they lack:
//! `redis.latency` (`+latency|latest +latency|history`), `redis.slowlog` (`+slowlog|get`),
//! `redis.cluster` (`+cluster|info +cluster|nodes`) and `redis.sentinel`
//! (`+sentinel|masters +sentinel|replicas +sentinel|ckquorum`); [`grants`] prints them all.
//!
//! Whether the slow log and the latency monitor are kept stands in the server's configuration. While no entry proves it,
//! both probes ask by `+config|get`, which also shows the passwords that stand there: a user who should not see those
//! goes without, and both are unknown on a server with nothing to tell.

mod address;
mod config;
mod connect;
mod error;
#[cfg(test)]
mod fixtures;
mod grants;
mod info;
mod probe;
mod probes;
#[cfg(feature = "server")]
pub mod server;
mod target;

pub use config::{RedisConfig, RedisOptions, RootCertificate};
pub use grants::{grants, grants_on_sentinel};
pub use info::{Info, Keyspace};
pub use probe::{BoundProbe, RedisProbe, registry};
pub use target::{InfoReading, RedisTarget};
