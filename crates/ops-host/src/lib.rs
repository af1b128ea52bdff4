//! Health of the machine that ops runs on, and of HTTP endpoints.
//!
//! Each family is a feature: `disk` ([`HostTarget`], `host.disk`) and `http` ([`HttpTarget`], `http.endpoint`).
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

#[cfg(feature = "disk")]
mod host;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "disk")]
mod mounts;
mod probes;

#[cfg(feature = "disk")]
pub use host::{BoundHostProbe, HostConfig, HostProbe, HostTarget, host_registry};
#[cfg(feature = "http")]
pub use http::{BoundHttpProbe, HttpConfig, HttpProbe, HttpTarget, http_registry};
