//! Flags.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::{Body, Listing, Meta, Name, Names, Parameters, Switches, revision};
use super::openapi::{Finding, Reading, WriteHeaders, Writing};
use super::problem::Problem;
use super::{Api, Written, resource, tagged, written};
use crate::model::change::named;
use crate::model::{Change, Flag, Kind};

#[derive(Serialize, ToSchema)]
#[schema(as = Flags)]
struct List<'a> {
    flags: Vec<&'a Flag>,
    /// `after` of the next page; none on the last
    next: Option<&'a str>,
    revision: u64,
}

/// Flags, in the order of their names.
#[utoipa::path(get, path = "/api/v1/flags", tag = "flags", params(Listing), responses((status = 200, body = List), Reading))]
pub(super) async fn list(
    State(api): State<Api>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let (flags, next) = listing.page(&head.state.flags)?;
    Ok(tagged(head.revision, &List { flags, next, revision: head.revision }))
}

/// One flag.
#[utoipa::path(
    get, path = "/api/v1/flags/{key}", tag = "flags",
    params(("key" = String, Path, description = "The flag's key")),
    responses((status = 200, body = Flag), Finding),
)]
pub(super) async fn get(State(api): State<Api>, Name(key): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let flag = head.state.flags.get(&key).ok_or_else(|| head.state.missing(Kind::Flag, &key))?;
    Ok(resource(&**flag))
}

/// Sets a flag, new or not. What is not said has its default; a kill stays.
#[utoipa::path(
    put, path = "/api/v1/flags/{key}", tag = "flags",
    params(("key" = String, Path, description = "The flag's key"), WriteHeaders, Switches),
    request_body(content = ref("#/components/schemas/UnnamedFlag")),
    responses((status = 200, body = Written<Flag>), Writing),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Name(key): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    let only_new = meta.only_new;
    let put = submit(&api, meta, &key, Change::PutFlag(named(body, "key", &key)?)).await;
    let todo = "to change a flag, PATCH it, or use `rampart flag set`";
    put.map_err(
        |problem| {
            if only_new { problem.advise(StatusCode::PRECONDITION_FAILED, todo) } else { problem }
        },
    )
}

/// Changes members of a flag.
#[utoipa::path(
    patch, path = "/api/v1/flags/{key}", tag = "flags",
    params(("key" = String, Path, description = "The flag's key"), WriteHeaders, Switches),
    request_body(content = ref("#/components/schemas/FlagPatch")),
    responses((status = 200, body = Written<Flag>), Writing),
)]
pub(super) async fn patch(
    State(api): State<Api>,
    Name(key): Name,
    meta: Meta,
    Body(patch): Body,
) -> Result<Response, Problem> {
    let patched = submit(&api, meta, &key, Change::PatchFlag { key: key.clone(), patch }).await;
    patched.map_err(|problem| {
        problem.advise(StatusCode::NOT_FOUND, "to make a flag, PUT it, or use `rampart flag create`")
    })
}

/// Removes a flag that nothing asks for.
#[utoipa::path(
    delete, path = "/api/v1/flags/{key}", tag = "flags",
    params(("key" = String, Path, description = "The flag's key"), WriteHeaders, Switches),
    responses((status = 200, body = Written<Flag>), Writing),
)]
pub(super) async fn delete(State(api): State<Api>, Name(key): Name, meta: Meta) -> Result<Response, Problem> {
    submit(&api, meta, &key, Change::DeleteFlag(key.clone())).await
}

/// Switches a flag off for everyone, now; its settings are kept.
#[utoipa::path(
    post, path = "/api/v1/flags/{key}/kill", tag = "flags",
    params(("key" = String, Path, description = "The flag's key"), WriteHeaders, Switches),
    responses((status = 200, body = Written<Flag>), Writing),
)]
pub(super) async fn kill(State(api): State<Api>, Name(key): Name, meta: Meta) -> Result<Response, Problem> {
    submit(&api, meta, &key, Change::KillFlag(key.clone())).await
}

/// Takes a kill back: the flag is again what it was.
#[utoipa::path(
    post, path = "/api/v1/flags/{key}/restore", tag = "flags",
    params(("key" = String, Path, description = "The flag's key"), WriteHeaders, Switches),
    responses((status = 200, body = Written<Flag>), Writing),
)]
pub(super) async fn restore(
    State(api): State<Api>,
    Name(key): Name,
    meta: Meta,
) -> Result<Response, Problem> {
    submit(&api, meta, &key, Change::RestoreFlag(key.clone())).await
}

/// Takes one flag back to what it was at a revision, as a new revision; the others stay.
#[utoipa::path(
    post, path = "/api/v1/flags/{key}/revert/{revision}", tag = "flags",
    params(
        ("key" = String, Path, description = "The flag's key"),
        ("revision" = u64, Path, description = "The revision to go back to"),
        WriteHeaders, Switches
    ),
    responses((status = 200, body = Written<Flag>), Writing),
)]
pub(super) async fn revert(
    State(api): State<Api>,
    Names([key, to]): Names<2>,
    meta: Meta,
) -> Result<Response, Problem> {
    let to = revision(&to)?;
    submit(&api, meta, &key, Change::RevertFlag { key: key.clone(), to }).await
}

async fn submit(api: &Api, meta: Meta, key: &str, change: Change) -> Result<Response, Problem> {
    let accepted = api.writer.submit(meta.submit(change)).await?;
    let flag = accepted.head.state.flags.get(key).cloned();
    Ok(written(accepted, flag.as_deref()))
}
