//! What a module or route may say besides who may call it, as it is sent: whose data it is about,
//! which path its upstream sees, how long it may take and when it is tried again.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Where a request names the organisation that it is about. Nobody calls for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tenant {
    /// Nowhere: the route is not bound, whatever the module says.
    Any,
    /// In this parameter of the route's pattern.
    Path(String),
    /// In the header of this name.
    Header(String),
}

/// What an upstream sees in place of the public path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Stands in place of `/api/v1/modules/{version}/{namespace}`.
    pub prefix: String,
}

/// When Envoy tries a request again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Conditions, by Envoy's names for HTTP and gRPC. Empty: never.
    pub on: Vec<String>,
    /// Further conditions, for requests whose method may be carried out twice without harm: GET, HEAD, OPTIONS,
    /// TRACE, PUT and DELETE. Those of gRPC are none: its calls are POST.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idempotent_on: Vec<String>,
    /// How often it is tried again at most.
    #[serde(default = "once")]
    pub max_retries: u32,
    /// How long each try may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout_ms: Option<u32>,
}

const fn once() -> u32 {
    1
}
