//! How Envoy's router is to serve a route's module, compiled: the path that the module sees, and
//! timeouts and retries as the headers by which the router is told of them.

use alloc::{boxed::Box, format, string::String, string::ToString, vec::Vec};

use super::compile::Problems;
use super::wire;
use crate::path;

/// Conditions of `x-envoy-retry-on` that say all by themselves: `retriable-status-codes` and
/// `retriable-headers` need a list of their own.
const RETRY_ON: [&str; 9] = [
    "5xx",
    "gateway-error",
    "reset",
    "retriable-4xx",
    "envoy-ratelimited",
    "connect-failure",
    "refused-stream",
    "reset-before-request",
    "http3-post-connect-failure",
];

/// Conditions of `x-envoy-retry-grpc-on`.
const RETRY_GRPC_ON: [&str; 5] =
    ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"];

/// Those under which no upstream can have acted on the request.
const UNSEEN: [&str; 5] = [
    "envoy-ratelimited",
    "connect-failure",
    "refused-stream",
    "reset-before-request",
    "http3-post-connect-failure",
];

/// RFC 9110 §9.2.2: these may be carried out twice without harm.
pub(crate) const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/// A header for the router, with its value.
pub(super) type RouterHeader = (&'static str, Box<str>);

/// The prefix as it is written before what follows the namespace: without its trailing slash.
pub(super) fn rewrite(sent: Option<&wire::Rewrite>, at: &str, problems: &mut Problems) -> Option<Box<str>> {
    let prefix = &*sent?.prefix;
    let sound = |segment: &str| path::decode_segment(segment.as_bytes()).is_some();
    let below = prefix.strip_prefix('/').filter(|_| prefix.len() <= 1024);
    problems.check(
        &format!("{at}.prefix"),
        below.is_some_and(|below| below.is_empty() || below.split('/').all(sound)),
        "a prefix is `/`, or a path such as `/internal/analytics`: without a slash at its end, dot segments, `;` and query, and of 1024 bytes at most",
    );
    Some(prefix.trim_end_matches('/').into())
}

pub(super) fn check_timeout(sent: Option<u32>, at: &str, problems: &mut Problems) {
    let sound = sent.is_none_or(|sent| sent <= 86_400_000);
    problems.check(
        &format!("{at}.timeout_ms"),
        sound,
        "a timeout is a day (86400000) at most, or 0 for none",
    );
}

pub(super) fn check_retry(sent: Option<&wire::Retry>, at: &str, problems: &mut Problems) {
    let Some(retry) = sent else { return };
    let at = format!("{at}.retry");
    for (index, condition) in retry.on.iter().enumerate() {
        let known = RETRY_ON.contains(&&**condition) || RETRY_GRPC_ON.contains(&&**condition);
        if !known {
            let (http, grpc) = (RETRY_ON.join(", "), RETRY_GRPC_ON.join(", "));
            problems.add(
                &format!("{at}.on[{index}]"),
                format!("Envoy knows no condition `{condition}`, but {http}; for gRPC {grpc}"),
            );
        }
    }
    for (index, condition) in retry.idempotent_on.iter().enumerate() {
        if !RETRY_ON.contains(&&**condition) {
            let http = RETRY_ON.join(", ");
            problems.add(
                &format!("{at}.idempotent_on[{index}]"),
                format!("Envoy knows no condition `{condition}` for HTTP, but {http}"),
            );
        }
    }
    let few = (1..=10).contains(&retry.max_retries);
    problems.check(&format!("{at}.max_retries"), few, "a request is tried again 1 to 10 times");
    let some = retry.per_try_timeout_ms != Some(0);
    problems.check(&format!("{at}.per_try_timeout_ms"), some, "a try needs some time");
}

/// In place of `x-envoy-retry-on`, for methods that may be carried out twice: what holds for all, and more.
pub(super) fn retry_idempotent(retry: Option<&wire::Retry>) -> Option<Box<str>> {
    let retry = retry.filter(|retry| !retry.idempotent_on.is_empty())?;
    let of_all = retry.on.iter().filter(|on| RETRY_ON.contains(&&***on));
    let conditions: Vec<&str> = of_all.chain(&retry.idempotent_on).map(|on| &**on).collect();
    Some(conditions.join(",").into())
}

/// The headers of a route that serves `methods`, all of them if none is named.
pub(super) fn router_headers(
    timeout_ms: Option<u32>,
    retry: Option<&wire::Retry>,
    methods: &[String],
    at: &str,
    problems: &mut Problems,
) -> Vec<RouterHeader> {
    let mut headers: Vec<RouterHeader> = Vec::new();
    if let Some(timeout) = timeout_ms {
        headers.push(("x-envoy-upstream-rq-timeout-ms", timeout.to_string().into()));
    }
    let Some(retry) = retry.filter(|retry| !(retry.on.is_empty() && retry.idempotent_on.is_empty())) else {
        return headers;
    };
    for (name, known) in [("x-envoy-retry-on", &RETRY_ON[..]), ("x-envoy-retry-grpc-on", &RETRY_GRPC_ON)] {
        let conditions: Vec<&str> = retry.on.iter().map(|on| &**on).filter(|on| known.contains(on)).collect();
        if !conditions.is_empty() {
            headers.push((name, conditions.join(",").into()));
        }
    }
    headers.push(("x-envoy-max-retries", retry.max_retries.to_string().into()));
    if let Some(per_try) = retry.per_try_timeout_ms {
        let sooner = timeout_ms.is_none_or(|timeout| timeout == 0 || per_try < timeout);
        problems.check(
            &format!("{at}.retry.per_try_timeout_ms"),
            sooner,
            "one try must end before the route's `timeout_ms`, or Envoy ignores it",
        );
        headers.push(("x-envoy-upstream-rq-per-try-timeout-ms", per_try.to_string().into()));
    }
    let acted = retry.on.iter().find(|on| !UNSEEN.contains(&&***on));
    let repeatable = !methods.is_empty() && methods.iter().all(|method| IDEMPOTENT.contains(&&**method));
    if let (Some(condition), false) = (acted, repeatable) {
        problems.warn(
            &format!("{at}.retry"),
            format!("after `{condition}` a POST may be carried out twice; name the route's methods, or conditions under which no upstream has seen it"),
        );
    }
    headers
}
