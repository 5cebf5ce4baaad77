//! Issuers' keys that are fetched: which there are, since when, and what fetching them is like.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use rampart_engine::policy::wire::JwksFrom;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::meta::Name;
use super::openapi::Finding;
use super::problem::Problem;
use crate::head::Head;
use crate::jwks::Keeping;
use crate::model::Kind;

/// A provider's keys.
#[derive(Serialize, ToSchema)]
struct Keys {
    provider: String,
    /// Where they are fetched; none where they were given
    from: Option<JwksFrom>,
    keys: Vec<Key>,
    /// What fetching them is like; none where they were given
    fetching: Option<Keeping>,
    revision: u64,
}

/// A key, without what tokens are verified with.
#[derive(Serialize, ToSchema)]
struct Key {
    kid: Option<String>,
    kty: String,
    /// The only algorithm that it may be used with, where the issuer names one
    alg: Option<String>,
    /// When it was first fetched, in seconds since the Unix epoch; none where it was given
    since: Option<u64>,
}

/// A provider's keys, by their names, and what fetching them is like.
#[utoipa::path(
    get, path = "/api/v1/providers/{name}/keys", tag = "providers",
    params(("name" = String, Path, description = "The provider's name")),
    responses((status = 200, body = Keys), Finding),
)]
pub(super) async fn get(State(api): State<Api>, Name(name): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let fetching = api.keeper.keeping(&name);
    Ok(axum::Json(keys(&head, &name, fetching)?).into_response())
}

/// Fetches a provider's keys now, and answers once that has succeeded or failed. Where the keys were
/// given, there is nothing to do.
#[utoipa::path(
    post, path = "/api/v1/providers/{name}/keys/refresh", tag = "providers",
    params(("name" = String, Path, description = "The provider's name")),
    responses((status = 200, body = Keys), Finding),
)]
pub(super) async fn refresh(State(api): State<Api>, Name(name): Name) -> Result<Response, Problem> {
    let fetching = api.keeper.refresh(&name).await;
    Ok(axum::Json(keys(&api.writer.head(), &name, fetching)?).into_response())
}

fn keys(head: &Head, name: &str, fetching: Option<Keeping>) -> Result<Keys, Problem> {
    let provider = head.state.issuer(name).ok_or_else(|| head.state.missing(Kind::Provider, name))?;
    let key = |key: &rampart_engine::policy::wire::Jwk, since| Key {
        kid: key.kid.clone(),
        kty: key.kty.clone(),
        alg: key.alg.clone(),
        since,
    };
    let given = provider.jwks.iter().flat_map(|jwks| &jwks.keys).map(|given| key(given, None));
    let fetched = head.state.key_sets.get(name).into_iter().flat_map(|set| &set.keys);
    let fetched = fetched.map(|fetched| key(&fetched.key, Some(fetched.since)));
    Ok(Keys {
        provider: name.to_owned(),
        from: provider.jwks_from.clone(),
        keys: given.chain(fetched).collect(),
        fetching,
        revision: head.revision,
    })
}
