//! What ops remembers, on disk or in PostgreSQL: one set of statements for both.

mod baselines;
mod config;
mod error;
mod heartbeats;
mod history;
mod journal;
mod leases;
mod open;
mod schema;
mod watched;

pub use config::StateConfig;

use chrono::{DateTime, Utc};
use ops_core::{Error, ErrorKind, Result};
use sqlx::AnyPool;

/// The state of ops in an SQLite file or in schema `ops` of a PostgreSQL database. Clones share it.
///
/// What a call has returned is on disk. A second process on the same file waits for its turn, up to 5 s, and is then
/// told `Busy`.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use ops_core::state::Heartbeats;
/// use ops_runbook::SqlState;
///
/// # let directory = std::env::temp_dir().join(format!("ops-doc-{}", std::process::id()));
/// let state = SqlState::file(&directory.join("state.db")).await?;
/// state.beat("nightly", chrono::Utc::now(), true).await?;
/// assert!(state.heartbeat("nightly").await?.is_some());
/// # std::fs::remove_dir_all(directory).unwrap();
/// # Ok::<(), ops_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SqlState {
    pool: AnyPool,
    /// Where it is, without a password: for errors.
    place: String,
    kind: Kind,
}

/// Which engine keeps it, where the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// Begins a transaction that writes: in SQLite, one that reads first and finds another writer when it comes to
    /// write would fail at once instead of waiting.
    fn begin(self) -> &'static str {
        match self {
            Kind::Sqlite => "BEGIN IMMEDIATE",
            Kind::Postgres => "BEGIN",
        }
    }
}

/// Times are kept as microseconds since 1970, which both engines compare and neither rounds.
fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

fn time(micros: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| corrupt("a time", &micros.to_string()))
}

fn corrupt(what: &str, seen: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "read the state").because(format!("{seen:?} is not {what}"))
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|cause| Error::new(ErrorKind::Bug, "write the state").caused_by(cause))
}

fn from_json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|cause| corrupt(what, text).caused_by(cause))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
