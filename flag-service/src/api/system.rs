//! The service itself: settings, the policy as a whole, history, status.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::meta::{Body, Meta, Name, Parameters};
use super::problem::{FieldProblem, Problem};
use super::{Api, tagged, written};
use crate::model::change::read;
use crate::model::{Change, Settings};
use crate::store::Entry;
use crate::xds::fleet::NodeStatus;

/// Most changes in one answer.
const PAGE: u32 = 100;

pub(super) async fn settings(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    tagged(head.revision, &*head.state.settings)
}

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

pub(super) async fn policy(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    tagged(head.revision, &head.published.policy)
}

#[derive(Serialize)]
struct Warnings {
    warnings: Vec<FieldProblem>,
    revision: u64,
}

pub(super) async fn warnings(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let warnings = head.warnings().cloned().map(FieldProblem::from).collect();
    tagged(head.revision, &Warnings { warnings, revision: head.revision })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    before: Option<u64>,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct History {
    changes: Vec<Entry>,
    /// `before` of the next page; none on the last.
    next: Option<u64>,
}

pub(super) async fn history(
    State(api): State<Api>,
    Parameters(page): Parameters<Page>,
) -> Result<Response, Problem> {
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let changes = api.writer.store().history(page.before.unwrap_or(u64::MAX), limit).await?;
    let next = changes.last().map(|entry| entry.revision).filter(|revision| *revision > 1);
    let next = next.filter(|_| changes.len() == usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(axum::Json(History { changes, next }).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    head: Option<String>,
}

pub(super) async fn verify(
    State(api): State<Api>,
    Parameters(known): Parameters<Known>,
) -> Result<Response, Problem> {
    let chain = api.writer.store().verify(known.head.as_deref()).await?;
    Ok(axum::Json(chain).into_response())
}

pub(super) async fn revert(State(api): State<Api>, Name(to): Name, meta: Meta) -> Result<Response, Problem> {
    let revision = to.parse().map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, format!("`{to}` is no revision: a number is expected"))
    })?;
    let accepted = api.writer.submit(meta.submit(Change::Revert(revision))).await?;
    Ok(written::<()>(accepted, None))
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    revision: u64,
    flags: usize,
    modules: usize,
    providers: usize,
    /// How many; `/api/v1/policy/warnings` lists them.
    warnings: usize,
    envoys: Vec<NodeStatus>,
}

pub(super) async fn status(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        revision: head.revision,
        flags: head.state.flags.len(),
        modules: head.state.modules.len(),
        providers: head.state.providers.len(),
        warnings: head.warnings().count(),
        envoys: api.fleet.nodes(),
    };
    tagged(head.revision, &status)
}

/// The process is up.
pub(super) async fn health() -> Response {
    axum::Json(json!({"status": "healthy"})).into_response()
}

/// The store can be used, so that a change would be taken.
pub(super) async fn ready(State(api): State<Api>) -> Result<Response, Problem> {
    api.writer.store().history(0, 1).await?;
    Ok(axum::Json(json!({"status": "ready", "revision": api.writer.head().revision})).into_response())
}
