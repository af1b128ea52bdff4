//! One `ops.toml` wired into a system: targets, probes, thresholds, metrics; and the demo.

pub mod catalogue;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod grants;
pub mod system;
