//! What `[postgres.NAME]` says beside its URL.

mod isolation;

use std::borrow::Cow;
use std::time::Duration;

use ops_core::quantity::{DurationText, SizeText};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::provider::Provider;
use crate::required::RequiredConfig;

pub use isolation::{IsolationConfig, TenantConfig};

/// Settings of one PostgreSQL target. The URL is a secret and comes apart from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PgConfig {
    /// The databases to look into, or "all" that accept connections; by default the one that the URL names.
    pub databases: Databases,
    /// A file of PEM certificates to trust, for a private authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_certificate: Option<String>,
    /// The memory of the machine that the server runs on, in GiB; `pg.settings` judges memory only where it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gib: Option<f64>,
    /// Where row security must be on.
    pub rls: RlsConfig,
    /// Tenants to become in turn, to prove that neither sees the other's rows.
    pub isolation: Vec<IsolationConfig>,
    /// What must be there.
    pub required: RequiredConfig,
    /// The superusers that may log in; any other is a warning. By default all are shown, without alarm.
    pub superusers: Vec<String>,
    /// Who runs the server: on a managed service much cannot be done or proven by SQL. "auto" goes by the role that
    /// each service makes for its customers; a server of one's own that has such a role says "self".
    pub provider: Provider,
    /// What this server is meant to be; by default either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<ServerRole>,
    /// What archiving has to achieve.
    pub archive: ArchiveConfig,
    /// Where the write-ahead log lies.
    pub wal: WalConfig,
}

/// Which databases of a server to look into.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Databases {
    /// These; the first is the one that the whole server is probed through. None stands for the one that the URL
    /// names.
    Named(Vec<String>),
    /// Every one that accepts connections.
    Every(Every),
}

/// The word for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Every {
    /// Every database that accepts connections and is no template.
    #[serde(rename = "all")]
    All,
}

impl Default for Databases {
    fn default() -> Self {
        Databases::Named(Vec::new())
    }
}

/// By hand: a shape and a word are one choice to a reader.
impl JsonSchema for Databases {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Databases".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "array", "items": { "type": "string" } }, { "const": "all" }],
            "x-ops-expected": "an array of names, or \"all\"",
        })
    }
}

impl Databases {
    /// Those that are named.
    pub fn named(&self) -> &[String] {
        match self {
            Databases::Named(names) => names,
            Databases::Every(Every::All) => &[],
        }
    }
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
    /// The size of the file system that holds `pg_wal`, less what else is to lie on it.
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
    /// Views and materialised views, as `schema.view`, and functions, as `schema.function(types)`, that show tables
    /// with row security on purpose.
    pub exposed: Vec<String>,
}

impl PgConfig {
    /// Names the databases to look into.
    #[must_use]
    pub fn with_databases(mut self, databases: impl IntoIterator<Item = String>) -> Self {
        self.databases = Databases::Named(databases.into_iter().collect());
        self
    }

    /// Looks into every database.
    #[must_use]
    pub fn with_every_database(mut self) -> Self {
        self.databases = Databases::Every(Every::All);
        self
    }

    /// Has isolation proven.
    #[must_use]
    pub fn with_isolation(mut self, isolation: impl IntoIterator<Item = IsolationConfig>) -> Self {
        self.isolation = isolation.into_iter().collect();
        self
    }

    /// Says how much memory the server's machine has, in GiB.
    #[must_use]
    pub fn with_memory_gib(mut self, memory_gib: f64) -> Self {
        self.memory_gib = Some(memory_gib);
        self
    }

    /// Says what the server is meant to be.
    #[must_use]
    pub fn with_role(mut self, role: ServerRole) -> Self {
        self.role = Some(role);
        self
    }

    /// Says who runs the server.
    #[must_use]
    pub fn with_provider(mut self, provider: Provider) -> Self {
        self.provider = provider;
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

    /// Views and functions that show tables with row security on purpose.
    #[must_use]
    pub fn with_exposed(mut self, exposed: impl IntoIterator<Item = String>) -> Self {
        self.exposed = exposed.into_iter().collect();
        self
    }

    /// Tables that are public on purpose.
    #[must_use]
    pub fn with_public_tables(mut self, tables: impl IntoIterator<Item = String>) -> Self {
        self.public_tables = tables.into_iter().collect();
        self
    }
}
