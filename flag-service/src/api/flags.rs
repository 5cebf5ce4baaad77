//! Flags.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::response::Response;
use rampart_engine::flag::{Asker, Percentage, Reason};
use rampart_engine::policy::wire::By;
use serde::{Deserialize, Serialize};

use super::meta::{Body, Meta, Name, Parameters};
use super::problem::Problem;
use super::{Api, tagged, written};
use crate::model::change::named;
use crate::model::{Change, Kind, Refusal};

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
    let flag = head.state.flags.get(&key).ok_or_else(|| missing(&key))?;
    Ok(tagged(head.revision, &**flag))
}

pub(super) async fn put(
    State(api): State<Api>,
    Name(key): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, meta, &key, Change::PutFlag(named(body, "key", &key)?)).await
}

pub(super) async fn patch(
    State(api): State<Api>,
    Name(key): Name,
    meta: Meta,
    Body(patch): Body,
) -> Result<Response, Problem> {
    submit(&api, meta, &key, Change::PatchFlag { key: key.clone(), patch }).await
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Who {
    organisation: Option<String>,
    subject: Option<String>,
    /// For flags that go by request.
    request_id: Option<String>,
}

/// What somebody gets, and why.
#[derive(Serialize)]
struct Explanation<'a> {
    flag: &'a str,
    organisation: Option<&'a str>,
    subject: Option<&'a str>,
    value: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    reason: Reason,
    /// Where the organisation (or the request) stands between 0 and 100; it is on by percentage
    /// when this is below the flag's, counted from where the flag's part of its exclusive group
    /// begins.
    bucket: Option<f64>,
    percentage: Percentage,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Percentage>,
    killed: bool,
    revision: u64,
}

pub(super) async fn explain(
    State(api): State<Api>,
    Name(key): Name,
    Parameters(who): Parameters<Who>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let flags = &head.policy.flags;
    let id = flags.find(&key).ok_or_else(|| missing(&key))?;
    let (Some(flag), Some(compiled)) = (head.state.flags.get(&key), flags.get(id)) else {
        return Err(missing(&key));
    };
    let (organisation, subject) = (who.organisation.as_deref(), who.subject.as_deref());
    let request_id = who.request_id.as_deref();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let evaluation = flags.evaluate(id, &Asker { organisation, subject, request_id, now });
    let hashed = match compiled.by() {
        By::Organisation => organisation,
        By::Request => request_id,
    };
    let bucket = hashed.map(|hashed| f64::from(compiled.bucket(hashed)) / 1_000.0);
    let explanation = Explanation {
        flag: &key,
        organisation,
        subject,
        value: evaluation.value,
        variant: evaluation.variant,
        reason: evaluation.reason,
        bucket,
        percentage: flag.percentage,
        from: flag.exclusive_group.as_ref().map(|part| part.from),
        killed: flag.killed,
        revision: head.revision,
    };
    Ok(tagged(head.revision, &explanation))
}

fn missing(key: &str) -> Problem {
    Refusal::Missing { kind: Kind::Flag, name: key.to_owned() }.into()
}
