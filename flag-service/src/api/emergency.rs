//! Everything off at once, and back: for when nobody knows yet which flag it is.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::meta::{Body, Meta, Switches};
use super::openapi::{WriteHeaders, Writing};
use super::problem::Problem;
use super::{Api, tagged};
use crate::head::Head;
use crate::model::change::read;
use crate::model::{Change, Flag};
use crate::writer::Accepted;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Why {
    /// For the history
    #[schema(min_length = 1, pattern = r"\S")]
    reason: String,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
struct Switched {
    applied: bool,
    /// The newest revision: that of the change, if it was applied
    revision: u64,
    summary: String,
    /// Flags that this has killed, or restored
    flags: Vec<String>,
    /// Flags that are there for safety, which it leaves alone
    kept: Vec<String>,
}

/// Kills every flag but those for safety, as one revision, and remembers which.
#[utoipa::path(
    post, path = "/disable-all", tag = "flags", params(WriteHeaders, Switches), request_body = Why,
    responses((status = 200, body = Switched), Writing),
)]
pub(super) async fn disable(
    State(api): State<Api>,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, meta, read(body)?, Change::DisableAll).await
}

/// Takes back what was disabled at once, as one revision. What somebody killed or restored by name since
/// stays as it is.
#[utoipa::path(
    post, path = "/restore", tag = "flags", params(WriteHeaders, Switches), request_body = Why,
    responses((status = 200, body = Switched), Writing),
)]
pub(super) async fn restore(
    State(api): State<Api>,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    submit(&api, meta, read(body)?, Change::RestoreAll).await
}

async fn submit(api: &Api, meta: Meta, why: Why, change: Change) -> Result<Response, Problem> {
    let meta = meta.because(Some(why.reason));
    if !meta.has_reason() {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "reason: say why, for those who come after",
        ));
    }
    let before = api.writer.head();
    let Accepted { head, applied, summary, .. } = api.writer.submit(meta.submit(change)).await?;
    let killed = |head: &Head, key: &str| head.state.flags.get(key).is_some_and(|flag| flag.killed);
    let changed = |flag: &&Flag| killed(&before, &flag.key) != flag.killed;
    let keys = |chosen: &dyn Fn(&&Flag) -> bool| {
        let flags = head.state.flags.values().map(|flag| &**flag);
        flags.filter(chosen).map(|flag| flag.key.clone()).collect()
    };
    let (flags, kept) = (keys(&changed), keys(&|flag| flag.safety));
    let revision = head.revision;
    let switched = Switched { applied, revision, summary, flags, kept };
    Ok(if applied { tagged(revision, &switched) } else { axum::Json(switched).into_response() })
}
