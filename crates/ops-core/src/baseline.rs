//! Samples of counters, and where the last ones are kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Whose counters these are: the server's own identity (not the address it is reached by) and the probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WindowKey {
    /// The server's identity: PostgreSQL's system identifier with the database, Redis' run id.
    pub server: String,
    /// The probe.
    pub probe: String,
}

/// Counters at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: DateTime<Utc>,
    /// What the counters count from: changes when the server resets them.
    pub epoch: String,
    /// The counters by name. They only rise within one epoch.
    pub counters: BTreeMap<String, f64>,
}

/// Keeps the last sample of each key. In memory for a service that embeds probes; in the state store otherwise.
#[async_trait]
pub trait Baselines: Send + Sync + Debug {
    /// The sample stored last.
    async fn latest(&self, key: &WindowKey) -> Result<Option<Sample>>;
    /// Stores a sample in its place.
    async fn store(&self, key: &WindowKey, sample: &Sample) -> Result<()>;
}

/// Baselines for as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryBaselines {
    samples: Mutex<HashMap<WindowKey, Sample>>,
}

#[async_trait]
impl Baselines for MemoryBaselines {
    async fn latest(&self, key: &WindowKey) -> Result<Option<Sample>> {
        Ok(self.samples.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    async fn store(&self, key: &WindowKey, sample: &Sample) -> Result<()> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), sample.clone());
        Ok(())
    }
}
