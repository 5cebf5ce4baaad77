//! Everything at once: what there is as resources, and resources as one change.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::meta::{Body, Meta, Switches};
use super::openapi::{Reading, WriteHeaders, Writing};
use super::problem::Problem;
use super::{Api, Written, tagged, tagged_if};
use crate::model::change::read;
use crate::model::{self, Apply, Change, Edit, Kind};
use crate::store::StoreError;

/// What a write of many resources answers.
#[derive(Serialize, ToSchema)]
struct Applied {
    #[serde(flatten)]
    written: Written<Value>,
    /// What changed, or would change.
    edits: Vec<Edit>,
}

/// What there is, as it can be applied elsewhere. API keys, what was applied under which name, and what was
/// disabled together, are left out: they are about this service.
#[derive(Serialize, ToSchema)]
struct Export {
    #[schema(value_type = Vec<Object>)]
    resources: Vec<Map<String, Value>>,
    revision: u64,
}

/// Sets many resources as one change: all of them, or none.
#[utoipa::path(
    post, path = "/api/v1/apply", tag = "policy",
    params(WriteHeaders, Switches),
    request_body(content = Apply),
    responses((status = 200, body = Applied), Writing),
)]
pub(super) async fn apply(State(api): State<Api>, meta: Meta, Body(body): Body) -> Result<Response, Problem> {
    let mut accepted = api.writer.submit(meta.submit(Change::Apply(read(body)?))).await?;
    let (applied, revision) = (accepted.applied, accepted.head.revision);
    let edits = std::mem::take(&mut accepted.edits);
    Ok(tagged_if(applied, revision, &Applied { written: Written::new(accepted, None), edits }))
}

/// Everything that can be applied: flags, modules, providers, segments and the settings.
#[utoipa::path(get, path = "/api/v1/export", tag = "policy", responses((status = 200, body = Export), Reading))]
pub(super) async fn export(State(api): State<Api>) -> Result<Response, Problem> {
    let head = api.writer.head();
    // Everything there is, as what was edited since there was nothing. The settings always are.
    let edits = model::State::default().edits(&head.state).map_err(StoreError::from)?;
    let resources = edits.into_iter().filter(|edit| edit.kind.is_applied() && edit.kind != Kind::Settings);
    let resources = resources.filter_map(|edit| Some((edit.kind, edit.after?)));
    let settings =
        model::Settings { disabled: BTreeSet::new(), ..model::Settings::clone(&head.state.settings) };
    let settings = serde_json::to_value(settings).map_err(StoreError::from)?;
    let resources = resources.chain([(Kind::Settings, settings)]).filter_map(|(kind, resource)| {
        let Value::Object(mut resource) = resource else { return None };
        resource.insert("kind".to_owned(), kind.as_str().into());
        Some(resource)
    });
    Ok(tagged(head.revision, &Export { resources: resources.collect(), revision: head.revision }))
}
