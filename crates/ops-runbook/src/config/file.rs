//! `ops.toml` as serde reads it: the one source of its schema.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ops_cache::RedisConfig;
use ops_core::quantity::DurationText;
use ops_host::{HostConfig, HttpConfig};
use ops_pg::{MetricConfig, PgConfig};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::state::StateConfig;

use super::schema;
use super::secret::SecretRef;

/// What ops watches, and what it takes for trouble. A secret is { env = "NAME" } or { file = "PATH" }; ${NAME} in
/// a string stands for an environment variable, and $$ for a dollar sign; not in SQL.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "ops.toml")]
pub(super) struct File {
    /// The service that all this belongs to, as reports call it; ops by default.
    #[schemars(length(min = 1))]
    pub(super) service: Option<String>,
    /// How a check runs.
    pub(super) check: CheckSection,
    /// What ops remembers between runs.
    pub(super) state: StateSection,
    /// PostgreSQL servers, by name.
    pub(super) postgres: BTreeMap<TargetName, Postgres>,
    /// Redis and Valkey servers, by name.
    pub(super) redis: BTreeMap<TargetName, WithUrl<RedisConfig>>,
    /// HTTP endpoints, by name.
    pub(super) http: BTreeMap<TargetName, Endpoint>,
    /// The machine that ops runs on, by the name that it shall have.
    pub(super) host: BTreeMap<TargetName, HostConfig>,
    /// Metrics in SQL.
    #[schemars(extend("x-ops-expected" = "[[metric]] sections, with two brackets"))]
    pub(super) metric: Vec<MetricConfig>,
    /// Thresholds other than the defaults, by probe.
    #[schemars(schema_with = "schema::thresholds")]
    pub(super) thresholds: BTreeMap<String, BTreeMap<String, Value>>,
}

/// `[check]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CheckSection {
    /// How long a run may take; 30s by default.
    #[schemars(with = "Option<DurationText>")]
    pub(super) timeout: Option<String>,
    /// How long one probe may take; 5s by default.
    #[schemars(with = "Option<DurationText>")]
    pub(super) probe_timeout: Option<String>,
}

/// The name of a target: it stands on command lines, in labels and in alerts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(super) struct TargetName(#[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9_-]*$"))] pub(super) String);

/// A target's own settings, and beside them what is secret: the crate that owns the settings never sees how
/// secrets are written.
#[derive(Clone, Debug)]
pub(super) struct WithUrl<C> {
    /// Without its URL.
    pub(super) config: C,
}

/// A PostgreSQL server, and the console of the PgBouncer in front of it: the URLs of both are secret.
#[derive(Clone, Debug)]
pub(super) struct Postgres {
    /// Without the URLs.
    pub(super) config: PgConfig,
}

/// An endpoint: its URL may hold a token, and so may its headers.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) headers: BTreeMap<String, SecretRef>,
    /// Without its URL.
    pub(super) config: HttpConfig,
}

/// `[state]`: its URL is secret.
#[derive(Clone, Debug, Default)]
pub(super) struct StateSection {
    /// Without the URL.
    pub(super) config: StateConfig,
}

impl<'de> Deserialize<'de> for StateSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Map::deserialize(deserializer)?;
        let _: Option<SecretRef> = table.remove("url").map(part).transpose()?;
        Ok(Self { config: part(Value::Object(table))? })
    }
}

impl JsonSchema for StateSection {
    fn schema_name() -> Cow<'static, str> {
        StateConfig::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        "StateSection".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let url = described::<SecretRef>(
            generator,
            "A PostgreSQL database in place of the file, for several that share the work: the URL. Not on a server \
             that is watched here: ops must remember when that is down.",
        );
        with_property(StateConfig::json_schema(generator), "url", url, false)
    }
}

impl<'de, C: DeserializeOwned> Deserialize<'de> for WithUrl<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Map::deserialize(deserializer)?;
        let _: SecretRef = part(table.remove("url").ok_or_else(|| D::Error::missing_field("url"))?)?;
        Ok(Self { config: part(Value::Object(table))? })
    }
}

impl<'de> Deserialize<'de> for Postgres {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Map::deserialize(deserializer)?;
        let _: Option<SecretRef> = table.remove("pgbouncer").map(part).transpose()?;
        let WithUrl { config } = part(Value::Object(table))?;
        Ok(Self { config })
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Map::deserialize(deserializer)?;
        table.insert("url".to_owned(), "".into());
        let headers = table.remove("headers").map_or_else(|| Ok(BTreeMap::new()), part)?;
        Ok(Self { headers, config: part(Value::Object(table))? })
    }
}

fn part<T: DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
    T::deserialize(value).map_err(E::custom)
}

impl<C: JsonSchema> JsonSchema for WithUrl<C> {
    fn schema_name() -> Cow<'static, str> {
        C::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("WithUrl<{}>", C::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let url = described::<SecretRef>(generator, "Where it is, and who we are there.");
        with_property(C::json_schema(generator), "url", url, true)
    }
}

impl JsonSchema for Postgres {
    fn schema_name() -> Cow<'static, str> {
        PgConfig::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        "Postgres".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let console = described::<SecretRef>(
            generator,
            "The admin console of the PgBouncer in front of it: the URL of its database pgbouncer.",
        );
        with_property(WithUrl::<PgConfig>::json_schema(generator), "pgbouncer", console, false)
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        HttpConfig::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let url = described::<SecretRef>(
            generator,
            "The address, http:// or https:// (ws:// or wss:// with a subscription), without credentials: those \
             belong in headers.",
        );
        let headers = described::<BTreeMap<String, SecretRef>>(generator, "Headers to send, each a secret.");
        let schema = with_property(HttpConfig::json_schema(generator), "url", url, true);
        with_property(schema, "headers", headers, false)
    }
}

fn described<T: JsonSchema>(generator: &mut SchemaGenerator, description: &str) -> Value {
    let mut schema = generator.subschema_for::<T>();
    schema.insert("description".to_owned(), description.into());
    schema.to_value()
}

fn with_property(mut schema: Schema, name: &str, property: Value, required: bool) -> Schema {
    let object = schema.ensure_object();
    if let Some(properties) = object.entry("properties").or_insert_with(|| Map::new().into()).as_object_mut()
    {
        properties.insert(name.to_owned(), property);
    }
    if let Some(names) = object.entry("required").or_insert_with(|| Vec::<Value>::new().into()).as_array_mut()
        && required
        && !names.iter().any(|known| known == name)
    {
        names.push(name.into());
    }
    schema
}
