//! Modules.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::meta::{Body, Listing, Meta, Name, Parameters, Switches, Unswitched};
use super::openapi::{Finding, Reading, WriteHeaders, Writing};
use super::problem::Problem;
use super::{Api, Written, resource, tagged, written};
use crate::head::REGISTRY;
use crate::model::{Change, Kind, Lifecycle, Module, manifest};
use crate::registry::{self, Standing};

#[derive(Serialize, ToSchema)]
#[schema(as = Modules)]
struct List<'a> {
    modules: Vec<Listed<'a>>,
    /// What is not registered: manifests that wait or are refused, and modules that were removed. On the first page
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Other>,
    /// `after` of the next page; none on the last
    next: Option<&'a str>,
    revision: u64,
}

/// A module that is registered, and its state.
#[derive(Serialize, ToSchema)]
struct Listed<'a> {
    #[serde(flatten)]
    module: &'a Module,
    state: Lifecycle,
    /// Why it is in this state
    reason: String,
}

/// A module that is not registered.
#[derive(Serialize, ToSchema)]
struct Other {
    /// Its id; its file's name where that is all that reads
    id: String,
    state: Lifecycle,
    /// Why it is in this state
    reason: String,
    /// The file in the folder, where there is one
    file: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only modules in this state
    #[param(inline)]
    state: Option<Lifecycle>,
    /// Only names that begin so
    #[serde(default)]
    prefix: String,
    /// Only names behind this one: `next` of the page before
    after: Option<String>,
    /// At most so many
    #[param(default = 1000, minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// Modules, in the order of their names, each with its state.
#[utoipa::path(
    get, path = "/api/v1/module-management/modules", tag = "modules",
    params(Wanted),
    responses((status = 200, body = List), Reading),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Response, Problem> {
    let Wanted { state, prefix, after, limit } = wanted;
    let head = api.writer.head();
    let standings = standings(&api).await;
    let in_state = |id: &String| {
        let standing = standings.get(id);
        state.is_none() || standing.is_some_and(|standing| state == Some(standing.state))
    };
    let all = &head.state.modules;
    let filtered: BTreeMap<String, Arc<Module>>;
    let all = if state.is_none() {
        all
    } else {
        filtered =
            all.iter().filter(|(id, _)| in_state(id)).map(|(id, it)| (id.clone(), it.clone())).collect();
        &filtered
    };
    let mut others = Vec::new();
    if after.is_none() {
        others = unregistered(&api, &standings).await?;
        others
            .retain(|other| other.id.starts_with(&prefix) && state.is_none_or(|state| state == other.state));
    }
    let (modules, next) = Listing::new(prefix, after, limit).page(all)?;
    let listed = |module: &'_ Module| {
        let standing = standings.get(&module.id);
        let state = standing.map_or(Lifecycle::Registered, |standing| standing.state);
        (state, standing.map(|standing| standing.reason.clone()).unwrap_or_default())
    };
    let modules = modules.into_iter().map(|module| {
        let (state, reason) = listed(module);
        Listed { module, state, reason }
    });
    let list = List { modules: modules.collect(), others, next, revision: head.revision };
    Ok(tagged(head.revision, &list))
}

/// In which state every module is that is registered or has a file.
pub(super) async fn standings(api: &Api) -> BTreeMap<String, Standing> {
    let nodes = registry::nodes(&api.fleet, &api.writer).await;
    api.registry.standings(&api.writer.head(), &nodes, &api.fleet.running().health())
}

/// Modules that are not registered, in the order of their names.
async fn unregistered(api: &Api, standings: &BTreeMap<String, Standing>) -> Result<Vec<Other>, Problem> {
    let head = api.writer.head();
    let of_files = standings.iter().filter(|(id, _)| !head.state.modules.contains_key(*id));
    let mut others: BTreeMap<String, Other> = BTreeMap::new();
    for (id, Standing { state, reason, file, .. }) in of_files {
        let other = Other { id: id.clone(), state: *state, reason: reason.clone(), file: file.clone() };
        others.insert(id.clone(), other);
    }
    for event in api.writer.store().last_states().await? {
        let known = head.state.modules.contains_key(&event.module) || others.contains_key(&event.module);
        if event.to == Lifecycle::Unregistered && !known {
            let reason = format!("removed by {} at {}", event.by, event.at);
            let other = Other { id: event.module.clone(), state: event.to, reason, file: None };
            others.insert(event.module, other);
        }
    }
    Ok(others.into_values().collect())
}

/// Refuses what would change modules while that is switched off.
pub(super) fn open(api: &Api) -> Result<(), Problem> {
    if !api.writer.head().is_registry_off() {
        return Ok(());
    }
    let detail = format!("the flag `{REGISTRY}` is off: modules stay as they are until it is on again");
    Err(Problem::new(StatusCode::CONFLICT, detail).because("registry_disabled"))
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
    let module = manifest::read(body)?;
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
    submit(&api, meta, &id, Change::PutModule(Box::new(manifest::named(body, &id)?))).await
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    /// Also where other modules depend on it
    #[serde(default)]
    force: bool,
    /// Only say what would change
    #[serde(default)]
    dry_run: bool,
}

/// Removes a module that no other depends on.
#[utoipa::path(
    delete, path = "/api/v1/module-management/modules/{id}", tag = "modules",
    params(("id" = String, Path, description = "The module's id"), WriteHeaders, Removal),
    responses((status = 200, body = Written<Module>), Writing),
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Name(id): Name,
    Parameters(Removal { force, dry_run }): Parameters<Removal>,
    Unswitched(meta): Unswitched,
) -> Result<Response, Problem> {
    let meta = if dry_run { meta.trying() } else { meta };
    submit(&api, meta, &id, Change::DeleteModule { id: id.clone(), force }).await
}

async fn submit(api: &Api, meta: Meta, id: &str, change: Change) -> Result<Response, Problem> {
    open(api)?;
    let accepted = api.writer.submit(meta.submit(change)).await?;
    let module = accepted.head.state.modules.get(id).cloned();
    Ok(written(accepted, module.as_deref()))
}
