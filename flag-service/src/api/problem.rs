//! The one shape of every refusal: RFC 9457, with the fields that are wrong.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rampart_engine::policy;
use serde::Serialize;
use utoipa::ToSchema;

use crate::conflict::Conflict;
use crate::model::Refusal;
use crate::store::StoreError;
use crate::writer::WriteError;

/// `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Problem {
    r#type: &'static str,
    /// What the status means
    title: &'static str,
    status: u16,
    /// What was wrong, and what to do
    detail: String,
    /// One word for it, where programs are to know it
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Each field that is wrong, where it is about fields
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
    /// Both sides, where somebody else has changed what was to be changed
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<Box<Conflict>>,
}

/// What is wrong, or odd, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldProblem {
    /// Its place within what was sent; of another resource, in the policy
    pub(super) field: String,
    /// What is wrong, and what would be right
    pub(super) problem: String,
    /// The line of the body that does not read, from 1
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u64>,
    /// The column
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) column: Option<u64>,
}

impl From<policy::Problem> for FieldProblem {
    fn from(policy::Problem { field, problem }: policy::Problem) -> Self {
        Self { field, problem, line: None, column: None }
    }
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            reason: None,
            errors: Vec::new(),
            conflict: None,
        }
    }

    pub(super) fn with(mut self, errors: impl IntoIterator<Item = FieldProblem>) -> Self {
        self.errors = errors.into_iter().collect();
        self
    }

    /// Adds the word that programs know it by.
    pub(super) const fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Adds what to do about this status.
    pub(super) fn advise(mut self, status: StatusCode, todo: &str) -> Self {
        if self.status == status.as_u16() {
            self.detail = format!("{}; {todo}", self.detail);
        }
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let media_type = header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing { .. } => Self::new(StatusCode::NOT_FOUND, refusal.to_string()),
            Refusal::Malformed { field, problem } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "what was sent is malformed")
                    .with([policy::Problem { field, problem }.into()])
            }
            Refusal::Several(problems) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "what was sent is malformed")
                    .with(problems.into_iter().map(FieldProblem::from))
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        let status = match error {
            // Waiting does not help: what is asked to be proved contradicts what is there.
            StoreError::Altered(_) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        match error {
            WriteError::Conflict(conflict) => {
                Self { conflict: Some(conflict), ..Self::new(StatusCode::CONFLICT, detail) }
            }
            WriteError::Unconditional(_) => Self::new(StatusCode::PRECONDITION_REQUIRED, detail),
            WriteError::Absent(..) => Self::new(StatusCode::PRECONDITION_FAILED, detail),
            WriteError::Forbidden(..) => Self::new(StatusCode::FORBIDDEN, detail),
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::Exists(_) => Self::new(StatusCode::PRECONDITION_FAILED, detail),
            WriteError::Incomprehensible(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail),
            WriteError::Senseless(problems) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
                .with(problems.into_iter().map(FieldProblem::from)),
            WriteError::KeyReused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            WriteError::NoSuchRevision(_) => Self::new(StatusCode::NOT_FOUND, detail),
            WriteError::Interrupted => Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail),
            WriteError::Store(error) => error.into(),
        }
    }
}
