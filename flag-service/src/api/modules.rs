//! Modules.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::meta::{Body, Meta, Name};
use super::problem::Problem;
use super::{Api, tagged, written};
use crate::model::change::{named, read};
use crate::model::{Change, Kind, Module};

#[derive(Serialize)]
struct List<'a> {
    modules: Vec<&'a Module>,
    revision: u64,
}

pub(super) async fn list(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let modules = head.state.modules.values().map(|module| &**module).collect();
    tagged(head.revision, &List { modules, revision: head.revision })
}

pub(super) async fn get(State(api): State<Api>, Name(id): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let module = head.state.modules.get(&id).ok_or_else(|| head.state.missing(Kind::Module, &id))?;
    Ok(tagged(head.revision, &**module))
}

pub(super) async fn post(State(api): State<Api>, meta: Meta, Body(body): Body) -> Result<Response, Problem> {
    let module: Module = read(body)?;
    submit(&api, meta, &module.id.clone(), Change::PutModule(module)).await
}

pub(super) async fn put(
    State(api): State<Api>,
    Name(id): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, meta, &id, Change::PutModule(named(body, "id", &id)?)).await
}

pub(super) async fn delete(State(api): State<Api>, Name(id): Name, meta: Meta) -> Result<Response, Problem> {
    submit(&api, meta, &id, Change::DeleteModule(id.clone())).await
}

async fn submit(api: &Api, meta: Meta, id: &str, change: Change) -> Result<Response, Problem> {
    let accepted = api.writer.submit(meta.submit(change)).await?;
    let module = accepted.head.state.modules.get(id).cloned();
    Ok(written(accepted, module.as_deref()))
}
