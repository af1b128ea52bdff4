//! When a job last succeeded.

use std::fmt::Debug;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// How a job's last runs ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The job.
    pub job: String,
    /// When it last succeeded; `None` when it never has.
    pub succeeded: Option<DateTime<Utc>>,
    /// When it last failed; `None` when it never has.
    pub failed: Option<DateTime<Utc>>,
}

/// Keeps the last success and the last failure of each named job.
///
/// # Errors
/// Those of the store.
#[async_trait]
pub trait Heartbeats: Send + Sync + Debug {
    /// Says that `job` ended at `at`. A beat that is older than what is known changes nothing: two that cross on
    /// their way leave the later one.
    async fn beat(&self, job: &str, at: DateTime<Utc>, succeeded: bool) -> Result<()>;

    /// What is known of `job`; `None` when it never said anything.
    async fn heartbeat(&self, job: &str) -> Result<Option<Heartbeat>>;
}
