//! OFREP 0.3, the OpenFeature Remote Evaluation Protocol: what an OpenFeature client gets from a
//! flag is what the engine says. It speaks the protocol and decides nothing.

use std::hash::Hasher as _;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rampart_engine::flag::{Asker, Reason};
use serde::Serialize;
use serde_json::{Map, Value};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::events::{self, EventStream};
use super::meta::Name;
use super::openapi::Failing;
use super::{Api, now};
use crate::head::Head;
use crate::model::{Flag, Kind};

/// One flag.
#[utoipa::path(
    post, path = "/ofrep/v1/evaluate/flags/{*key}", tag = "openfeature",
    params(("key" = String, Path, description = "The flag's key")),
    request_body(content = Object),
    responses((status = 200, body = Object), Failing),
)]
pub(super) async fn one(
    State(api): State<Api>,
    Name(key): Name,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let head = api.writer.head();
    let context = Context::read(body).map_err(|failure| failure.about(&key))?;
    let flag = head.state.flags.get(&key).ok_or_else(|| Failure::missing(&head, &key))?;
    Ok(axum::Json(evaluate(&head, flag, &context.asker())?).into_response())
}

/// All flags. The tag is a hash of the answer and not the revision: the answer depends on the
/// context, and on the clock where names expire.
#[utoipa::path(
    post, path = "/ofrep/v1/evaluate/flags", tag = "openfeature",
    params(("If-None-Match" = Option<String>, Header, description = "The tag of an answer that is held")),
    request_body(content = Object),
    responses((status = 200, body = Object), Failing),
)]
pub(super) async fn all(
    State(api): State<Api>,
    headers: HeaderMap,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    events::reached(&api, &uri).await;
    let head = api.writer.head();
    let context = Context::read(body)?;
    let asker = context.asker();
    let flags = head.state.flags.values().map(|flag| evaluate(&head, flag, &asker).into());
    let bytes = serde_json::to_vec(&All { flags: flags.collect(), event_streams: [EventStream::default()] })
        .map_err(|error| {
            Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::General,
                format!("no answer can be written: {error}"),
            )
        })?;
    let mut hasher = SipHasher13::new();
    hasher.write(&bytes);
    let tag = format!("\"{:032x}\"", hasher.finish128().as_u128());
    let known = is_known(&headers, &tag);
    let tag = (header::ETAG, tag);
    if known {
        return Ok((StatusCode::NOT_MODIFIED, [tag]).into_response());
    }
    Ok(([(header::CONTENT_TYPE, "application/json".to_owned()), tag], bytes).into_response())
}

/// Whether the client holds the answer of this tag (RFC 9110 §13.1.2: the weak comparison).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH).into_iter().map(HeaderValue::to_str);
    let held = lists.flatten().flat_map(|list| list.split(',')).map(str::trim);
    held.map(|held| held.strip_prefix("W/").unwrap_or(held)).any(|held| held == "*" || held == tag)
}

/// The members of an evaluation context that the engine looks at.
struct Context {
    organisation: String,
    subject: Option<String>,
    request_id: Option<String>,
}

impl Context {
    fn read(body: Result<Bytes, BytesRejection>) -> Result<Self, Failure> {
        let bytes = body.map_err(|error| Failure::new(error.status(), Code::General, error.body_text()))?;
        let body = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::bad(Code::ParseError, format!("the body is no JSON: {error}")))?;
        let Value::Object(mut body) = body else {
            return Err(Failure::bad(
                Code::ParseError,
                "the body is no JSON object: send {\"context\": {\"targetingKey\": …}}",
            ));
        };
        let mut context = match body.remove("context") {
            None => Map::new(),
            Some(Value::Object(context)) => context,
            Some(_) => return Err(Failure::bad(Code::InvalidContext, "`context` is no JSON object")),
        };
        Ok(Self {
            organisation: text(&mut context, "targetingKey")?.ok_or_else(|| {
                Failure::bad(
                    Code::TargetingKeyMissing,
                    "the context has no `targetingKey`: name the organisation there",
                )
            })?,
            subject: text(&mut context, "subject")?,
            request_id: text(&mut context, "requestId")?,
        })
    }

    /// Who asks, and that it is now: for all flags of one answer the same.
    fn asker(&self) -> Asker<'_> {
        Asker {
            organisation: Some(&self.organisation),
            subject: self.subject.as_deref(),
            request_id: self.request_id.as_deref(),
            now: now(),
        }
    }
}

/// A member of the context. An empty one is as if there were none, as to the engine.
fn text(context: &mut Map<String, Value>, member: &str) -> Result<Option<String>, Failure> {
    match context.remove(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => Err(Failure::bad(Code::InvalidContext, format!("`{member}` of the context is no string"))),
    }
}

/// A flag as the engine sees it, in the protocol's words; docs/openfeature.md has the mapping.
fn evaluate<'a>(head: &'a Head, flag: &'a Flag, asker: &Asker<'_>) -> Result<Success<'a>, Failure> {
    let flags = &head.policy.flags;
    let id = flags.find(&flag.key).ok_or_else(|| Failure::missing(head, &flag.key))?;
    let found = flags.evaluate(id, asker);
    let reason = match found.reason {
        Reason::Error => {
            let details = "the flag, or one that it needs, goes by request: name the request in the context's `requestId`";
            return Err(Failure::bad(Code::InvalidContext, details).about(&flag.key));
        }
        // The protocol has no DEFAULT. With an organisation it is a prerequisite, which is a rule.
        Reason::Default => Reason::TargetingMatch,
        reason => reason,
    };
    let variant = found.variant.unwrap_or(if found.value { "on" } else { "off" });
    let value = if flag.variants.is_empty() { found.value.into() } else { variant.into() };
    let metadata = Metadata { revision: head.revision };
    Ok(Success { key: &flag.key, value, reason, variant, metadata })
}

/// The protocol's `bulkEvaluationSuccess`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct All<'a> {
    flags: Vec<Evaluated<'a>>,
    event_streams: [EventStream; 1],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Evaluated<'a> {
    Success(Success<'a>),
    Failure(Failure),
}

impl<'a> From<Result<Success<'a>, Failure>> for Evaluated<'a> {
    fn from(evaluated: Result<Success<'a>, Failure>) -> Self {
        evaluated.map_or_else(Self::Failure, Self::Success)
    }
}

/// The protocol's `evaluationSuccess`. A value is always there: without one the client's own default
/// would hold, also for a flag that is killed.
#[derive(Serialize)]
struct Success<'a> {
    key: &'a str,
    value: Value,
    reason: Reason,
    variant: &'a str,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    revision: u64,
}

/// The protocol's `evaluationFailure`, and `bulkEvaluationFailure` where there is no key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    #[serde(skip)]
    status: StatusCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    error_code: Code,
    error_details: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Code {
    ParseError,
    FlagNotFound,
    TargetingKeyMissing,
    InvalidContext,
    General,
}

impl Failure {
    fn new(status: StatusCode, error_code: Code, details: impl Into<String>) -> Self {
        Self { status, key: None, error_code, error_details: details.into() }
    }

    fn bad(error_code: Code, details: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error_code, details)
    }

    fn missing(head: &Head, key: &str) -> Self {
        let refusal = head.state.missing(Kind::Flag, key);
        Self::new(StatusCode::NOT_FOUND, Code::FlagNotFound, refusal.to_string()).about(key)
    }

    fn about(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self)).into_response()
    }
}
