//! A decision, applied: what the router, the upstream, the access log and the attestation need.
//!
//! Filter state `wasm.rampart.decision` is the attestation: an RBAC filter behind this one lets a
//! request through only if it is there. It is set last, when everything else has been written.

use std::fmt::Write as _;

use proxy_wasm::types::Action;
use rampart_engine::decision::{Arm, FlagOn, Forward, PASS, Place, Refusal};
use rampart_engine::identity::is_header_value;
use rampart_engine::policy::wire::{HashBy, TokenSource};
use rampart_engine::request::{Headers, is_private, without_private};
use rampart_engine::token_source::without_cookie;

use crate::header_map::HeaderMap;
use crate::host;
use crate::metrics;

/// Lets a request pass that is none of ours.
pub(crate) fn pass(headers: &HeaderMap, revision: &str) -> Action {
    finish(strip(headers), PASS, revision)
}

/// Sends a request to its cluster.
pub(crate) fn forward(headers: &HeaderMap, forward: &Forward<'_>, revision: &str) -> Action {
    let mut written = strip(headers);
    let identity = forward.token.as_ref().map(|token| &token.identity);
    let organisation = identity.and_then(|identity| identity.organisation.as_deref()).unwrap_or_default();
    let subject = identity.and_then(|identity| identity.subject.as_deref()).unwrap_or_default();
    let flags = joined(&forward.flags);
    let upstream = [
        ("x-rampart-cluster", forward.cluster),
        ("x-rampart-mirror", forward.mirror.unwrap_or_default()),
        ("x-rampart-module", &forward.place.module.id),
        ("x-rampart-organisation", told(organisation)),
        ("x-rampart-subject", told(subject)),
        ("x-rampart-roles", identity.map_or("", |identity| identity.roles.as_str())),
        ("x-rampart-permissions", identity.map_or("", |identity| identity.permissions.as_str())),
        ("x-rampart-flags", &flags),
        ("x-rampart-module-config", configuration(forward)),
    ];
    for (name, value) in upstream.into_iter().filter(|(_, value)| !value.is_empty()) {
        written &= host::add_request_header(name, value.as_bytes());
    }
    written &= forward.withhold.is_none_or(|source| withhold(headers, source));
    for (name, value) in &forward.headers {
        // Envoy believes these of clients that it takes for internal.
        if headers.first(name).is_some() {
            written &= host::remove_request_header(name.as_bytes());
        }
        written &= host::add_request_header(name, value.as_bytes());
    }
    if let Some(path) = &forward.path {
        // As Envoy's own rewriting tells it; a client's word for it is gone.
        let public = headers.first(":path").unwrap_or_default();
        written &= host::add_request_header("x-envoy-original-path", public);
        written &= host::replace_request_header(":path", path);
    }
    if forward.flag_error {
        metrics::flag_error();
    }
    if forward.record.is_some() && forward.arm == Arm::Module {
        metrics::used(&forward.place.module.id, organisation);
    }
    if forward.place.module.hash_by == Some(HashBy::Organisation) && !organisation.is_empty() {
        // Where the host cannot, the load balancer picks at random: slower for the module, no worse.
        host::set_hash_key(organisation);
    }
    tell_place(forward.place);
    if forward.arm == Arm::Module && forward.cluster != &*forward.place.module.cluster {
        // An effect has chosen it.
        host::set_filter_state("rampart.arm", forward.cluster.as_bytes());
    }
    host::set_filter_state("rampart.organisation", organisation.as_bytes());
    if !flags.is_empty() {
        host::set_filter_state("rampart.flags", flags.as_bytes());
    }
    finish(written, forward.arm.as_str(), revision)
}

/// What the module is told of the caller's organisation. It describes the module: what that replaces knows nothing
/// of it.
fn configuration<'p>(forward: &Forward<'p>) -> &'p str {
    let record = forward.record.filter(|_| forward.arm == Arm::Module);
    record.and_then(|record| record.configuration.as_deref()).unwrap_or_default()
}

/// A name as the upstream is told it: nothing, where it would arrive as another name.
fn told(name: &str) -> &str {
    if is_header_value(name) { name } else { "" }
}

/// The flags that are on, as the upstream is told of them.
fn joined(flags: &[FlagOn<'_>]) -> String {
    let mut joined = String::new();
    for flag in flags {
        let comma = if joined.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(joined, "{comma}{flag}");
    }
    joined
}

/// Takes the token out of the request; whether that worked.
fn withhold(headers: &HeaderMap, source: &TokenSource) -> bool {
    match source {
        TokenSource::Bearer => host::remove_request_header(b"authorization"),
        TokenSource::Header(name) => host::remove_request_header(name.as_bytes()),
        TokenSource::Cookie(name) => {
            let cookies = headers.pairs().filter(|(header, _)| *header == b"cookie");
            let others =
                cookies.map(|(_, value)| without_cookie(value, name)).filter(|value| !value.is_empty());
            let others = others.collect::<Vec<_>>().join(&b"; "[..]);
            let removed = host::remove_request_header(b"cookie");
            removed && (others.is_empty() || host::add_request_header("cookie", &others))
        }
    }
}

/// Answers a request here.
pub(crate) fn refuse(refusal: &Refusal, place: Option<Place<'_>>, revision: &str) -> Action {
    if let Some(place) = place {
        tell_place(place);
    }
    metrics::refused(refusal.reason);
    if let Some(provider) = &refusal.provider {
        metrics::unknown_key(provider);
    }
    if refusal.flag_error {
        metrics::flag_error();
    }
    let reason = refusal.reason.as_str();
    host::set_filter_state("rampart.reason", reason.as_bytes());
    host::set_filter_state("rampart.revision", revision.as_bytes());
    let reply = refusal.reply();
    let headers = HeaderMap::serialise(&reply.headers);
    host::send_local_response(reply.status, reason, &reply.body, &headers, refusal.reason.grpc_status());
    Action::Pause
}

/// Attests the request, if everything that was to be written has been written; else the RBAC
/// filter refuses it.
fn finish(written: bool, decision: &str, revision: &str) -> Action {
    host::set_filter_state("rampart.revision", revision.as_bytes());
    if written {
        host::set_filter_state("rampart.decision", decision.as_bytes());
    }
    Action::Continue
}

fn tell_place(place: Place<'_>) {
    host::set_filter_state("rampart.module", place.module.id.as_bytes());
    host::set_filter_state("rampart.route", place.route.pattern.as_bytes());
}

/// Removes what came from outside about private headers: they themselves, which Envoy has removed
/// before where it is configured as we ask, and the wish that the next hop drop ours. Whether that
/// worked.
fn strip(headers: &HeaderMap) -> bool {
    headers.pairs().all(|(name, value)| match name {
        b"connection" => {
            without_private(value).is_none_or(|others| host::replace_request_header("connection", &others))
        }
        _ => !is_private(name) || host::remove_request_header(name),
    })
}

/// Removes private trailers: servers that merge trailers into headers would take them for ours. Where that
/// fails, the request goes no further.
pub(crate) fn trailers(trailers: &HeaderMap) -> Action {
    let mut private = trailers.pairs().map(|(name, _)| name).filter(|name| is_private(name));
    if private.all(host::remove_request_trailer) { Action::Continue } else { Action::Pause }
}
