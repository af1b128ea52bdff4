//! One `ops.toml` wired into a system: targets, probes, thresholds, metrics; what it remembers; and the demo.

pub mod catalogue;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod grants;
pub mod state;
pub mod system;

pub use state::SqlState;
