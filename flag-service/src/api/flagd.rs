//! All flags as a flagd definition, for a file that applications read.

use axum::extract::State;
use axum::response::Response;

use super::{Api, tagged};
use crate::flagd::export;

/// All flags as a flagd definition
#[utoipa::path(get, path = "/api/v1/flagd", tag = "openfeature", responses((status = 200, body = Object)))]
pub(super) async fn definition(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let definition = export(head.state.flags.values().map(|flag| &**flag));
    tagged(head.revision, &definition.document)
}
