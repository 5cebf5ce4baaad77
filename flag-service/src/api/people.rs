//! One organisation or subject, across all flags: what it gets and why, and where it is named.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use rampart_engine::flag::Asker;
use rampart_engine::policy::wire::Named;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::explain::{Explanation, explanation, given};
use super::meta::{Body, Meta, Name, Parameters, Switches};
use super::openapi::{Reading, WriteHeaders, Writing};
use super::problem::{FieldProblem, Problem};
use super::{Api, now, tagged};
use crate::head::Head;
use crate::model::change::read;
use crate::model::{Change, Naming, Whom, Word};
use crate::writer::Accepted;

/// What somebody gets from every flag.
#[derive(Serialize, ToSchema)]
struct Person<'a> {
    flags: Vec<Told<'a>>,
    revision: u64,
}

/// What somebody gets from one flag, and whether they are named there.
#[derive(Serialize, ToSchema)]
struct Told<'a> {
    #[serde(flatten)]
    explanation: Explanation<'a>,
    /// How they are named; none where they are not
    named: Option<Mention>,
}

/// How somebody is named.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Mention {
    value: bool,
    /// The first second, since the Unix epoch, at which it no longer counts; none: it stands for good
    until: Option<u64>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Within {
    /// The other of the two: a subject's organisation, or an organisation's subject
    with: Option<String>,
}

/// What is to be said of somebody.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// By flag: `true`, `false`, the same until a second, or `null` for no longer named
    flags: BTreeMap<String, Said>,
    /// Why, for the history
    reason: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected true, false, null, or an object of `value` and `until` (seconds since 1970)"
)]
enum Said {
    Plainly(bool),
    For(Mention),
    NoLonger,
}

#[derive(Serialize, ToSchema)]
struct PersonWritten<'a> {
    applied: bool,
    revision: u64,
    summary: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<FieldProblem>,
    flags: Vec<Told<'a>>,
}

/// What an organisation gets from every flag, and why.
#[utoipa::path(
    get, path = "/api/v1/organisations/{id}", tag = "flags",
    params(("id" = String, Path, description = "The organisation"), Within),
    responses((status = 200, body = Person), Reading)
)]
pub(super) async fn organisation(
    State(api): State<Api>,
    Name(name): Name,
    Parameters(within): Parameters<Within>,
) -> Response {
    person(&api.writer.head(), Whom::Organisation, &name, within.with.as_deref())
}

/// What a subject gets from every flag, and why.
#[utoipa::path(
    get, path = "/api/v1/subjects/{id}", tag = "flags",
    params(("id" = String, Path, description = "The subject"), Within),
    responses((status = 200, body = Person), Reading)
)]
pub(super) async fn subject(
    State(api): State<Api>,
    Name(name): Name,
    Parameters(within): Parameters<Within>,
) -> Response {
    person(&api.writer.head(), Whom::Subject, &name, within.with.as_deref())
}

/// Names an organisation in flags, or no longer, as one revision. All that flags say else stays.
#[utoipa::path(
    patch, path = "/api/v1/organisations/{id}", tag = "flags",
    params(("id" = String, Path, description = "The organisation"), WriteHeaders, Switches),
    request_body = Wanted, responses((status = 200, body = PersonWritten), Writing)
)]
pub(super) async fn name_organisation(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, Whom::Organisation, name, meta, read(body)?).await
}

/// Names a subject in flags, or no longer, as one revision. All that flags say else stays.
#[utoipa::path(
    patch, path = "/api/v1/subjects/{id}", tag = "flags",
    params(("id" = String, Path, description = "The subject"), WriteHeaders, Switches),
    request_body = Wanted, responses((status = 200, body = PersonWritten), Writing)
)]
pub(super) async fn name_subject(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, Whom::Subject, name, meta, read(body)?).await
}

async fn submit(api: &Api, of: Whom, name: String, meta: Meta, wanted: Wanted) -> Result<Response, Problem> {
    let Wanted { flags, reason } = wanted;
    if flags.is_empty() {
        let detail = "say what is to be changed: `flags`, by their keys";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let word = |said: Said| match said {
        Said::Plainly(value) => Some(Word { value, until: None }),
        Said::For(Mention { value, until }) => Some(Word { value, until }),
        Said::NoLonger => None,
    };
    let flags = flags.into_iter().map(|(key, said)| (key, word(said))).collect();
    let change = Change::Name(Naming { of, name: name.clone(), flags });
    // Each flag named is set for this one name, and nothing is replaced that somebody else has said.
    let meta = meta.whatever().because(reason);
    let Accepted { head, applied, summary, warnings, .. } = api.writer.submit(meta.submit(change)).await?;
    let written = PersonWritten {
        applied,
        revision: head.revision,
        summary,
        warnings: warnings.into_iter().map(FieldProblem::from).collect(),
        flags: told(&head, of, &name, None),
    };
    Ok(if applied { tagged(head.revision, &written) } else { axum::Json(written).into_response() })
}

fn person(head: &Head, of: Whom, name: &str, with: Option<&str>) -> Response {
    tagged(head.revision, &Person { flags: told(head, of, name, with), revision: head.revision })
}

fn told<'a>(head: &'a Head, of: Whom, name: &'a str, with: Option<&'a str>) -> Vec<Told<'a>> {
    let (name, with) = (given(Some(name)), given(with));
    let (organisation, subject) = match of {
        Whom::Organisation => (name, with),
        Whom::Subject => (with, name),
    };
    let asker = Asker { organisation, subject, request_id: None, now: now() };
    let flags = head.state.flags.iter().filter_map(|(key, flag)| {
        let explanation = explanation(head, key, &asker)?;
        let names = of.names(flag);
        let find = |list: &[Named], value| {
            let named = list.iter().find(|named| Some(named.name()) == name)?;
            let until = Some(named.until()).filter(|until| *until != u64::MAX);
            Some(Mention { value, until })
        };
        let named = find(&names.off, false).or_else(|| find(&names.on, true));
        Some(Told { explanation, named })
    });
    flags.collect()
}
