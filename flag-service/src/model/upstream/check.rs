//! What a manifest may not say of its endpoints, since Envoy would refuse it or nothing would be served.

use std::ops::RangeInclusive;

use super::super::change::malformed;
use super::super::{Module, Refusal};
use super::{
    CircuitBreakers, HealthCheck, HttpCheck, OutlierDetection, Protocol, TrafficPolicy, fallback, headers,
    limits, tls,
};

/// A millisecond to a day, for what people wait for.
const UP_TO_A_DAY: RangeInclusive<u32> = 1..=86_400_000;
/// For what one attempt waits for.
const UP_TO_A_MINUTE: RangeInclusive<u32> = 1..=60_000;
/// For what is done again and again, by every Envoy.
const EVERY: RangeInclusive<u32> = 100..=3_600_000;
const IN_A_ROW: RangeInclusive<u32> = 1..=1_000;
const PERCENT: RangeInclusive<u32> = 1..=100;
const SOME: RangeInclusive<u32> = 1..=u32::MAX;

pub(in super::super) fn check(module: &Module) -> Result<(), Refusal> {
    match &module.cluster {
        None if module.endpoints.is_empty() => {
            return Err(malformed(
                "endpoints",
                "a module runs somewhere: at least one host:port, or a `cluster`",
            ));
        }
        Some(_) if !module.endpoints.is_empty() => {
            let problem = "a module has `endpoints`, or a `cluster` that Envoy has already, and not both";
            return Err(malformed("cluster", problem));
        }
        Some(_) if module.upstream().traffic != TrafficPolicy::default() => {
            let problem = "how its endpoints are reached is for whoever defines the cluster to say: leave away \
                           `protocol`, `tls`, `connect_timeout_ms`, `health_check`, `outlier_detection`, \
                           `circuit_breakers`, `request_headers` and `response_headers`";
            return Err(malformed("cluster", problem));
        }
        Some(cluster) if Module::of_cluster(cluster).is_some() => {
            return Err(malformed("cluster", "`module/…` are the clusters that the flag service pushes"));
        }
        _ => {}
    }
    if let Some(timeout) = module.connect_timeout_ms {
        within("connect_timeout_ms", timeout, UP_TO_A_MINUTE)?;
    }
    if let Some(tls) = &module.tls {
        tls::check(tls, module)?;
    } else if module.protocol == Protocol::Auto {
        return Err(malformed("protocol", "`auto` is agreed on by ALPN, which takes `tls`"));
    }
    module.health_check.as_ref().map_or(Ok(()), |check| health_check(check, module.protocol))?;
    module.outlier_detection.as_ref().map_or(Ok(()), outlier_detection)?;
    module.circuit_breakers.as_ref().map_or(Ok(()), circuit_breakers)?;
    module.rate_limit.as_ref().map_or(Ok(()), limits::check)?;
    headers::check(module)?;
    fallback::check(module)
}

fn health_check(check: &HealthCheck, protocol: Protocol) -> Result<(), Refusal> {
    match (&check.http, &check.grpc, &check.tcp) {
        (Some(http), None, None) => http_check(http)?,
        (None, Some(_), None) if protocol != Protocol::Http2 => {
            return Err(malformed("health_check.grpc", "gRPC takes `protocol: http2`"));
        }
        (None, Some(_), None) | (None, None, Some(_)) => {}
        _ => return Err(malformed("health_check", "exactly one of `http`, `grpc` and `tcp` is expected")),
    }
    within("health_check.interval_ms", check.interval_ms, EVERY)?;
    within("health_check.timeout_ms", check.timeout_ms, UP_TO_A_MINUTE)?;
    within("health_check.unhealthy_threshold", check.unhealthy_threshold, IN_A_ROW)?;
    within("health_check.healthy_threshold", check.healthy_threshold, IN_A_ROW)
}

fn http_check(check: &HttpCheck) -> Result<(), Refusal> {
    let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !check.path.starts_with('/') || check.path.contains('#') || !printable(&check.path) {
        return Err(malformed("health_check.http.path", "a path is expected, such as `/healthz`"));
    }
    if check.host.as_ref().is_some_and(|host| host.is_empty() || host.contains('/') || !printable(host)) {
        return Err(malformed("health_check.http.host", "a host is expected, as a client would send it"));
    }
    if check.expected_statuses.is_empty() {
        return Err(malformed("health_check.http.expected_statuses", "no status would mean that it is well"));
    }
    for (at, status) in check.expected_statuses.iter().enumerate() {
        let field = format!("health_check.http.expected_statuses[{at}]");
        // Envoy takes no status below 100, and none of 1xx is a final one.
        within(&field, u32::from(*status), 200..=599)?;
    }
    Ok(())
}

fn outlier_detection(detection: &OutlierDetection) -> Result<(), Refusal> {
    within("outlier_detection.consecutive_5xx", detection.consecutive_5xx, IN_A_ROW)?;
    if let Some(failures) = detection.consecutive_gateway_failures {
        within("outlier_detection.consecutive_gateway_failures", failures, IN_A_ROW)?;
    }
    within("outlier_detection.interval_ms", detection.interval_ms, EVERY)?;
    within("outlier_detection.base_ejection_ms", detection.base_ejection_ms, UP_TO_A_DAY)?;
    detection
        .max_ejection_percent
        .map_or(Ok(()), |percent| within("outlier_detection.max_ejection_percent", percent, PERCENT))
}

fn circuit_breakers(breakers: &CircuitBreakers) -> Result<(), Refusal> {
    for (member, limit) in [
        ("max_connections", breakers.max_connections),
        ("max_pending_requests", breakers.max_pending_requests),
        ("max_requests", breakers.max_requests),
    ] {
        limit.map_or(Ok(()), |limit| within(&format!("circuit_breakers.{member}"), limit, SOME))?;
    }
    let Some(budget) = &breakers.retry_budget else { return Ok(()) };
    if breakers.max_retries.is_some() {
        let problem = "either `max_retries` or `retry_budget` is expected: Envoy counts by one of them";
        return Err(malformed("circuit_breakers.max_retries", problem));
    }
    within("circuit_breakers.retry_budget.percent", budget.percent, PERCENT)
}

fn within(field: &str, value: u32, allowed: RangeInclusive<u32>) -> Result<(), Refusal> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (from, to) = allowed.into_inner();
    Err(malformed(field, &format!("{value} is out of range: {from} to {to} is allowed")))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::{Value, json};

    use super::super::super::Refusal;

    /// A module with these members, checked: the field and what is wrong with it.
    fn refused(members: &Value) -> Option<(String, String)> {
        let mut manifest = json!({"id": "orders", "endpoints": ["127.0.0.1:1"]});
        manifest.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        match super::check(&serde_json::from_value(manifest).unwrap()) {
            Ok(()) => None,
            Err(Refusal::Malformed { field, problem }) => Some((field, problem)),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_envoy_would_refuse_is_refused_with_its_field() {
        let http = |path: &str| json!({"http": {"path": path}});
        for (members, field, problem) in [
            (json!({"endpoints": []}), "endpoints", "at least one"),
            (json!({"connect_timeout_ms": 0}), "connect_timeout_ms", "1 to 60000"),
            (json!({"protocol": "auto"}), "protocol", "takes `tls`"),
            (json!({"health_check": {}}), "health_check", "exactly one"),
            (json!({"health_check": {"tcp": {}, "http": {"path": "/"}}}), "health_check", "exactly one"),
            (json!({"health_check": {"grpc": {}}}), "health_check.grpc", "protocol: http2"),
            (json!({"health_check": http("healthz")}), "health_check.http.path", "a path"),
            (json!({"health_check": http("/a b")}), "health_check.http.path", "a path"),
            (
                json!({"health_check": {"http": {"path": "/", "expected_statuses": [200, 99]}}}),
                "health_check.http.expected_statuses[1]",
                "99 is out of range",
            ),
            (json!({"health_check": {"tcp": {}, "interval_ms": 1}}), "health_check.interval_ms", "100 to"),
            (
                json!({"outlier_detection": {"max_ejection_percent": 101}}),
                "outlier_detection.max_ejection_percent",
                "1 to 100",
            ),
            (json!({"circuit_breakers": {"max_requests": 0}}), "circuit_breakers.max_requests", "0 is out"),
            (
                json!({"circuit_breakers": {"max_retries": 1, "retry_budget": {}}}),
                "circuit_breakers.max_retries",
                "either",
            ),
            (json!({"fallback": "legacy"}), "fallback", "add `health_check`"),
            (
                json!({"fallback": "legacy", "health_check": {"tcp": {}}, "rewrite": {"prefix": "/"}}),
                "fallback",
                "`rewrite`",
            ),
            (
                json!({"fallback": "legacy", "health_check": {"tcp": {}}, "response_headers": {"remove": ["a"]}}),
                "fallback",
                "`response_headers`",
            ),
            (
                json!({"fallback": "legacy", "health_check": {"tcp": {}}, "circuit_breakers": {"retry_budget": {}}}),
                "circuit_breakers.retry_budget",
                "max_retries",
            ),
            (json!({"rate_limit": {}}), "rate_limit", "at least one"),
            (json!({"rate_limit": {"total": {"requests": 0, "per": "day"}}}), "rate_limit.total", "1 to"),
            (
                json!({"rate_limit": {"organisations": {"acme": {"requests": 1, "per": "day", "burst": 0}}}}),
                "rate_limit.organisations.acme",
                "1 to",
            ),
            (json!({"request_headers": {"set": {"X-A": "b"}}}), "request_headers.set.X-A", "lower-case"),
            (json!({"request_headers": {"set": {"host": "b"}}}), "request_headers.set.host", "frames"),
            (json!({"request_headers": {"set": {"cookie": "b"}}}), "request_headers.set.cookie", "a secret"),
            (json!({"request_headers": {"set": {"a": "b\n"}}}), "request_headers.set.a", "visible"),
            (
                json!({"response_headers": {"remove": ["x-rampart-organisation"]}}),
                "response_headers.remove[0]",
                "Rampart's",
            ),
            (
                json!({"response_headers": {"set": {"a": "b"}, "remove": ["a"]}}),
                "response_headers.remove[0]",
                "it is set",
            ),
            (json!({"tls": {"ca_file": "/ca.pem"}}), "tls.server_name", "do not share one"),
            (json!({"tls": {"server_name": "a_b.", "ca_file": "/ca"}}), "tls.server_name", "no DNS name"),
            (json!({"tls": {"server_name": "a.test"}}), "tls", "either `ca` or `ca_file`"),
            (json!({"tls": {"server_name": "a.test", "ca_file": "ca.pem"}}), "tls.ca_file", "absolute"),
            (json!({"tls": {"server_name": "a.test", "ca": "nothing"}}), "tls.ca", "no certificate"),
            (
                json!({"tls": {"server_name": "a.test", "ca": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"}}),
                "tls.ca",
                "certificate 1 does not parse",
            ),
        ] {
            let (at, said) = refused(&members).unwrap_or_else(|| panic!("{members} is taken"));
            assert!(at == field && said.contains(problem), "{members}: {at}: {said}");
        }
    }

    #[test]
    fn what_envoy_takes_is_taken() {
        let key = KeyPair::generate().unwrap();
        let ca = CertificateParams::default().self_signed(&key).unwrap().pem();
        for members in [
            json!({"protocol": "auto", "tls": {"server_name": "a.test", "ca": ca}}),
            json!({"endpoints": ["a.test:1", "a.test:2"], "tls": {"ca_file": "/ca.pem"}}),
            json!({"tls": {"subject_alt_names": ["spiffe://test/orders"], "ca_file": "/ca.pem"}}),
            json!({"protocol": "http2", "health_check": {"grpc": {}}}),
            json!({"health_check": {"tcp": {}}, "outlier_detection": {}, "circuit_breakers": {}}),
            json!({"rate_limit": {"per_organisation": {"requests": 1, "per": "day", "burst": 5}}}),
            json!({"request_headers": {"set": {"x-a": "100 % of it"}, "remove": ["authorization"]}}),
        ] {
            assert_eq!(refused(&members), None, "{members}");
        }
    }
}
