//! The service itself: settings, the policy as a whole, history, status.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use rampart_engine::policy::wire::Policy;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::meta::{Body, Meta, Name, Parameters, Switches, revision, within};
use super::openapi::{Reading, WriteHeaders, Writing};
use super::problem::{FieldProblem, Problem};
use super::{Api, Written, resource, tagged, written};
use crate::jwks::Keeping;
use crate::model::change::read;
use crate::model::{Change, Settings};
use crate::registry;
use crate::running::{Health, RunningStatus};
use crate::store::{Chain, Entry};
use crate::xds::fleet::NodeStatus;

/// Most changes in one answer.
const PAGE: u32 = 100;
/// No revision is newer: databases count no further.
pub(super) const NEWEST: u64 = i64::MAX.unsigned_abs();

/// The settings: what there is one of.
#[utoipa::path(
    get, path = "/api/v1/settings", tag = "policy",
    responses((status = 200, body = Settings), Reading),
)]
pub(super) async fn settings(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    resource(&*head.state.settings)
}

/// Sets the settings. What is not said has its default.
#[utoipa::path(
    put, path = "/api/v1/settings", tag = "policy",
    params(WriteHeaders, Switches),
    request_body(content = Settings),
    responses((status = 200, body = Written<Settings>), Writing),
)]
pub(super) async fn put_settings(
    State(api): State<Api>,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    let settings: Settings = read(body)?;
    let accepted = api.writer.submit(meta.submit(Change::PutSettings(settings))).await?;
    let settings = Arc::clone(&accepted.head.state.settings);
    Ok(written(accepted, Some(&*settings)))
}

/// What every filter decides by; docs/policy.md describes it.
#[utoipa::path(
    get, path = "/api/v1/policy", tag = "policy",
    responses((status = 200, body = Policy), Reading),
)]
pub(super) async fn policy(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    tagged(head.revision, &head.published.policy)
}

#[derive(Serialize, ToSchema)]
struct Warnings {
    warnings: Vec<FieldProblem>,
    revision: u64,
}

/// What holds, and yet may not be what was meant.
#[utoipa::path(
    get, path = "/api/v1/policy/warnings", tag = "policy",
    responses((status = 200, body = Warnings), Reading),
)]
pub(super) async fn warnings(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let warnings = head.warnings().cloned().map(FieldProblem::from).collect();
    tagged(head.revision, &Warnings { warnings, revision: head.revision })
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Only changes before this revision
    before: Option<u64>,
    /// At most so many
    #[param(default = 100, minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

#[derive(Serialize, ToSchema)]
struct History {
    changes: Vec<Entry>,
    /// `before` of the next page; none on the last.
    next: Option<u64>,
}

/// Changes, newest first.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "history",
    params(Page),
    responses((status = 200, body = History), Reading),
)]
pub(super) async fn history(
    State(api): State<Api>,
    Parameters(page): Parameters<Page>,
) -> Result<Response, Problem> {
    let (before, limit) = (page.before.unwrap_or(NEWEST), page.limit.unwrap_or(PAGE));
    within("before", before, 0, NEWEST)?;
    within("limit", u64::from(limit), 1, u64::from(PAGE))?;
    let changes = api.writer.store().history(before, limit).await?;
    let next = changes.last().map(|entry| entry.revision).filter(|revision| *revision > 1);
    let next = next.filter(|_| changes.len() == usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(axum::Json(History { changes, next }).into_response())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    /// A hash that an earlier proof ended with: proves that nothing was cut off since
    head: Option<String>,
}

/// Proves that no change was altered or removed.
#[utoipa::path(
    get, path = "/api/v1/history/verify", tag = "history",
    params(Known),
    responses((status = 200, body = Chain), Reading),
)]
pub(super) async fn verify(
    State(api): State<Api>,
    Parameters(known): Parameters<Known>,
) -> Result<Response, Problem> {
    let chain = api.writer.store().verify(known.head.as_deref()).await?;
    Ok(axum::Json(chain).into_response())
}

/// Goes back to what was true at a revision, as a new one.
#[utoipa::path(
    post, path = "/api/v1/revert/{revision}", tag = "history",
    params(("revision" = u64, Path, description = "The revision to go back to"), WriteHeaders, Switches),
    responses((status = 200, body = Written<Object>), Writing),
)]
pub(super) async fn revert(State(api): State<Api>, Name(to): Name, meta: Meta) -> Result<Response, Problem> {
    let accepted = api.writer.submit(meta.submit(Change::Revert(revision(&to)?))).await?;
    Ok(written::<()>(accepted, None))
}

#[derive(Serialize, ToSchema)]
struct Status {
    version: &'static str,
    revision: u64,
    flags: usize,
    modules: usize,
    providers: usize,
    /// How many; `/api/v1/policy/warnings` lists them.
    warnings: usize,
    /// Issuers' keys that are fetched, by provider
    jwks: BTreeMap<String, Keeping>,
    envoys: Vec<Envoy>,
    /// How each module fares, as Envoys find it
    health: BTreeMap<String, Health>,
}

/// The service, and the Envoys that follow it.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "service",
    responses((status = 200, body = Status), Reading),
)]
pub(super) async fn status(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        revision: head.revision,
        flags: head.state.flags.len(),
        modules: head.state.modules.len(),
        providers: head.state.providers.len(),
        warnings: head.warnings().count(),
        jwks: api.keeper.all(),
        envoys: envoys_at(&api, head.revision).await,
        health: api.fleet.running().health(),
    };
    tagged(head.revision, &status)
}

/// The Envoys, and who caused what they refuse. That is the store's to say: while it is away, the
/// refusals are told without.
async fn envoys_at(api: &Api, revision: u64) -> Vec<Envoy> {
    let nodes = registry::nodes(&api.fleet, &api.writer).await;
    let mut reports = api.fleet.running().envoys();
    let mut envoys: Vec<Envoy> = Vec::new();
    for node in nodes {
        let accepted = node.types.get("ecds").and_then(|policy| policy.acked.as_ref());
        let lag = accepted.map(|accepted| revision.saturating_sub(accepted.revision));
        let running = reports.remove(&node.id);
        envoys.push(Envoy { node, lag, running });
    }
    // They follow another process, or none, and report to this one.
    envoys.extend(reports.into_iter().map(|(id, running)| {
        let node = NodeStatus { id, since_ms: running.heard_ms, ..NodeStatus::default() };
        Envoy { node, lag: None, running: Some(running) }
    }));
    envoys
}

/// An Envoy, how far behind it is, and what it does.
#[derive(Serialize, ToSchema)]
struct Envoy {
    #[serde(flatten)]
    node: NodeStatus,
    /// How many revisions have been made since the policy that it has accepted; none where it has none
    lag: Option<u64>,
    /// What it reports of itself; none where it reports nothing to this process
    running: Option<RunningStatus>,
}

#[derive(Serialize, ToSchema)]
struct Envoys {
    envoys: Vec<Envoy>,
    revision: u64,
}

/// The Envoys that are or were connected: what each was sent, has accepted and refused, its lag, and what it
/// reports of itself.
///
/// To accept is not to run: an Envoy answers for its main thread. What its workers decide by is in `running`.
#[utoipa::path(get, path = "/api/v1/envoys", tag = "service", responses((status = 200, body = Envoys), Reading))]
pub(super) async fn envoys(State(api): State<Api>) -> Response {
    let revision = api.writer.head().revision;
    let envoys = envoys_at(&api, revision).await;
    axum::Json(Envoys { envoys, revision }).into_response()
}

#[derive(Serialize, ToSchema)]
struct Info {
    status: &'static str,
    version: &'static str,
    revision: u64,
    modules: ModuleCounts,
    flags: usize,
    /// Connected Envoys, each with the revision of the policy that it has accepted
    envoys: BTreeMap<String, Option<u64>>,
}

#[derive(Serialize, ToSchema)]
struct ModuleCounts {
    registered: usize,
    /// How many of each version
    by_version: BTreeMap<String, usize>,
}

/// The module system at a glance.
#[utoipa::path(get, path = "/modules/system/info", tag = "service", responses((status = 200, body = Info)))]
pub(super) async fn info(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let mut by_version = BTreeMap::new();
    for module in head.state.modules.values() {
        *by_version.entry(module.version.clone()).or_insert(0) += 1;
    }
    let connected = api.fleet.nodes().into_iter().filter(|node| node.connected);
    let envoys = connected.map(|node| {
        let accepted = node.types.get("ecds").and_then(|policy| policy.acked.as_ref());
        (node.id.clone(), accepted.map(|accepted| accepted.revision))
    });
    let info = Info {
        status: "healthy",
        version: env!("CARGO_PKG_VERSION"),
        revision: head.revision,
        modules: ModuleCounts { registered: head.state.modules.len(), by_version },
        flags: head.state.flags.len(),
        envoys: envoys.collect(),
    };
    axum::Json(info).into_response()
}

/// The process is up.
#[utoipa::path(get, path = "/health", tag = "service", responses((status = 200, body = Healthy)))]
pub(super) async fn health() -> Response {
    axum::Json(Healthy { status: "healthy" }).into_response()
}

#[derive(Serialize, ToSchema)]
struct Healthy {
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
struct Ready {
    status: &'static str,
    revision: u64,
}

/// The store can be used, so that a change would be taken. Asked every second, it logs nothing: whoever
/// follows the store does.
#[utoipa::path(get, path = "/ready", tag = "service", responses((status = 200, body = Ready), Reading))]
pub(super) async fn ready(State(api): State<Api>) -> Result<Response, Problem> {
    let asked = api.writer.store().history(0, 1).await;
    asked.map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let revision = api.writer.head().revision;
    Ok(axum::Json(Ready { status: "ready", revision }).into_response())
}
