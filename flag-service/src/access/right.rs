//! The one table of what every route asks for, and of which role may do what. docs/access.md shows it
//! to people.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{Edit, Kind};

/// What a request may ask for; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Ask what somebody gets from a flag, as applications do.
    Evaluate,
    /// Read everything.
    View,
    /// Change flags, the segments they name, and for whom modules are enabled.
    Operate,
    /// Change everything else: modules, providers, settings, keys.
    Administer,
}

/// What a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum, ToSchema)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Role {
    /// An Envoy: opens an xDS stream as the nodes that its key names, and nothing else
    Envoy,
    /// An application: evaluates flags
    Evaluator,
    /// Reads everything
    Viewer,
    /// Changes flags too
    Operator,
    /// Changes everything
    Admin,
}

impl Right {
    /// The least role that includes it.
    #[must_use]
    pub const fn least(self) -> Role {
        match self {
            Self::Evaluate => Role::Evaluator,
            Self::View => Role::Viewer,
            Self::Operate => Role::Operator,
            Self::Administer => Role::Admin,
        }
    }
}

impl Role {
    /// Whether it includes a right.
    #[must_use]
    pub fn may(self, right: Right) -> bool {
        let highest = match self {
            Self::Envoy => None,
            Self::Evaluator => Some(Right::Evaluate),
            Self::Viewer => Some(Right::View),
            Self::Operator => Some(Right::Operate),
            Self::Admin => Some(Right::Administer),
        };
        highest >= Some(right)
    }
}

/// The word, as in JSON.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Envoy => "envoy",
            Self::Evaluator => "evaluator",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

impl Edit {
    /// What making it asks for. The write path holds every edit against it, so that a revert, and what is
    /// applied together, needs what each of its edits does.
    #[must_use]
    pub fn right(&self) -> Right {
        match self.kind {
            Kind::Flag | Kind::Segment | Kind::OrganisationModule | Kind::Set => Right::Operate,
            // What was disabled together is kept beside the settings, and is about flags.
            Kind::Settings if self.leaves_all_but("disabled") => Right::Operate,
            Kind::Settings | Kind::Module | Kind::Manifest | Kind::Provider | Kind::KeySet | Kind::Key => {
                Right::Administer
            }
        }
    }
}

/// Method, path and right of every route; none where anybody may ask. A route that is not here is
/// answered to nobody.
pub const ROUTES: &[(&str, &str, Option<Right>)] = &[
    ("GET", "/health", None),
    ("GET", "/ready", None),
    ("GET", "/openapi.json", None),
    ("POST", "/ofrep/v1/evaluate/flags", Some(Right::Evaluate)),
    ("POST", "/ofrep/v1/evaluate/flags/{*key}", Some(Right::Evaluate)),
    ("GET", "/ofrep/v1/events", Some(Right::Evaluate)),
    ("GET", "/api/v1/flagd", Some(Right::Evaluate)),
    ("GET", "/metrics", Some(Right::View)),
    ("GET", "/modules/system/info", Some(Right::View)),
    ("GET", "/api/v1/status", Some(Right::View)),
    ("GET", "/api/v1/envoys", Some(Right::View)),
    ("GET", "/api/v1/policy", Some(Right::View)),
    ("GET", "/api/v1/policy/warnings", Some(Right::View)),
    ("GET", "/api/v1/history", Some(Right::View)),
    ("GET", "/api/v1/history/verify", Some(Right::View)),
    ("GET", "/api/v1/export", Some(Right::View)),
    ("GET", "/api/v1/flags", Some(Right::View)),
    ("GET", "/api/v1/flags/{key}", Some(Right::View)),
    ("GET", "/api/v1/flags/{key}/explain", Some(Right::View)),
    ("POST", "/api/v1/flags/{key}/preview", Some(Right::View)),
    ("GET", "/api/v1/organisations/{id}", Some(Right::View)),
    ("GET", "/api/v1/subjects/{id}", Some(Right::View)),
    ("GET", "/api/v1/features", Some(Right::View)),
    ("GET", "/api/v1/module-management/modules/{id}/organisations", Some(Right::View)),
    ("GET", "/api/v1/module-management/modules/{id}/organisations/{organisation}", Some(Right::View)),
    ("GET", "/api/v1/module-management/organisations/{organisation}/modules", Some(Right::View)),
    ("GET", "/api/v1/segments", Some(Right::View)),
    ("GET", "/api/v1/segments/{name}", Some(Right::View)),
    ("PUT", "/api/v1/flags/{key}", Some(Right::Operate)),
    ("PATCH", "/api/v1/flags/{key}", Some(Right::Operate)),
    ("DELETE", "/api/v1/flags/{key}", Some(Right::Operate)),
    ("POST", "/api/v1/flags/{key}/kill", Some(Right::Operate)),
    ("POST", "/api/v1/flags/{key}/restore", Some(Right::Operate)),
    ("POST", "/api/v1/flags/{key}/revert/{revision}", Some(Right::Operate)),
    ("PUT", "/api/v1/features/{name}", Some(Right::Operate)),
    ("PATCH", "/api/v1/organisations/{id}", Some(Right::Operate)),
    ("PATCH", "/api/v1/subjects/{id}", Some(Right::Operate)),
    ("PUT", "/api/v1/module-management/modules/{id}/organisations/{organisation}", Some(Right::Operate)),
    ("DELETE", "/api/v1/module-management/modules/{id}/organisations/{organisation}", Some(Right::Operate)),
    ("PUT", "/api/v1/segments/{name}", Some(Right::Operate)),
    ("DELETE", "/api/v1/segments/{name}", Some(Right::Operate)),
    ("POST", "/disable-all", Some(Right::Operate)),
    ("POST", "/restore", Some(Right::Operate)),
    // And what each of their edits needs.
    ("POST", "/api/v1/revert/{revision}", Some(Right::Operate)),
    ("POST", "/api/v1/apply", Some(Right::Operate)),
    ("GET", "/api/v1/module-management/modules", Some(Right::View)),
    ("POST", "/api/v1/module-management/modules", Some(Right::Administer)),
    ("GET", "/api/v1/module-management/modules/metrics", Some(Right::View)),
    ("GET", "/api/v1/module-management/modules/openapi.json", Some(Right::View)),
    ("GET", "/api/v1/module-management/modules/{id}", Some(Right::View)),
    ("PUT", "/api/v1/module-management/modules/{id}", Some(Right::Administer)),
    ("DELETE", "/api/v1/module-management/modules/{id}", Some(Right::Administer)),
    ("GET", "/api/v1/module-management/modules/{id}/status", Some(Right::View)),
    ("GET", "/api/v1/module-management/modules/registration-history", Some(Right::View)),
    ("POST", "/api/v1/module-management/modules/discover", Some(Right::Administer)),
    ("GET", "/api/v1/module-management/routing/conflicts", Some(Right::View)),
    // A trial, which changes nothing.
    ("POST", "/api/v1/module-management/routing/conflicts", Some(Right::View)),
    ("GET", "/api/v1/module-management/system/health", Some(Right::View)),
    ("GET", "/api/v1/providers", Some(Right::View)),
    ("GET", "/api/v1/providers/{name}", Some(Right::View)),
    ("GET", "/api/v1/providers/{name}/keys", Some(Right::View)),
    ("POST", "/api/v1/providers/{name}/keys/refresh", Some(Right::Operate)),
    ("PUT", "/api/v1/providers/{name}", Some(Right::Administer)),
    ("DELETE", "/api/v1/providers/{name}", Some(Right::Administer)),
    ("GET", "/api/v1/settings", Some(Right::View)),
    ("PUT", "/api/v1/settings", Some(Right::Administer)),
    ("GET", "/api/v1/keys", Some(Right::Administer)),
    ("GET", "/api/v1/keys/{name}", Some(Right::Administer)),
    ("PUT", "/api/v1/keys/{name}", Some(Right::Administer)),
    ("DELETE", "/api/v1/keys/{name}", Some(Right::Administer)),
    ("POST", "/api/v1/keys/{name}/rotate", Some(Right::Administer)),
];
