//! What `[postgres.NAME]` says beside its URL.

use std::time::Duration;

use ops_core::quantity::{DurationText, SizeText};
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
    /// Where row security must be on.
    pub rls: RlsConfig,
    /// What this server is meant to be; by default either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<ServerRole>,
    /// What archiving has to achieve.
    pub archive: ArchiveConfig,
    /// Where the write-ahead log lies.
    pub wal: WalConfig,
}

/// What a server is in its cluster of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServerRole {
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Standby,
}

impl ServerRole {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerRole::Primary => "primary",
            ServerRole::Standby => "standby",
        }
    }
}

/// What archiving has to achieve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ArchiveConfig {
    /// The recovery point objective: how much of the latest work may be lost, as time. With one, archiving that is
    /// off is critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo: Option<DurationText>,
}

/// Where the write-ahead log lies. SQL does not show how large a disk is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct WalConfig {
    /// The size of the file system that holds `pg_wal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<SizeText>,
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

    /// Says what the server is meant to be.
    #[must_use]
    pub fn with_role(mut self, role: ServerRole) -> Self {
        self.role = Some(role);
        self
    }

    /// Gives the recovery point objective of archiving.
    #[must_use]
    pub fn with_rpo(mut self, rpo: Duration) -> Self {
        self.archive.rpo = Some(DurationText(rpo));
        self
    }

    /// Gives the size, in bytes, of the file system that holds `pg_wal`.
    #[must_use]
    pub fn with_wal_disk(mut self, bytes: u64) -> Self {
        self.wal.disk = Some(SizeText(bytes));
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
