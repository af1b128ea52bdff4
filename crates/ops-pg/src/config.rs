//! What `[postgres.NAME]` says beside its URL.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of one PostgreSQL target. The URL is a secret and comes apart from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PgConfig {
    /// The databases to look into; by default the one that the URL names.
    pub databases: Vec<String>,
    /// A file of PEM certificates to trust, for a private authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_certificate: Option<String>,
    /// The memory of the machine that the server runs on, in GiB; `pg.settings` judges memory only where it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gib: Option<f64>,
    /// Where row security must be on.
    pub rls: RlsConfig,
}

/// Where row security must be on. By default: on every table of a schema in which some table has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RlsConfig {
    /// Schemas that clients reach directly: every table in them must have row security.
    pub schemas: Vec<String>,
    /// Tables, as `schema.table`, that must have row security.
    pub tables: Vec<String>,
    /// Tables, as `schema.table`, that are public on purpose.
    pub public_tables: Vec<String>,
}

impl PgConfig {
    /// Names the databases to look into.
    #[must_use]
    pub fn with_databases(mut self, databases: impl IntoIterator<Item = String>) -> Self {
        self.databases = databases.into_iter().collect();
        self
    }

    /// Says how much memory the server's machine has, in GiB.
    #[must_use]
    pub fn with_memory_gib(mut self, memory_gib: f64) -> Self {
        self.memory_gib = Some(memory_gib);
        self
    }

    /// Says where row security must be on.
    #[must_use]
    pub fn with_rls(mut self, rls: RlsConfig) -> Self {
        self.rls = rls;
        self
    }
}

impl RlsConfig {
    /// Schemas that clients reach directly.
    #[must_use]
    pub fn with_schemas(mut self, schemas: impl IntoIterator<Item = String>) -> Self {
        self.schemas = schemas.into_iter().collect();
        self
    }

    /// Tables that must have row security.
    #[must_use]
    pub fn with_tables(mut self, tables: impl IntoIterator<Item = String>) -> Self {
        self.tables = tables.into_iter().collect();
        self
    }

    /// Tables that are public on purpose.
    #[must_use]
    pub fn with_public_tables(mut self, tables: impl IntoIterator<Item = String>) -> Self {
        self.public_tables = tables.into_iter().collect();
        self
    }
}
