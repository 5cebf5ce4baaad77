//! Flags.

use axum::extract::State;
use axum::response::Response;
use rampart_engine::flag::Percentage;
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
pub(super) struct Who {
    organisation: Option<String>,
    subject: Option<String>,
}

/// What somebody gets, and why.
#[derive(Serialize)]
struct Explanation<'a> {
    flag: &'a str,
    organisation: Option<&'a str>,
    subject: Option<&'a str>,
    value: bool,
    reason: rampart_engine::flag::Reason,
    /// Where the organisation stands between 0 and 100; it is on by percentage when this is below
    /// the flag's.
    bucket: Option<f64>,
    percentage: Percentage,
    killed: bool,
    revision: u64,
}

pub(super) async fn explain(
    State(api): State<Api>,
    Name(key): Name,
    Parameters(who): Parameters<Who>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let (Some(flag), Some(compiled)) = (head.state.flags.get(&key), head.policy.flag(&key)) else {
        return Err(missing(&key));
    };
    let (organisation, subject) = (who.organisation.as_deref(), who.subject.as_deref());
    let evaluation = compiled.evaluate(organisation, subject);
    let bucket = organisation.map(|organisation| f64::from(compiled.bucket(organisation)) / 1_000.0);
    let explanation = Explanation {
        flag: &key,
        organisation,
        subject,
        value: evaluation.value,
        reason: evaluation.reason,
        bucket,
        percentage: flag.percentage,
        killed: flag.killed,
        revision: head.revision,
    };
    Ok(tagged(head.revision, &explanation))
}

fn missing(key: &str) -> Problem {
    Refusal::Missing { kind: Kind::Flag, name: key.to_owned() }.into()
}
