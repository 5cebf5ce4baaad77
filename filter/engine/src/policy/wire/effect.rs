//! What a flag changes about a request, as it is sent.

use alloc::{collections::BTreeMap, string::String};
use serde::{Deserialize, Serialize};

/// What changes about a request while a flag is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// Key of the flag.
    pub flag: String,
    /// Only while it is on with this variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What changes.
    pub when_on: WhenOn,
}

/// What changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct WhenOn {
    /// Another Envoy cluster serves what the module would serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Request headers by which Envoy's router is told of timeouts, retries and hedging.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A copy of the request goes elsewhere too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
}

/// Where copies go. Their answers are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The Envoy cluster.
    pub cluster: String,
}
