//! Health checks, outlier detection and circuit breakers, as Envoy's own. It knows no cluster.

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::{Thresholds, thresholds};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3::HealthCheck;
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range, Percent};
use envoy_types::pb::google::protobuf::UInt32Value;

use super::milliseconds;
use crate::model::upstream as said;

/// How many of a module's endpoints may be left out at once where its manifest does not say: Envoy's own
/// default, a tenth, leaves out the first of them and no second.
const MAX_EJECTION_PERCENT: u32 = 50;

pub(super) fn health_check(check: &said::HealthCheck, protocol: said::Protocol) -> HealthCheck {
    let http = |http: &said::HttpCheck| HttpHealthCheck {
        host: http.host.clone().unwrap_or_default(),
        path: http.path.clone(),
        expected_statuses: http.expected_statuses.iter().copied().map(only).collect(),
        codec_client_type: match protocol {
            said::Protocol::Http2 => CodecClientType::Http2,
            said::Protocol::Http1 | said::Protocol::Auto => CodecClientType::Http1,
        }
        .into(),
        ..HttpHealthCheck::default()
    };
    let grpc = |grpc: &said::GrpcCheck| GrpcHealthCheck {
        service_name: grpc.service.clone(),
        ..GrpcHealthCheck::default()
    };
    let by_connection = || HealthChecker::TcpHealthCheck(TcpHealthCheck::default());
    let by_call = check.grpc.as_ref().map(|call| HealthChecker::GrpcHealthCheck(grpc(call)));
    let by_request = check.http.as_ref().map(|request| HealthChecker::HttpHealthCheck(http(request)));
    HealthCheck {
        timeout: milliseconds(check.timeout_ms),
        interval: milliseconds(check.interval_ms),
        // Before its first request, Envoy would ask once a minute: a module that fails then would be
        // found out by its first callers.
        no_traffic_interval: milliseconds(check.interval_ms),
        unhealthy_threshold: number(check.unhealthy_threshold),
        healthy_threshold: number(check.healthy_threshold),
        health_checker: Some(by_request.or(by_call).unwrap_or_else(by_connection)),
        ..HealthCheck::default()
    }
}

fn only(status: u16) -> Int64Range {
    let status = i64::from(status);
    Int64Range { start: status, end: status + 1 }
}

/// Only what the manifest counts leaves anybody out: Envoy would also compare endpoints with each other.
pub(super) fn outlier_detection(detection: &said::OutlierDetection, falls_back: bool) -> OutlierDetection {
    let at_most = detection.max_ejection_percent;
    let at_most = at_most.unwrap_or(if falls_back { 100 } else { MAX_EJECTION_PERCENT });
    let gateway = detection.consecutive_gateway_failures;
    OutlierDetection {
        consecutive_5xx: number(detection.consecutive_5xx),
        consecutive_gateway_failure: gateway.and_then(number),
        enforcing_consecutive_gateway_failure: gateway.and_then(|_| number(100)),
        interval: milliseconds(detection.interval_ms),
        base_ejection_time: milliseconds(detection.base_ejection_ms),
        max_ejection_percent: number(at_most),
        enforcing_success_rate: number(0),
        ..OutlierDetection::default()
    }
}

pub(super) fn circuit_breakers(breakers: &said::CircuitBreakers) -> CircuitBreakers {
    let limit = |limit: Option<u32>| limit.and_then(number);
    let budget = |budget: &said::RetryBudget| thresholds::RetryBudget {
        budget_percent: Some(Percent { value: budget.percent.into() }),
        min_retry_concurrency: number(budget.min_concurrency),
        ..thresholds::RetryBudget::default()
    };
    let thresholds = Thresholds {
        max_connections: limit(breakers.max_connections),
        max_pending_requests: limit(breakers.max_pending_requests),
        max_requests: limit(breakers.max_requests),
        max_retries: limit(breakers.max_retries),
        retry_budget: breakers.retry_budget.as_ref().map(budget),
        ..Thresholds::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..CircuitBreakers::default() }
}

#[expect(clippy::unnecessary_wraps, reason = "every field that takes it is optional")]
pub(super) const fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}
