//! Token issuers and their keys.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::meta::{Body, Meta, Name};
use super::problem::Problem;
use super::{Api, tagged, written};
use crate::model::change::named;
use crate::model::{Change, Kind, Provider};

#[derive(Serialize)]
struct List<'a> {
    providers: Vec<&'a Provider>,
    revision: u64,
}

pub(super) async fn list(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let providers = head.state.providers.values().map(|provider| &**provider).collect();
    tagged(head.revision, &List { providers, revision: head.revision })
}

pub(super) async fn get(State(api): State<Api>, Name(name): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let provider =
        head.state.providers.get(&name).ok_or_else(|| head.state.missing(Kind::Provider, &name))?;
    Ok(tagged(head.revision, &**provider))
}

pub(super) async fn put(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, meta, &name, Change::PutProvider(named(body, "name", &name)?)).await
}

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
