//! Who serves a module's requests while none of its endpoints can.

use rampart_engine::policy::Problem;
use rampart_engine::policy::wire::Retry;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::change::malformed;
use super::super::{LEGACY, Module, Refusal, State};

/// Who serves a module's requests while none of its endpoints can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// The application that modules replace.
    Legacy,
}

impl Fallback {
    pub(in super::super) const fn cluster(self) -> &'static str {
        match self {
            Self::Legacy => LEGACY,
        }
    }

    /// When a request that an endpoint failed is the fallback's, where the manifest does not say: whenever
    /// the endpoint cannot have seen it; and when it may have, if that does no harm.
    pub(in super::super) fn retry(self) -> Retry {
        let conditions = |conditions: &[&str]| conditions.iter().map(|on| (*on).to_owned()).collect();
        Retry {
            on: conditions(&["connect-failure", "refused-stream", "reset-before-request"]),
            idempotent_on: conditions(&["reset", "gateway-error"]),
            max_retries: 2,
            per_try_timeout_ms: None,
        }
    }
}

pub(super) fn check(module: &Module) -> Result<(), Refusal> {
    if module.fallback.is_none() {
        return Ok(());
    }
    if module.health_check.is_none() && module.outlier_detection.is_none() {
        let problem = "Envoy must know when no endpoint is well: add `health_check` or `outlier_detection`";
        return Err(malformed("fallback", problem));
    }
    if module.circuit_breakers.as_ref().is_some_and(|breakers| breakers.retry_budget.is_some()) {
        let problem = "Envoy counts open requests at the endpoints and retries before them, so that a budget would be \
                       of nothing, and requests would fail that the fallback could serve: say `max_retries`, or leave \
                       `retry_budget` out";
        return Err(malformed("circuit_breakers.retry_budget", problem));
    }
    if module.rewrite.is_some() {
        let problem = "the module sees another path than the client's, which its fallback would not know: \
                       leave out either `fallback` or `rewrite`";
        return Err(malformed("fallback", problem));
    }
    if !(module.request_headers.is_empty() && module.response_headers.is_empty()) {
        let problem = "which headers are changed is said for the module's endpoints, and its fallback would get them \
                       too: leave out either `fallback`, or `request_headers` and `response_headers`";
        return Err(malformed("fallback", problem));
    }
    Ok(())
}

impl State {
    /// Fallbacks that are not there, each with its place.
    pub(crate) fn missing_fallbacks(&self) -> Vec<Problem> {
        if !self.settings.legacy.is_empty() {
            return Vec::new();
        }
        let falling = self.modules.values().filter(|module| module.fallback.is_some());
        falling
            .map(|module| Problem {
                field: format!("modules[{}].fallback", module.id),
                problem: "the settings name no `legacy` application".to_owned(),
            })
            .collect()
    }
}
