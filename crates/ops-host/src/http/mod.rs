//! HTTP endpoints: their configuration, their probes, and how one is bound.

mod config;
mod probe;
mod target;

pub use config::HttpConfig;
#[cfg(feature = "ws")]
pub use config::SubscriptionConfig;
pub use probe::{BoundHttpProbe, HttpProbe, http_registry};
pub use target::HttpTarget;
