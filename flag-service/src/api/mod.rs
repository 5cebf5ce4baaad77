//! The REST API. Every write goes to the one write path; every answer is JSON (or YAML),
//! every refusal a problem document, but for OFREP, which has its own words.

mod apply;
mod calls;
mod emergency;
mod events;
mod explain;
mod features;
mod flagd;
mod flags;
mod format;
mod guard;
mod key_sets;
mod keys;
mod meta;
mod metrics;
mod modules;
mod ofrep;
mod openapi;
mod organisation_modules;
mod origin;
mod people;
mod preview;
mod problem;
mod providers;
mod registry;
mod segments;
mod system;

use std::fmt::Display;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::access::Access;
use crate::jwks::Keeper;
use crate::model::tag;
use crate::registry::Registry;
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
    /// What fetches issuers' keys.
    pub keeper: Arc<Keeper>,
    /// The states of modules, and the folder of their manifests.
    pub registry: Arc<Registry>,
    /// Turns true, or closes, when the server stops: what would be open for good ends then.
    pub stopping: watch::Receiver<bool>,
    /// Who may ask.
    pub access: Arc<Access>,
    /// Whether it is reached by TLS.
    pub encrypted: bool,
}

/// The routes. Each says in its own description where it is; together they are `/openapi.json`.
pub fn router(api: Api) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(flags::list))
        .routes(routes!(flags::get, flags::put, flags::patch, flags::delete))
        .routes(routes!(flags::kill))
        .routes(routes!(flags::restore))
        .routes(routes!(flags::revert))
        .routes(routes!(explain::explain))
        .routes(routes!(preview::preview))
        .routes(routes!(people::organisation, people::name_organisation))
        .routes(routes!(people::subject, people::name_subject))
        .routes(routes!(features::list))
        .routes(routes!(features::put))
        .routes(routes!(emergency::disable))
        .routes(routes!(emergency::restore))
        .routes(routes!(modules::list, modules::post))
        .routes(routes!(calls::metrics))
        .routes(routes!(modules::get, modules::put, modules::delete))
        .routes(routes!(organisation_modules::organisations))
        .routes(routes!(organisation_modules::modules))
        .routes(routes!(organisation_modules::get, organisation_modules::put, organisation_modules::delete))
        .routes(routes!(registry::index))
        .routes(routes!(registry::status))
        .routes(routes!(registry::discover))
        .routes(routes!(registry::history))
        .routes(routes!(registry::conflicts, registry::check))
        .routes(routes!(registry::health))
        .routes(routes!(providers::list))
        .routes(routes!(providers::get, providers::put, providers::delete))
        .routes(routes!(key_sets::get))
        .routes(routes!(key_sets::refresh))
        .routes(routes!(segments::list))
        .routes(routes!(segments::get, segments::put, segments::delete))
        .routes(routes!(system::settings, system::put_settings))
        .routes(routes!(keys::list))
        .routes(routes!(keys::get, keys::put, keys::delete))
        .routes(routes!(keys::rotate))
        .routes(routes!(system::policy))
        .routes(routes!(system::warnings))
        .routes(routes!(system::history))
        .routes(routes!(system::verify))
        .routes(routes!(system::revert))
        .routes(routes!(apply::apply))
        .routes(routes!(apply::export))
        .routes(routes!(system::status))
        .routes(routes!(flagd::definition))
        .routes(routes!(system::envoys))
        .routes(routes!(system::info))
        .routes(routes!(ofrep::all))
        // A key may hold slashes, and clients send it as it is.
        .routes(routes!(ofrep::one))
        .routes(routes!(system::health))
        .routes(routes!(system::ready))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::openapi))
        .split_for_parts();
    router
        // An answer without an end: the protocol describes it, and OpenAPI cannot.
        .route(events::PATH, get(events::events).layer(events::places()))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes other methods only")
        })
        // The last is the first to see a request. What is kept of an answer is somebody's, so the guard
        // comes before that; and its refusals are counted, and written as is asked for.
        .layer(from_fn(meta::idempotency_key))
        .layer(from_fn_with_state(api.clone(), guard::guard))
        .layer(from_fn(metrics::count))
        .layer(axum::Extension(Arc::new(metrics::Metrics::new(&api))))
        .layer(axum::Extension(openapi::complete(document)))
        .layer(from_fn(format::negotiate))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(origin::same_origin))
        .layer(from_fn_with_state(api.encrypted, guard::harden))
        .with_state(api)
}

/// What a write answers.
#[derive(Serialize, ToSchema)]
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
    let applied = accepted.applied;
    let tag = resource.as_ref().map_or_else(|| accepted.head.revision.to_string(), tag);
    tagged_if(applied, tag, &Written::new(accepted, resource))
}

impl<T> Written<T> {
    fn new(accepted: Accepted, resource: Option<T>) -> Self {
        let Accepted { head, applied, summary, warnings, .. } = accepted;
        let warnings = warnings.into_iter().map(FieldProblem::from).collect();
        Self { applied, revision: head.revision, summary, warnings, resource }
    }
}

/// What a dry run shows is nowhere.
fn tagged_if<T: Serialize>(applied: bool, tag: impl Display, body: &T) -> Response {
    if applied { tagged(tag, body) } else { axum::Json(body).into_response() }
}

/// One resource, under its own entity tag.
fn resource<T: Serialize>(body: &T) -> Response {
    tagged(tag(body), body)
}

/// An answer under its entity tag: a resource's own, or the revision at which all of it is true.
fn tagged<T: Serialize>(tag: impl Display, body: &T) -> Response {
    let mut response = axum::Json(body).into_response();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{tag}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Seconds since the Unix epoch: the time at which the engine is asked.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
