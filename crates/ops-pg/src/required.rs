//! What a database must have, and nobody would miss until it is needed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What must be there. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RequiredConfig {
    /// Extensions that must be installed.
    pub extensions: Vec<String>,
    /// Event triggers that must exist and fire.
    pub event_triggers: Vec<String>,
    /// Functions that must exist, as `schema.name` or `schema.name(integer, text)`.
    pub functions: Vec<String>,
    /// The role that must be able to execute them; by default anybody, by a grant to PUBLIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

impl RequiredConfig {
    /// Extensions that must be installed.
    #[must_use]
    pub fn with_extensions(mut self, extensions: impl IntoIterator<Item = String>) -> Self {
        self.extensions = extensions.into_iter().collect();
        self
    }

    /// Event triggers that must exist and fire.
    #[must_use]
    pub fn with_event_triggers(mut self, event_triggers: impl IntoIterator<Item = String>) -> Self {
        self.event_triggers = event_triggers.into_iter().collect();
        self
    }

    /// Functions that must exist.
    #[must_use]
    pub fn with_functions(mut self, functions: impl IntoIterator<Item = String>) -> Self {
        self.functions = functions.into_iter().collect();
        self
    }

    /// The role that must be able to execute them.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }
}
