//! Flags as plain switches, for programs that know no more of them: their shapes are given. Whatever is
//! switched here is the same flag as everywhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use rampart_engine::flag::Percentage;
use rampart_engine::policy::wire::Overrides;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::meta::{Body, Meta, Name, Parameters, Switches};
use super::openapi::{Reading, WriteHeaders, Writing};
use super::problem::{FieldProblem, Problem};
use super::system::NEWEST;
use super::{Api, tagged};
use crate::model::change::read;
use crate::model::{Change, Flag, Kind, tag};
use crate::writer::Accepted;

/// The version of these shapes.
const VERSION: &str = "1.1.0";

#[derive(Serialize, ToSchema)]
struct Features<'a> {
    flags: BTreeMap<&'a str, Feature<'a>>,
    /// When anything was changed last
    last_updated: Option<String>,
    version: &'static str,
}

/// A flag: all that matters of it, or just whether it is switched on.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Feature<'a> {
    Bool(bool),
    Flag(Switch<'a>),
}

#[derive(Serialize, ToSchema)]
#[schema(as = Feature_Flag)]
struct Switch<'a> {
    /// Whether it is switched on: for whom, the rest says
    enabled: bool,
    percentage: Percentage,
    killed: bool,
    safety: bool,
    description: &'a str,
    organisations: &'a Overrides,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Shape {
    /// `bool`: each flag is `true` or `false`
    #[param(inline)]
    format: Option<Format>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    Bool,
}

/// Every flag, and whether it is switched on.
#[utoipa::path(
    get, path = "/api/v1/features", tag = "features", params(Shape),
    responses((status = 200, body = Features), Reading)
)]
pub(super) async fn list(
    State(api): State<Api>,
    Parameters(shape): Parameters<Shape>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let newest = api.writer.store().history(NEWEST, 1).await?;
    let as_bool = shape.format == Some(Format::Bool);
    let feature = |flag| if as_bool { Feature::Bool(is_on(flag)) } else { Feature::Flag(Switch::of(flag)) };
    let flags = head.state.flags.iter().map(|(key, flag)| (key.as_str(), feature(flag))).collect();
    let last_updated = newest.first().map(|entry| moment(entry.at_ms));
    Ok(tagged(head.revision, &Features { flags, last_updated, version: VERSION }))
}

/// What of a flag is to be changed; what is not said stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FeatureChange)]
struct Wanted {
    /// Switched on or off. On is for those whom the percentage and the names take, and nobody else
    enabled: Option<bool>,
    /// Share of organisations that are on
    #[serde(alias = "percentage")]
    percent: Option<Percentage>,
    /// Organisations that are on, and that are off, whatever the percentage
    overrides: Option<Overrides>,
    /// Why, for the history
    reason: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct FeatureWritten<'a> {
    flag: &'a str,
    enabled: bool,
    percentage: Percentage,
    updated_at: String,
    applied: bool,
    revision: u64,
    summary: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<FieldProblem>,
}

#[derive(Serialize, ToSchema)]
struct UnknownFeature {
    error: &'static str,
}

/// Switches a flag, and changes whom it is for.
///
/// Its name may be written small or large, or as an environment variable (`MESSAGING_RETRY_LOGIC`). To
/// switch a flag on does not raise its percentage, and does not take back a kill.
#[utoipa::path(
    put, path = "/api/v1/features/{name}", tag = "features",
    params(("name" = String, Path, description = "The flag's name"), WriteHeaders, Switches),
    request_body = Wanted,
    responses(
        (status = 200, body = FeatureWritten), Writing,
        (
            status = 400, description = "The request does not read; or, as plain JSON, there is no such flag",
            content((Problem = "application/problem+json"), (UnknownFeature = "application/json"))
        ),
    ),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Name(name): Name,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let Some(flag) = find(&head.state.flags, &name) else {
        let unknown = axum::Json(UnknownFeature { error: "Invalid feature flag" });
        return Ok((StatusCode::BAD_REQUEST, unknown).into_response());
    };
    let Wanted { enabled, percent, overrides, reason } = read(body)?;
    if enabled == Some(true) && flag.killed {
        let detail = format!(
            "the flag `{0}` is killed, and a kill is taken back on purpose only: POST /api/v1/flags/{0}/restore",
            flag.key
        );
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let members = [
        ("enabled", enabled.map(Value::from)),
        ("percentage", percent.map(|percent| json!(percent))),
        ("organisations", overrides.map(|Overrides { on, off }| json!({"on": on, "off": off}))),
    ];
    let patch: Map<String, Value> =
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    if patch.is_empty() {
        let detail = "say what is to be changed: `enabled`, `percent` or `overrides`";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let key = flag.key.clone();
    // Who only knows switches knows no tags: named members are set, and nothing else is replaced.
    let meta = meta.whatever().because(reason);
    let change = Change::PatchFlag { key: key.clone(), patch: Value::Object(patch) };
    let Accepted { head, applied, summary, warnings, .. } = api.writer.submit(meta.submit(change)).await?;
    let flag = head.state.flags.get(&key).ok_or_else(|| head.state.missing(Kind::Flag, &key))?;
    let written = FeatureWritten {
        flag: &key,
        enabled: is_on(flag),
        percentage: flag.percentage,
        updated_at: jiff::Timestamp::now().to_string(),
        applied,
        revision: head.revision,
        summary,
        warnings: warnings.into_iter().map(FieldProblem::from).collect(),
    };
    Ok(if applied { tagged(tag(&**flag), &written) } else { axum::Json(written).into_response() })
}

impl<'a> Switch<'a> {
    fn of(flag: &'a Flag) -> Self {
        Self {
            enabled: is_on(flag),
            percentage: flag.percentage,
            killed: flag.killed,
            safety: flag.safety,
            description: &flag.description,
            organisations: &flag.organisations,
        }
    }
}

const fn is_on(flag: &Flag) -> bool {
    flag.enabled && !flag.killed
}

fn moment(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default().to_string()
}

/// A flag by any spelling of its name that leads to one flag only.
fn find<'a>(flags: &'a BTreeMap<String, Arc<Flag>>, name: &str) -> Option<&'a Flag> {
    if let Some(flag) = flags.get(name) {
        return Some(flag);
    }
    let alike = |wanted: &str| {
        let mut found = flags.values().filter(|flag| flag.key.eq_ignore_ascii_case(wanted));
        let flag = found.next()?;
        found.next().is_none().then_some(&**flag)
    };
    let upper = name.to_ascii_uppercase();
    let variable = upper.strip_prefix("MESSAGING_");
    alike(name).or_else(|| alike(&format!("{}_ENABLED", variable?))).or_else(|| alike(variable?))
}
