//! The route configuration. Its routes name no module: the filter chooses the cluster per request, so a
//! change of dispatch never needs new ones.

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HashPolicy, RequestMirrorPolicy, hash_policy,
};
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_match,
};
use envoy_types::pb::google::protobuf::Any;

use super::{NAME, limits, pack, seconds};
use crate::published::Published;

/// Names the cluster of a request; written by the filter, read by the route, sent to nobody.
pub(super) const CLUSTER_HEADER: &str = "x-rampart-cluster";
/// Names the cluster that gets a copy, likewise.
const MIRROR_HEADER: &str = "x-rampart-mirror";
/// What the load balancer hashes: Envoy's own name for filter state that it can hash.
const HASH_KEY: &str = "envoy.hashable_string";

pub(super) fn routes(published: &Published) -> Any {
    let policy = &published.policy;
    let modules = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::ClusterHeader(CLUSTER_HEADER.to_owned())),
        // Only a cluster that hashes asks for it; where the filter has set nothing, it finds none.
        hash_policy: vec![HashPolicy {
            policy_specifier: Some(hash_policy::PolicySpecifier::FilterState(hash_policy::FilterState {
                key: HASH_KEY.to_owned(),
            })),
            ..HashPolicy::default()
        }],
        ..action()
    };
    let legacy = policy.legacy_cluster.as_ref().map(|cluster| RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.clone())),
        ..action()
    });
    let mirrored = RouteAction {
        // With an unknown cluster in the header, nothing is copied.
        request_mirror_policies: vec![RequestMirrorPolicy {
            cluster_header: MIRROR_HEADER.to_owned(),
            ..RequestMirrorPolicy::default()
        }],
        ..modules.clone()
    };
    // By headers and not by the path: a module may see another path than the client sent. A route of
    // its own for copies, because the others need not pay for looking. The third is for a path of the
    // modules' that nobody has judged, which must not end at `/`.
    let mut routes = vec![
        to("mirrored", Match::Header(MIRROR_HEADER), mirrored),
        to("judged", Match::Header(CLUSTER_HEADER), modules.clone()),
        to("modules", Match::Prefix("/api/v1/modules/"), modules),
    ];
    routes.extend(legacy.map(|action| to("legacy", Match::Prefix("/"), action)));
    pack(&RouteConfiguration {
        name: NAME.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: NAME.to_owned(),
            domains: vec!["*".to_owned()],
            routes,
            typed_per_filter_config: limits::limits(&published.limits),
            ..VirtualHost::default()
        }],
        // Not the mirror's: the router removes these before it looks for where copies go.
        request_headers_to_remove: vec![CLUSTER_HEADER.to_owned()],
        ..RouteConfiguration::default()
    })
}

/// Envoy's default timeout of 15 s counts to the end of the response and would cut streams. An
/// idle stream is ended by the listener's `stream_idle_timeout`; a module that needs less than
/// that is given it per request.
fn action() -> RouteAction {
    RouteAction { timeout: seconds(0), ..RouteAction::default() }
}

/// What a route is for.
enum Match {
    /// Paths.
    Prefix(&'static str),
    /// Requests with a header that only the filter can have set, whatever their path.
    Header(&'static str),
}

fn to(name: &str, matched: Match, action: RouteAction) -> Route {
    let (prefix, header) = match matched {
        Match::Prefix(prefix) => (prefix, None),
        Match::Header(header) => ("/", Some(header)),
    };
    let present = |header: &str| HeaderMatcher {
        name: header.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..HeaderMatcher::default()
    };
    Route {
        name: name.to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Prefix(prefix.to_owned())),
            headers: header.map(present).into_iter().collect(),
            ..RouteMatch::default()
        }),
        action: Some(route::Action::Route(action)),
        ..Route::default()
    }
}
