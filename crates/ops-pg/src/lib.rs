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
mod fleet;
mod grants;
mod identifier;
mod metric;
#[cfg(feature = "telemetry")]
mod periods;
mod pgbouncer;
mod probe;
mod probes;
mod provider;
mod quote;
mod required;
mod row;
mod session;
mod statement;
mod target;
mod url;

pub use capabilities::{Capabilities, Extension};
pub use config::{
    ArchiveConfig, Databases, Every, IsolationConfig, PgConfig, RlsConfig, ServerRole, TenantConfig,
    WalConfig,
};
pub use fleet::{SINGLE_PRIMARY, SinglePrimary};
pub use grants::{grants, grants_on};
pub use metric::{MetricConfig, SqlMetric};
#[cfg(feature = "telemetry")]
pub use periods::PeriodTable;
pub use probe::{BoundProbe, PgProbe, Scope, registry};
pub use provider::Provider;
pub use required::RequiredConfig;
pub use row::Row;
pub use target::PgTarget;
