//! Which organisations a module serves, and what it is told of them.

use alloc::string::String;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::yes;

/// For whom a module is enabled of whom nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EnabledFor {
    /// For every organisation but those for which it is disabled.
    #[default]
    All,
    /// For no organisation but those for which it is enabled.
    Listed,
}

impl EnabledFor {
    /// Whether it is what is meant where nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is said of one organisation and a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = PolicyOrganisation))]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// The organisation.
    pub organisation: String,
    /// Whether it may use the module.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What the module is told of it, in the header `x-rampart-module-config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Map<String, Value>>,
}
