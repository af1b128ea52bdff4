//! PostgreSQL for ops: probes that look without harm, metrics in SQL, and throwaway clusters to test against.
//!
//! A [`PgTarget`] is one database over one connection. [`registry`] lists the built-in probes; each declares what
//! it needs in order to see, and says `Unknown` with the exact `GRANT` where it cannot. Everything is read in
//! short read-only transactions with a statement and a lock timeout; nothing takes a lock on a user's table.

mod capabilities;
#[cfg(feature = "cluster")]
pub mod cluster;
mod config;
mod error;
mod grants;
mod metric;
mod probe;
mod probes;
mod row;
mod session;
mod statement;
mod target;
mod url;

pub use capabilities::{Capabilities, Extension};
pub use config::{ArchiveConfig, PgConfig, RlsConfig, ServerRole, WalConfig};
pub use metric::{MetricConfig, SqlMetric};
pub use probe::{BoundProbe, PgProbe, Scope, registry};
pub use row::Row;
pub use target::PgTarget;
