//! What `[postgres.NAME]` says beside its URL.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::required::RequiredConfig;

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
    /// Where row security must be on.
    pub rls: RlsConfig,
    /// What must be there.
    pub required: RequiredConfig,
    /// The superusers that may log in; any other is a warning. By default all are shown, without alarm.
    pub superusers: Vec<String>,
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

    /// Says where row security must be on.
    #[must_use]
    pub fn with_rls(mut self, rls: RlsConfig) -> Self {
        self.rls = rls;
        self
    }

    /// Says what must be there.
    #[must_use]
    pub fn with_required(mut self, required: RequiredConfig) -> Self {
        self.required = required;
        self
    }

    /// Names the superusers that may log in.
    #[must_use]
    pub fn with_superusers(mut self, superusers: impl IntoIterator<Item = String>) -> Self {
        self.superusers = superusers.into_iter().collect();
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
