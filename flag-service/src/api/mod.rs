//! The REST API. Every write goes to the one write path; every answer is JSON, every refusal
//! `application/problem+json`, but for OFREP, which has its own words.

mod events;
mod explain;
mod flagd;
mod flags;
mod meta;
mod modules;
mod ofrep;
mod origin;
mod problem;
mod providers;
mod system;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::sync::watch;

use crate::writer::{Accepted, Writer};
use crate::xds::fleet::Fleet;
use problem::{FieldProblem, Problem};

/// Largest request body, in bytes: 100,000 overrides fit.
const BODY_LIMIT: usize = 8 << 20;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct Api {
    /// The one write path.
    pub writer: Arc<Writer>,
    /// The Envoys that are or were connected.
    pub fleet: Arc<Fleet>,
    /// Turns true, or closes, when the server stops: what would be open for good ends then.
    pub stopping: watch::Receiver<bool>,
}

/// The routes.
pub fn router(api: Api) -> Router {
    let modules = "/api/v1/module-management/modules";
    Router::new()
        .route("/api/v1/flags", get(flags::list))
        .route(
            "/api/v1/flags/{key}",
            get(flags::get).put(flags::put).patch(flags::patch).delete(flags::delete),
        )
        .route("/api/v1/flags/{key}/kill", post(flags::kill))
        .route("/api/v1/flags/{key}/restore", post(flags::restore))
        .route("/api/v1/flags/{key}/explain", get(explain::explain))
        .route(modules, get(modules::list).post(modules::post))
        .route(&format!("{modules}/{{id}}"), get(modules::get).put(modules::put).delete(modules::delete))
        .route("/api/v1/providers", get(providers::list))
        .route("/api/v1/providers/{name}", get(providers::get).put(providers::put).delete(providers::delete))
        .route("/api/v1/settings", get(system::settings).put(system::put_settings))
        .route("/api/v1/policy", get(system::policy))
        .route("/api/v1/policy/warnings", get(system::warnings))
        .route("/api/v1/history", get(system::history))
        .route("/api/v1/history/verify", get(system::verify))
        .route("/api/v1/revert/{revision}", post(system::revert))
        .route("/api/v1/status", get(system::status))
        .route("/api/v1/flagd", get(flagd::definition))
        .route("/ofrep/v1/evaluate/flags", post(ofrep::all))
        // A key may hold slashes, and clients send it as it is.
        .route("/ofrep/v1/evaluate/flags/{*key}", post(ofrep::one))
        .route(events::PATH, get(events::events).layer(events::places()))
        .route("/health", get(system::health))
        .route("/ready", get(system::ready))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes other methods only")
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(axum::middleware::from_fn(origin::same_origin))
        .with_state(api)
}

/// What a write answers.
#[derive(Serialize)]
struct Written<T> {
    applied: bool,
    /// The newest revision: that of the change, if it was applied.
    revision: u64,
    summary: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<FieldProblem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<T>,
}

/// The answer to a write, with the resource as it is now, or would be.
fn written<T: Serialize>(accepted: Accepted, resource: Option<T>) -> Response {
    let Accepted { head, applied, summary, warnings } = accepted;
    let warnings = warnings.into_iter().map(FieldProblem::from).collect();
    let written = Written { applied, revision: head.revision, summary, warnings, resource };
    // What a dry run shows is true at no revision.
    if applied { tagged(head.revision, &written) } else { axum::Json(written).into_response() }
}

/// An answer that is true at a revision, which is its entity tag.
fn tagged<T: Serialize>(revision: u64, body: &T) -> Response {
    let mut response = axum::Json(body).into_response();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Seconds since the Unix epoch: the time at which the engine is asked.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
