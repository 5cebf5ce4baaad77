//! Segments: named lists of organisations.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::{Body, Listing, Meta, Name, Parameters, Switches};
use super::openapi::{Finding, Reading, WriteHeaders, Writing};
use super::problem::Problem;
use super::{Api, Written, resource, tagged, written};
use crate::model::change::named;
use crate::model::{Change, Kind, Segment};

#[derive(Serialize, ToSchema)]
#[schema(as = Segments)]
struct List<'a> {
    segments: Vec<&'a Segment>,
    /// `after` of the next page; none on the last
    next: Option<&'a str>,
    revision: u64,
}

/// Segments, in the order of their names.
#[utoipa::path(
    get, path = "/api/v1/segments", tag = "segments",
    params(Listing),
    responses((status = 200, body = List), Reading),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let (segments, next) = listing.page(&head.state.segments)?;
    Ok(tagged(head.revision, &List { segments, next, revision: head.revision }))
}

/// One segment.
#[utoipa::path(
    get, path = "/api/v1/segments/{name}", tag = "segments",
    params(("name" = String, Path, description = "The segment's name")),
    responses((status = 200, body = Segment), Finding),
)]
pub(super) async fn get(State(api): State<Api>, Name(name): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let segment = head.state.segments.get(&name).ok_or_else(|| head.state.missing(Kind::Segment, &name))?;
    Ok(resource(&**segment))
}

/// Sets a segment, new or not.
#[utoipa::path(
    put, path = "/api/v1/segments/{name}", tag = "segments",
    params(("name" = String, Path, description = "The segment's name"), WriteHeaders, Switches),
    request_body(content = ref("#/components/schemas/UnnamedSegment")),
    responses((status = 200, body = Written<Segment>), Writing),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, meta, &name, Change::PutSegment(named(body, "name", &name)?)).await
}

/// Removes a segment that no flag names.
#[utoipa::path(
    delete, path = "/api/v1/segments/{name}", tag = "segments",
    params(("name" = String, Path, description = "The segment's name"), WriteHeaders, Switches),
    responses((status = 200, body = Written<Segment>), Writing),
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
) -> Result<Response, Problem> {
    submit(&api, meta, &name, Change::DeleteSegment(name.clone())).await
}

async fn submit(api: &Api, meta: Meta, name: &str, change: Change) -> Result<Response, Problem> {
    let accepted = api.writer.submit(meta.submit(change)).await?;
    let segment = accepted.head.state.segments.get(name).cloned();
    Ok(written(accepted, segment.as_deref()))
}
