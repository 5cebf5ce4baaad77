//! Modules.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::{Body, Listing, Meta, Name, Parameters, Switches};
use super::openapi::{Finding, Reading, WriteHeaders, Writing};
use super::problem::Problem;
use super::{Api, Written, resource, tagged, written};
use crate::model::change::{named, read};
use crate::model::{Change, Kind, Module};

#[derive(Serialize, ToSchema)]
#[schema(as = Modules)]
struct List<'a> {
    modules: Vec<&'a Module>,
    /// `after` of the next page; none on the last
    next: Option<&'a str>,
    revision: u64,
}

/// Modules, in the order of their names.
#[utoipa::path(
    get, path = "/api/v1/module-management/modules", tag = "modules",
    params(Listing),
    responses((status = 200, body = List), Reading),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let (modules, next) = listing.page(&head.state.modules)?;
    Ok(tagged(head.revision, &List { modules, next, revision: head.revision }))
}

/// One module.
#[utoipa::path(
    get, path = "/api/v1/module-management/modules/{id}", tag = "modules",
    params(("id" = String, Path, description = "The module's id")),
    responses((status = 200, body = Module), Finding),
)]
pub(super) async fn get(State(api): State<Api>, Name(id): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let module = head.state.modules.get(&id).ok_or_else(|| head.state.missing(Kind::Module, &id))?;
    Ok(resource(&**module))
}

/// Registers a module, or a new version of its manifest.
#[utoipa::path(
    post, path = "/api/v1/module-management/modules", tag = "modules",
    params(WriteHeaders, Switches),
    request_body(content = Module),
    responses((status = 200, body = Written<Module>), Writing),
)]
pub(super) async fn post(State(api): State<Api>, meta: Meta, Body(body): Body) -> Result<Response, Problem> {
    let module: Module = read(body)?;
    submit(&api, meta, &module.id.clone(), Change::PutModule(Box::new(module))).await
}

/// Registers a module under its id.
#[utoipa::path(
    put, path = "/api/v1/module-management/modules/{id}", tag = "modules",
    params(("id" = String, Path, description = "The module's id"), WriteHeaders, Switches),
    request_body(content = ref("#/components/schemas/UnnamedModule")),
    responses((status = 200, body = Written<Module>), Writing),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Name(id): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, meta, &id, Change::PutModule(Box::new(named(body, "id", &id)?))).await
}

/// Removes a module.
#[utoipa::path(
    delete, path = "/api/v1/module-management/modules/{id}", tag = "modules",
    params(("id" = String, Path, description = "The module's id"), WriteHeaders, Switches),
    responses((status = 200, body = Written<Module>), Writing),
)]
pub(super) async fn delete(State(api): State<Api>, Name(id): Name, meta: Meta) -> Result<Response, Problem> {
    submit(&api, meta, &id, Change::DeleteModule(id.clone())).await
}

async fn submit(api: &Api, meta: Meta, id: &str, change: Change) -> Result<Response, Problem> {
    let accepted = api.writer.submit(meta.submit(change)).await?;
    let module = accepted.head.state.modules.get(id).cloned();
    Ok(written(accepted, module.as_deref()))
}
