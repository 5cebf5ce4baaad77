//! Token issuers and their keys.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::{Body, Listing, Meta, Name, Parameters, Switches};
use super::openapi::{Finding, Reading, WriteHeaders, Writing};
use super::problem::Problem;
use super::{Api, Written, resource, tagged, written};
use crate::model::change::named;
use crate::model::{Change, Kind, Provider};

#[derive(Serialize, ToSchema)]
#[schema(as = Providers)]
struct List<'a> {
    providers: Vec<&'a Provider>,
    /// `after` of the next page; none on the last
    next: Option<&'a str>,
    revision: u64,
}

/// Providers, in the order of their names.
#[utoipa::path(
    get, path = "/api/v1/providers", tag = "providers",
    params(Listing),
    responses((status = 200, body = List), Reading),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let (providers, next) = listing.page(&head.state.providers)?;
    Ok(tagged(head.revision, &List { providers, next, revision: head.revision }))
}

/// One provider.
#[utoipa::path(
    get, path = "/api/v1/providers/{name}", tag = "providers",
    params(("name" = String, Path, description = "The provider's name")),
    responses((status = 200, body = Provider), Finding),
)]
pub(super) async fn get(State(api): State<Api>, Name(name): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let provider =
        head.state.providers.get(&name).ok_or_else(|| head.state.missing(Kind::Provider, &name))?;
    Ok(resource(&**provider))
}

/// Sets a provider, new or not.
#[utoipa::path(
    put, path = "/api/v1/providers/{name}", tag = "providers",
    params(("name" = String, Path, description = "The provider's name"), WriteHeaders, Switches),
    request_body(content = ref("#/components/schemas/UnnamedProvider")),
    responses((status = 200, body = Written<Provider>), Writing),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, meta, &name, Change::PutProvider(named(body, "name", &name)?)).await
}

/// Removes a provider: its tokens are refused from now on.
#[utoipa::path(
    delete, path = "/api/v1/providers/{name}", tag = "providers",
    params(("name" = String, Path, description = "The provider's name"), WriteHeaders, Switches),
    responses((status = 200, body = Written<Provider>), Writing),
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
) -> Result<Response, Problem> {
    submit(&api, meta, &name, Change::DeleteProvider(name.clone())).await
}

async fn submit(api: &Api, meta: Meta, name: &str, change: Change) -> Result<Response, Problem> {
    let accepted = api.writer.submit(meta.submit(change)).await?;
    let provider = accepted.head.state.providers.get(name).cloned();
    Ok(written(accepted, provider.as_deref()))
}
