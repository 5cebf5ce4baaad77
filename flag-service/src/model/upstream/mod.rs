//! How a module's endpoints are reached, which of them are left out, and how much they are asked to bear.
//! It says what a manifest may say, and knows nothing of Envoy's messages.

mod check;
mod fallback;
mod headers;
mod limits;
mod tls;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(super) use check::check;
pub use fallback::Fallback;
pub use headers::Headers;
pub use limits::{Per, Rate, RateLimit};
pub use tls::{ClientCertificate, Tls};

/// What follows from a manifest about a module's endpoints. Where it says nothing, it is as ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// How long a connection may take to come about; 1,000 where unset.
    pub connect_timeout_ms: Option<u32>,
    /// What is spoken with the endpoints.
    pub protocol: Protocol,
    /// How connections are encrypted, and who may answer them.
    pub tls: Option<Tls>,
    /// How endpoints are asked whether they are well.
    pub health_check: Option<HealthCheck>,
    /// When an endpoint is left out for what it answered.
    pub outlier_detection: Option<OutlierDetection>,
    /// How much each Envoy asks of all endpoints at once.
    pub circuit_breakers: Option<CircuitBreakers>,
    /// Headers that endpoints see other than they were sent.
    pub request_headers: Headers,
    /// Headers that callers see other than they were sent.
    pub response_headers: Headers,
}

/// What is spoken with a module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, from the first byte on: gRPC needs it.
    Http2,
    /// What the endpoint prefers of the two, by ALPN: it takes `tls`.
    Auto,
}

impl Protocol {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How endpoints are asked whether they are well: by exactly one of `http`, `grpc` and `tcp`. One that
/// fails gets no requests until it is well again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// By a request of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// By `grpc.health.v1.Health`: it takes `protocol: http2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcCheck>,
    /// By a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// How often each Envoy asks.
    #[serde(default = "five_seconds")]
    pub interval_ms: u32,
    /// How long an answer may take.
    #[serde(default = "a_second")]
    pub timeout_ms: u32,
    /// Failures in a row after which an endpoint is left out.
    #[serde(default = "three")]
    pub unhealthy_threshold: u32,
    /// Successes in a row after which it is taken again.
    #[serde(default = "one")]
    pub healthy_threshold: u32,
}

/// A GET request that tells whether an endpoint is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// Such as `/healthz`.
    pub path: String,
    /// The `host` header. Unset: the endpoint's own host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Statuses that mean "well".
    #[serde(default = "ok")]
    pub expected_statuses: Vec<u16>,
}

/// A gRPC call that tells whether an endpoint is well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcCheck {
    /// The service that is asked for. Empty: the whole server.
    #[serde(default)]
    pub service: String,
}

/// A connection that tells that an endpoint is well by coming about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpCheck {}

/// When an endpoint is left out for a while, for what it answered; the longer, the more often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutlierDetection {
    /// Answers of 5xx in a row, failed connections and broken streams among them.
    #[serde(default = "five")]
    pub consecutive_5xx: u32,
    /// The same of 502, 503 and 504 alone. Unset: they count only as 5xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_failures: Option<u32>,
    /// How often it is seen to who may come back.
    #[serde(default = "ten_seconds")]
    pub interval_ms: u32,
    /// How long it is left out the first time; the second time twice as long, and so on.
    #[serde(default = "thirty_seconds")]
    pub base_ejection_ms: u32,
    /// How many of the endpoints may be left out at once. Unset: 50, or all where there is a fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection_percent: Option<u32>,
}

/// How much each Envoy asks of all endpoints of a module at once; what is more gets 503 at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreakers {
    /// Connections. Unset: 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection. Unset: 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pending_requests: Option<u32>,
    /// Requests. Unset: 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// Retries. Unset, and without `retry_budget`: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Retries, as a part of the requests that are open; in place of `max_retries`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
}

/// How many retries there may be at once, by how many requests there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBudget {
    /// Of the open requests.
    #[serde(default = "twenty")]
    pub percent: u32,
    /// As many are always allowed.
    #[serde(default = "three")]
    pub min_concurrency: u32,
}

fn ok() -> Vec<u16> {
    vec![200]
}

const fn one() -> u32 {
    1
}

const fn three() -> u32 {
    3
}

const fn five() -> u32 {
    5
}

const fn twenty() -> u32 {
    20
}

const fn a_second() -> u32 {
    1_000
}

const fn five_seconds() -> u32 {
    5_000
}

const fn ten_seconds() -> u32 {
    10_000
}

const fn thirty_seconds() -> u32 {
    30_000
}
