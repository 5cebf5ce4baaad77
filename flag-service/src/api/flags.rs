//! Flags.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::meta::{Body, Meta, Name};
use super::problem::Problem;
use super::{Api, tagged, written};
use crate::model::change::named;
use crate::model::{Change, Kind};

#[derive(Serialize)]
struct List<'a> {
    flags: Vec<&'a crate::model::Flag>,
    revision: u64,
}

pub(super) async fn list(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let flags = head.state.flags.values().map(|flag| &**flag).collect();
    tagged(head.revision, &List { flags, revision: head.revision })
}

pub(super) async fn get(State(api): State<Api>, Name(key): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let flag = head.state.flags.get(&key).ok_or_else(|| head.state.missing(Kind::Flag, &key))?;
    Ok(tagged(head.revision, &**flag))
}

pub(super) async fn put(
    State(api): State<Api>,
    Name(key): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    let put = submit(&api, meta, &key, Change::PutFlag(named(body, "key", &key)?)).await;
    put.map_err(|problem| {
        problem
            .advise(StatusCode::PRECONDITION_FAILED, "to change a flag, PATCH it, or use `rampart flag set`")
    })
}

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

pub(super) async fn delete(State(api): State<Api>, Name(key): Name, meta: Meta) -> Result<Response, Problem> {
    submit(&api, meta, &key, Change::DeleteFlag(key.clone())).await
}

pub(super) async fn kill(State(api): State<Api>, Name(key): Name, meta: Meta) -> Result<Response, Problem> {
    submit(&api, meta, &key, Change::KillFlag(key.clone())).await
}

pub(super) async fn restore(
    State(api): State<Api>,
    Name(key): Name,
    meta: Meta,
) -> Result<Response, Problem> {
    submit(&api, meta, &key, Change::RestoreFlag(key.clone())).await
}

async fn submit(api: &Api, meta: Meta, key: &str, change: Change) -> Result<Response, Problem> {
    let accepted = api.writer.submit(meta.submit(change)).await?;
    let flag = accepted.head.state.flags.get(key).cloned();
    Ok(written(accepted, flag.as_deref()))
}
