//! What `[[postgres.NAME.isolation]]` says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Two tenants, and the relations in which neither may see the other's rows.
///
/// ```
/// use ops_pg::{IsolationConfig, TenantConfig};
/// let tenants = [TenantConfig::new("acme", "1"), TenantConfig::new("globex", "2")];
/// let isolation = IsolationConfig::new("app_user", "app.tenant", "tenant_id", tenants)
///     .with_relations(["public.orders".to_owned()]);
/// assert!(!isolation.writes);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IsolationConfig {
    /// The role that clients run as; ops's own role must be able to become it.
    pub role: String,
    /// The setting that says who the tenant is, such as app.tenant or request.jwt.claims.
    pub setting: String,
    /// The column that holds a row's tenant.
    pub column: String,
    /// Two tenants that have rows in each of the relations.
    #[schemars(length(min = 2, max = 2))]
    pub tenants: Vec<TenantConfig>,
    /// Tables and views, as schema.name; every view over them that the role may read is looked at too.
    #[serde(default)]
    pub relations: Vec<String>,
    /// Functions without arguments, as schema.name, that return rows with the column. They are called.
    #[serde(default)]
    pub functions: Vec<String>,
    /// Whether to try to write the other tenant's rows as well, in a transaction that is rolled back. Triggers fire
    /// in it, and rows are locked while it lasts: for tenants that exist to be tried on.
    #[serde(default)]
    pub writes: bool,
}

/// One tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TenantConfig {
    /// What findings call it.
    pub name: String,
    /// What the column holds in its rows.
    pub id: String,
    /// The value of the setting that makes one this tenant; by default its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<String>,
}

impl IsolationConfig {
    /// Two tenants told apart by `column`, who are told to the server as `role` by `setting`.
    pub fn new(
        role: impl Into<String>,
        setting: impl Into<String>,
        column: impl Into<String>,
        tenants: [TenantConfig; 2],
    ) -> Self {
        Self {
            role: role.into(),
            setting: setting.into(),
            column: column.into(),
            tenants: tenants.into(),
            relations: Vec::new(),
            functions: Vec::new(),
            writes: false,
        }
    }

    /// The relations to look at.
    #[must_use]
    pub fn with_relations(mut self, relations: impl IntoIterator<Item = String>) -> Self {
        self.relations = relations.into_iter().collect();
        self
    }

    /// The functions to call.
    #[must_use]
    pub fn with_functions(mut self, functions: impl IntoIterator<Item = String>) -> Self {
        self.functions = functions.into_iter().collect();
        self
    }

    /// Tries to write too.
    #[must_use]
    pub fn with_writes(mut self) -> Self {
        self.writes = true;
        self
    }
}

impl TenantConfig {
    /// A tenant whose setting is its id.
    pub fn new(name: impl Into<String>, id: impl Into<String>) -> Self {
        Self { name: name.into(), id: id.into(), claims: None }
    }

    /// Another value of the setting, such as a document of claims.
    #[must_use]
    pub fn with_claims(mut self, claims: impl Into<String>) -> Self {
        self.claims = Some(claims.into());
        self
    }
}
