//! What a change of a flag would mean before it is made: which organisations join and which leave, by the
//! engine that decides in Envoy.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use rampart_engine::flag::Asker;
use rampart_engine::policy::wire::Named;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::meta::{Body, Meta, Name};
use super::openapi::{WriteHeaders, Writing};
use super::problem::{FieldProblem, Problem};
use super::{Api, now};
use crate::head::Head;
use crate::model::change::read;
use crate::model::{Change, Flag};
use crate::writer::Accepted;

/// Most organisations that are looked at because the asker names them.
const MOST: usize = 100_000;
/// Most names of those who join or leave.
const TOLD: usize = 1_000;

/// A change that is to be looked at.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Proposal {
    /// Members of the flag, as a PATCH would set them
    #[schema(value_type = Object)]
    patch: Value,
    /// Organisations to look at, besides those that flags name: at most 100,000
    #[serde(default)]
    organisations: BTreeSet<String>,
}

/// What it would mean.
#[derive(Serialize, ToSchema)]
struct Preview {
    /// The revision at which this is so
    revision: u64,
    /// What would change, in words
    summary: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<FieldProblem>,
    /// How many organisations were looked at
    organisations: usize,
    /// The flag, and every other whose answer hangs on it
    flags: Vec<Moves>,
}

/// Who joins a flag and who leaves it.
#[derive(Serialize, ToSchema)]
struct Moves {
    flag: String,
    /// In one sentence
    summary: String,
    on_before: usize,
    on_after: usize,
    /// How many join
    joining: usize,
    /// Who they are, the first thousand by name
    joins: Vec<String>,
    /// How many leave
    leaving: usize,
    leaves: Vec<String>,
    /// How many stay, with another variant
    other_variant: usize,
}

/// What a change of a flag would mean for the organisations that are known.
///
/// Known are those that any flag names, and those that are sent. Nothing is changed.
#[utoipa::path(
    post, path = "/api/v1/flags/{key}/preview", tag = "flags",
    params(("key" = String, Path, description = "The flag's key"), WriteHeaders),
    request_body = Proposal, responses((status = 200, body = Preview), Writing),
)]
pub(super) async fn preview(
    State(api): State<Api>,
    Name(key): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    let Proposal { patch, organisations } = read(body)?;
    if organisations.len() > MOST {
        let detail = format!("organisations: at most {MOST} at a time");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let before = api.writer.head();
    let change = Change::PatchFlag { key: key.clone(), patch };
    let Accepted { head: after, summary, warnings, .. } =
        api.writer.submit(meta.trying().submit(change)).await?;
    let mut known: BTreeSet<&str> =
        organisations.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for flag in before.published.policy.flags.iter().chain(&after.published.policy.flags) {
        let names = flag.organisations.on.iter().chain(&flag.organisations.off);
        known.extend(names.map(Named::name).filter(|name| !name.is_empty()));
    }
    let flags = hanging_on(&after, &key);
    let preview = Preview {
        revision: after.revision,
        summary,
        warnings: warnings.into_iter().map(FieldProblem::from).collect(),
        organisations: known.len(),
        flags: flags.into_iter().map(|flag| moves(&before, &after, flag, &known)).collect(),
    };
    Ok(axum::response::IntoResponse::into_response(axum::Json(preview)))
}

/// The flag, first, and those that ask it, directly or not, or share its exclusive group.
fn hanging_on<'a>(head: &'a Head, key: &'a str) -> Vec<&'a str> {
    let group = |flag: &'a Flag| flag.exclusive_group.as_ref().map(|part| part.name.as_str());
    let own = head.state.flags.get(key).and_then(|flag| group(flag));
    let mut found = vec![key];
    let shares = |flag: &'a Flag| own.is_some() && group(flag) == own && flag.key != key;
    found.extend(head.state.flags.values().filter(|flag| shares(flag)).map(|flag| flag.key.as_str()));
    let mut next = 0;
    while let Some(asked) = found.get(next).copied() {
        next += 1;
        for flag in head.state.flags.values() {
            let asks = flag.prerequisites.iter().any(|needed| needed.flag == asked);
            if asks && !found.contains(&flag.key.as_str()) {
                found.push(&flag.key);
            }
        }
    }
    found
}

fn moves(before: &Head, after: &Head, key: &str, known: &BTreeSet<&str>) -> Moves {
    let now = now();
    let (mut joins, mut leaves, mut other_variant, mut on_before, mut on_after) = (vec![], vec![], 0, 0, 0);
    for organisation in known {
        let asker = Asker { organisation: Some(organisation), subject: None, request_id: None, now };
        let ask = |head: &Head| {
            let flags = &head.policy.flags;
            let found = flags.evaluate(flags.find(key)?, &asker);
            found.value.then(|| found.variant.unwrap_or_default().to_owned())
        };
        let (was, is) = (ask(before), ask(after));
        on_before += usize::from(was.is_some());
        on_after += usize::from(is.is_some());
        match (was, is) {
            (None, Some(_)) => joins.push((*organisation).to_owned()),
            (Some(_), None) => leaves.push((*organisation).to_owned()),
            (was, is) => other_variant += usize::from(was != is),
        }
    }
    let (joining, leaving) = (joins.len(), leaves.len());
    let summary = format!(
        "{on_before} of {} organisations are on, then {on_after}: {joining} join, {leaving} leave",
        known.len()
    );
    joins.truncate(TOLD);
    leaves.truncate(TOLD);
    let flag = key.to_owned();
    Moves { flag, summary, on_before, on_after, joining, joins, leaving, leaves, other_variant }
}
