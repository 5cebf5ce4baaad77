//! How modules fare, as Envoys report it: calls by route or by module, in a shape that is given.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::Api;
use super::meta::{Parameters, within};
use super::openapi::Reading;
use super::problem::Problem;
use crate::running::{self, Health};

/// Most entries that can be asked for; there are no more routes.
const MOST: u64 = 1_000_000;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only so many, those with the most calls, most first
    #[param(minimum = 1, maximum = 1_000_000)]
    top: Option<u64>,
    /// What calls are summed by
    #[serde(default)]
    #[param(inline)]
    by: By,
    /// Also the last access, the last minute, and calls by arm and code
    #[serde(default)]
    detail: bool,
}

#[derive(Deserialize, ToSchema, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum By {
    /// `module:route`
    #[default]
    Route,
    /// `module`
    Module,
}

/// Calls since this service started.
#[derive(Serialize, ToSchema)]
#[schema(as = Calls)]
struct Entry {
    call_count: u64,
    total_duration_ms: f64,
    /// Calls that ended with a status of 500 or more
    error_count: u64,
    avg_duration_ms: f64,
    /// From 0 to 1
    success_rate: f64,
    #[serde(flatten)]
    detail: Detail,
}

/// All of it only where it is asked for.
#[derive(Serialize, ToSchema, Default)]
#[schema(as = CallsDetail)]
struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    last_access: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls_last_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors_last_minute: Option<u64>,
    /// By what served (`module`, `legacy`, the cluster that an effect chose; empty: refused), and by status
    /// (0: the client left before there was one)
    #[serde(skip_serializing_if = "Option::is_none")]
    arms: Option<BTreeMap<String, BTreeMap<u16, u64>>>,
    /// Of the last minute, in milliseconds; by module only
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    /// By module only
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
}

#[derive(Serialize, ToSchema)]
struct Latency {
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// In an order that matters.
struct Entries(Vec<(String, Entry)>);

/// How often routes were called, how long that took and how often it failed, as connected Envoys report it.
#[utoipa::path(
    get, path = "/api/v1/module-management/modules/metrics", tag = "modules",
    params(Wanted),
    responses((status = 200, body = BTreeMap<String, Entry>), Reading),
)]
pub(super) async fn metrics(
    State(api): State<Api>,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Response, Problem> {
    within("top", wanted.top.unwrap_or(MOST), 1, MOST)?;
    let running = api.fleet.running();
    let entry = |calls: running::Calls| Entry::new(running, calls, wanted.detail);
    // What leads to no module is nobody's call.
    let mut entries: Vec<(String, Entry)> = match wanted.by {
        By::Route => {
            let calls = running.by_route().into_iter().filter(|((module, _), _)| !module.is_empty());
            calls.map(|((module, route), calls)| (format!("{module}:{route}"), entry(calls))).collect()
        }
        By::Module => {
            let health = running.health();
            let calls = running.by_module().into_iter().filter(|(module, _)| !module.is_empty());
            let told = calls.map(|(module, calls)| {
                let mut entry = entry(calls);
                if wanted.detail {
                    entry.detail.health = health.get(&module).cloned();
                    let recent = running.last_minute(&module);
                    let [p50_ms, p95_ms, p99_ms] = [0.5, 0.95, 0.99].map(|share| recent.quantile(share));
                    entry.detail.latency = Some(Latency { p50_ms, p95_ms, p99_ms });
                }
                (module, entry)
            });
            told.collect()
        }
    };
    if let Some(top) = wanted.top {
        // Stable: those with as many calls stay in the order of their names.
        entries.sort_by_key(|(_, entry)| Reverse(entry.call_count));
        entries.truncate(usize::try_from(top).unwrap_or(usize::MAX));
    }
    Ok(axum::Json(Entries(entries)).into_response())
}

impl Entry {
    fn new(running: &running::Running, calls: running::Calls, detail: bool) -> Self {
        let total = calls.took.as_micros() as f64 / 1000.0;
        let part = |part: f64, none: f64| if calls.count == 0 { none } else { part / calls.count as f64 };
        Self {
            call_count: calls.count,
            total_duration_ms: total,
            error_count: calls.failed,
            avg_duration_ms: part(total, 0.0),
            success_rate: part(calls.count.saturating_sub(calls.failed) as f64, 1.0),
            detail: if detail { Detail::new(running, calls) } else { Detail::default() },
        }
    }
}

impl Detail {
    fn new(running: &running::Running, calls: running::Calls) -> Self {
        let asked = i64::try_from(running.unix_ms(calls.asked)).unwrap_or(i64::MAX);
        let (recent, failed) = calls.recent;
        Self {
            last_access: Some(Timestamp::from_millisecond(asked).unwrap_or_default().to_string()),
            calls_last_minute: Some(recent),
            errors_last_minute: Some(failed),
            arms: Some(calls.arms),
            latency: None,
            health: None,
        }
    }
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, entry) in &self.0 {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}
