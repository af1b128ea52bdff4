//! Health of the machine that ops runs on, and of HTTP endpoints.
//!
//! [`HostTarget`] is a machine, [`HttpTarget`] an endpoint. Each family of probes is a feature: `disk`
//! (`host.disk`), `kernel` (`host.cpu`, `.memory`, `.io`, `.network`, `.load`), `process`, `systemd` (`host.service`,
//! `.timer`, `.clock`), `log`, `heartbeat` (`job.heartbeat`), `http` (`http.endpoint`, `http.graphql`), `ws` (`ws.subscription`).
//! A target binds a probe of its registry into a [`HealthProbe`](ops_core::HealthProbe).
//!
//! ```
//! # #[cfg(feature = "disk")] {
//! use ops_core::{Limits, ProbeSet};
//! use ops_host::{HostConfig, HostTarget, host_registry};
//!
//! let host = HostTarget::new("db", HostConfig::default());
//! let mut probes = ProbeSet::new("shop");
//! for probe in host_registry() {
//!     let spec = probe.spec();
//!     probes.add_grouped(host.name(), None, spec.group, host.bind(*probe, Limits::defaults(spec)));
//! }
//! # }
//! ```

#[cfg(any(feature = "heartbeat", feature = "log", feature = "process"))]
mod apart;
mod config;
#[cfg(all(test, feature = "kernel"))]
mod fixtures;
mod host;
#[cfg(feature = "http")]
mod http;
#[cfg(any(feature = "kernel", feature = "process", feature = "systemd"))]
mod kernel;
mod machine;
#[cfg(feature = "disk")]
mod mounts;
mod probes;

pub use config::{HeartbeatConfig, HostConfig, JobConfig, LogConfig, PatternConfig, ProcessConfig};
pub use host::{BoundHostProbe, HostProbe, HostTarget, ReferenceClock, host_registry};
#[cfg(feature = "ws")]
pub use http::SubscriptionConfig;
#[cfg(feature = "http")]
pub use http::{BoundHttpProbe, HttpConfig, HttpProbe, HttpTarget, http_registry};
pub use machine::Machine;
