//! API keys. A secret is in the answer to the request that makes it, and nowhere else.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::meta::{Body, Listing, Meta, Name, Parameters, Switches};
use super::openapi::{Finding, Reading, SecretHeaders, WriteHeaders, Writing};
use super::problem::Problem;
use super::{Api, Written, now, tagged, tagged_if, written};
use crate::access::Role;
use crate::access::key::{Hashed, Secret};
use crate::model::change::read;
use crate::model::{Change, Key, Kind, tag};
use crate::writer::Accepted;

/// An API key. What is stored of its secrets is not told.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
struct Shown<'a> {
    name: &'a str,
    role: Role,
    /// Of role `envoy`: the id of the node that comes with it, or what ids begin with and then `*`
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    /// First Unix second at which it no longer counts
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    secrets: Vec<Known<'a>>,
    /// Only where it was made just now
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeySecret)]
struct Known<'a> {
    /// The digits after `rampart_`
    id: &'a str,
    /// First Unix second at which it no longer counts, where it was replaced
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl<'a> Shown<'a> {
    fn new(key: &'a Key, secret: Option<&'a Secret>) -> Self {
        let now = now();
        let counts = key.secrets.iter().filter(|secret| secret.until.is_none_or(|until| now < until));
        Self {
            name: &key.name,
            role: key.role,
            node: key.node.as_deref(),
            expires_at: key.expires_at,
            secrets: counts.map(|Hashed { id, until, .. }| Known { id, until: *until }).collect(),
            secret: secret.map(Secret::text),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeys)]
struct List<'a> {
    keys: Vec<Shown<'a>>,
    /// `after` of the next page; none on the last
    next: Option<&'a str>,
    revision: u64,
}

/// API keys, in the order of their names; no secrets.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "keys",
    params(Listing),
    responses((status = 200, body = List), Reading),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let (keys, next) = listing.page(&head.state.keys)?;
    let keys = keys.into_iter().map(|key| Shown::new(key, None)).collect();
    Ok(tagged(head.revision, &List { keys, next, revision: head.revision }))
}

/// One API key, without its secret.
#[utoipa::path(
    get, path = "/api/v1/keys/{name}", tag = "keys",
    params(("name" = String, Path, description = "The key's name")),
    responses((status = 200, body = Shown), Finding),
)]
pub(super) async fn get(State(api): State<Api>, Name(name): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let key = head.state.keys.get(&name).ok_or_else(|| head.state.missing(Kind::Key, &name))?;
    Ok(tagged(tag(&**key), &Shown::new(key, None)))
}

/// What a new key is to be.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewApiKey)]
#[serde(deny_unknown_fields)]
struct Wanted {
    role: Role,
    /// Of role `envoy`: the id of the node that comes with it, or what ids begin with and then `*`
    node: Option<String>,
    /// First Unix second at which it no longer counts
    #[schema(maximum = 253_402_300_799_u64)]
    expires_at: Option<u64>,
}

/// Makes an API key, and tells its secret, this once.
///
/// One that is there already is left alone, since its bearer would be locked out.
#[utoipa::path(
    put, path = "/api/v1/keys/{name}", tag = "keys",
    params(("name" = String, Path, description = "The key's name"), SecretHeaders, Switches),
    request_body(content = Wanted),
    responses((status = 200, body = Written<Shown>), Writing),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    let meta = meta.told_once()?;
    let Wanted { role, node, expires_at } = read(body)?;
    if expires_at.is_some_and(|end| end <= now()) {
        let problem = "`expires_at` is a Unix second, and that one is over";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, problem));
    }
    let secret = make()?;
    let key = Key { name: name.clone(), role, node, expires_at, secrets: vec![secret.hashed()] };
    let mut submission = meta.submit(Change::PutKey(key));
    submission.only_new = true;
    let accepted = api.writer.submit(submission).await.map_err(|error| {
        Problem::from(error)
            .advise(StatusCode::PRECONDITION_FAILED, "to replace its secret, use `rampart key rotate`")
    })?;
    Ok(told(accepted, &name, &secret))
}

/// How a key gets another secret.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Rotation {
    /// Seconds for which the secret so far still counts
    overlap: u64,
}

/// Gives an API key another secret, and tells it, this once.
#[utoipa::path(
    post, path = "/api/v1/keys/{name}/rotate", tag = "keys",
    params(("name" = String, Path, description = "The key's name"), SecretHeaders, Switches),
    request_body(content = Rotation),
    responses((status = 200, body = Written<Shown>), Writing),
)]
pub(super) async fn rotate(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    // Whatever it is: a secret that leaked is replaced at once.
    let meta = meta.told_once()?.whatever();
    let Rotation { overlap } = read(body)?;
    let secret = make()?;
    let until = now().saturating_add(overlap);
    let change = Change::RotateKey { name: name.clone(), secret: secret.hashed(), until };
    Ok(told(api.writer.submit(meta.submit(change)).await?, &name, &secret))
}

/// Removes an API key: it opens nothing from then on.
#[utoipa::path(
    delete, path = "/api/v1/keys/{name}", tag = "keys",
    params(("name" = String, Path, description = "The key's name"), WriteHeaders, Switches),
    responses((status = 200, body = Written<Object>), Writing),
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
) -> Result<Response, Problem> {
    // Whatever it is: nothing may stand in the way of it.
    let accepted = api.writer.submit(meta.whatever().submit(Change::DeleteKey(name))).await?;
    Ok(written::<()>(accepted, None))
}

/// The answer to a write, with the secret that was made. That of a dry run opens nothing, and is not told.
fn told(accepted: Accepted, name: &str, secret: &Secret) -> Response {
    let applied = accepted.applied;
    let key = accepted.head.state.keys.get(name).cloned();
    let tag = tag(&key.as_deref());
    let shown = key.as_deref().map(|key| Shown::new(key, applied.then_some(secret)));
    tagged_if(applied, tag, &Written::new(accepted, shown))
}

fn make() -> Result<Secret, Problem> {
    Secret::generate().map_err(|error| {
        let detail = format!("no secret can be made, for want of randomness: {error}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })
}
