//! JSON and YAML: a body is read in the format it claims, an answer written in the one that is asked for.
//! What either says is none of its business.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;

use super::problem::{FieldProblem, Problem};
use crate::yaml::{self, Node, Unreadable};

/// Below this, answers are in the format that is asked for. Other paths have formats of their own.
pub(super) const NEGOTIATED: &str = "/api/v1/";

/// Reads a body as what its `Content-Type` says; as JSON where it says nothing.
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Value, Problem> {
    let claimed = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let claimed = String::from_utf8_lossy(claimed);
    match essence(&claimed).as_str() {
        "" => json(body),
        name if is_json(name) => json(body),
        name if is_yaml(name) => yaml(body),
        name => {
            let todo = "send `application/json` or `application/yaml`";
            Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("`{name}` is not read here: {todo}"),
            ))
        }
    }
}

fn json(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unreadable("JSON", error.to_string(), line as u64, column as u64)
    })
}

fn yaml(body: &[u8]) -> Result<Value, Problem> {
    let no_yaml = |Unreadable { line, column, problem }| unreadable("YAML", problem, line, column);
    let whole = |problem: &str| no_yaml(Unreadable { line: 0, column: 0, problem: problem.to_owned() });
    let text = std::str::from_utf8(body).map_err(|_| whole("it is not UTF-8"))?;
    let mut documents = Node::documents(text).map_err(no_yaml)?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document.value()),
        (None, _) => Ok(Value::Null),
        (Some(_), false) => Err(whole("it is several documents, and a body is one")),
    }
}

fn unreadable(format: &str, what: String, line: u64, column: u64) -> Problem {
    let detail = format!("the body is no {format}: {what}");
    let [line, column] = [line, column].map(|number| (line > 0).then_some(number));
    let error = FieldProblem { field: String::new(), problem: what, line, column };
    Problem::new(StatusCode::BAD_REQUEST, detail).with([error])
}

/// Writes answers as YAML to whoever prefers it.
pub(super) async fn negotiate(request: Request, next: Next) -> Response {
    let negotiated = request.uri().path().starts_with(NEGOTIATED);
    let as_yaml = negotiated && prefers_yaml(request.headers());
    let mut response = next.run(request).await;
    if negotiated {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    }
    let media_type = match response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) {
        Some(b"application/json") => "application/yaml",
        Some(b"application/problem+json") => "application/problem+yaml",
        _ => return response,
    };
    if !as_yaml {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // It is this process's own answer, and whole in memory as it is.
    let json = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let value = serde_json::from_slice::<Value>(&json).ok();
    let Some(text) = value.and_then(|value| yaml::write(&value).ok()) else {
        return Response::from_parts(parts, Body::from(json));
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}

/// RFC 9110 §12.5.1, for the two formats there are: YAML where it is named and JSON not more wanted.
fn prefers_yaml(headers: &HeaderMap) -> bool {
    let (mut json, mut yaml) = (0.0, 0.0);
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|list| list.to_str().ok());
    for range in accepted.flat_map(|list| list.split(',')) {
        let weight = range.split(';').skip(1).find_map(|part| part.trim().strip_prefix("q="));
        let weight: f32 = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        let name = essence(range);
        if is_yaml(&name) {
            yaml = weight.max(yaml);
        } else if is_json(&name) {
            json = weight.max(json);
        }
    }
    yaml > 0.0 && yaml >= json
}

/// A media type without its parameters.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(name: &str) -> bool {
    matches!(name, "application/json" | "text/json") || name.ends_with("+json")
}

/// RFC 9512, and what it was called before.
fn is_yaml(name: &str) -> bool {
    matches!(name, "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml")
        || name.ends_with("+yaml")
}
