//! A listener and its chain of filters. It depends on no revision, so that no change of flags or modules
//! drains a connection.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::accesslog::v3::{AccessLogFilter, ComparisonFilter, ResponseFlagFilter, StatusCodeFilter, access_log_filter, comparison_filter};
use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, ExtensionConfigSource, RuntimeUInt32, SubstitutionFormatString, TypedExtensionConfig, data_source, substitution_format_string,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation, UpgradeConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, LocalReplyConfig, Rds, ResponseMapper, http_filter,
};
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use envoy_types::pb::google::protobuf::{Any, BoolValue, UInt32Value};
use prost::Name;
use rampart_engine::decision::{Reason, Refusal};
use rampart_engine::request::PRIVATE_HEADERS;

use super::{NAME, address, ads, guard, limits, logs, pack, seconds};

/// Why a request gets 429, in the reply.
const RATE_LIMITED: &str = "rate_limited";

/// Envoy's response flag where a filter's configuration has not come.
const NO_FILTER_CONFIG: &str = "NFCF";

/// The listener of this name. Whoever comes to it, the rules are the same.
pub(super) fn listener(name: &str, listen: SocketAddr) -> Any {
    pack(&Listener {
        name: name.to_owned(),
        address: Some(address(listen.ip().to_string(), listen.port())),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(filter::ConfigType::TypedConfig(pack(&connection_manager(name)))),
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    })
}

fn connection_manager(name: &str) -> HttpConnectionManager {
    HttpConnectionManager {
        // Counted apart: `http.rampart_internal.…`.
        stat_prefix: name.to_owned(),
        // The filter and the upstream must see the same path, or `/a/../b` is judged as one module
        // and served by another.
        normalize_path: Some(BoolValue { value: true }),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::RejectRequest.into(),
        // Clients see the upstream's own `server` header.
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        // Long polls and quiet WebSockets live; an abandoned stream still ends.
        stream_idle_timeout: seconds(3600),
        // A client that sends its headers byte by byte does not hold a stream.
        request_headers_timeout: seconds(30),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        early_header_mutation_extensions: vec![TypedExtensionConfig {
            name: "envoy.http.early_header_mutation.header_mutation".to_owned(),
            typed_config: Some(pack(&EarlyHeaderMutation { mutations: remove_private() })),
        }],
        access_log: vec![logs::lines(), logs::stats()],
        local_reply_config: Some(LocalReplyConfig {
            mappers: vec![without_filter(), too_many()],
            ..LocalReplyConfig::default()
        }),
        http_filters: vec![
            discovered_filter(),
            guard::guard(),
            // Switched on by the route configuration, where modules have limits.
            HttpFilter { disabled: true, ..http_filter(limits::FILTER, limits::nothing()) },
            http_filter(
                "envoy.filters.http.router",
                // What Envoy would add to a response, no client asked for.
                pack(&Router { suppress_envoy_headers: true, ..Router::default() }),
            ),
        ],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: NAME.to_owned(),
        })),
        ..HttpConnectionManager::default()
    }
}

/// No header that only Rampart may set survives from a client, whether or not the filter runs
/// afterwards. By prefixes and no regular expression: every header of every request is held against
/// them.
fn remove_private() -> Vec<HeaderMutation> {
    let remove = |prefix: &str| {
        let prefix = string_matcher::MatchPattern::Prefix(prefix.to_owned());
        let key_matcher = Some(StringMatcher { match_pattern: Some(prefix), ..StringMatcher::default() });
        let remove = header_mutation::RemoveOnMatch { key_matcher };
        HeaderMutation { action: Some(header_mutation::Action::RemoveOnMatch(remove)) }
    };
    PRIVATE_HEADERS.map(remove).into()
}

/// Where the filter's configuration has not come, or was never accepted, Envoy would answer 500 with
/// no word. What the filter says without a policy is as true here.
fn without_filter() -> ResponseMapper {
    let reply = Refusal::new(Reason::NoPolicy).reply();
    let missing = ResponseFlagFilter { flags: vec![NO_FILTER_CONFIG.to_owned()] };
    let mapper = problem(access_log_filter::FilterSpecifier::ResponseFlagFilter(missing), &reply.body);
    ResponseMapper { status_code: Some(UInt32Value { value: reply.status.into() }), ..mapper }
}

/// Where a module takes no more requests. Envoy's words for it are two, and no JSON.
fn too_many() -> ResponseMapper {
    let status = StatusCodeFilter {
        comparison: Some(ComparisonFilter {
            op: comparison_filter::Op::Eq.into(),
            value: Some(RuntimeUInt32 { default_value: 429, runtime_key: "rampart.too_many".to_owned() }),
        }),
    };
    let body = serde_json::json!({
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "reason": RATE_LIMITED,
        "detail": "the module takes no more requests for now",
    });
    problem(access_log_filter::FilterSpecifier::StatusCodeFilter(status), &format!("{body}\n"))
}

/// A problem (RFC 9457) in place of what Envoy answers itself.
fn problem(filter: access_log_filter::FilterSpecifier, body: &str) -> ResponseMapper {
    let text = |text: &str| DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
        ..DataSource::default()
    };
    let format = SubstitutionFormatString {
        content_type: "application/problem+json".to_owned(),
        format: Some(substitution_format_string::Format::TextFormatSource(text("%LOCAL_REPLY_BODY%"))),
        ..SubstitutionFormatString::default()
    };
    ResponseMapper {
        filter: Some(AccessLogFilter { filter_specifier: Some(filter) }),
        body: Some(text(body)),
        body_format_override: Some(format),
        ..ResponseMapper::default()
    }
}

/// The filter, configured apart (ECDS). It has no default: until its configuration is here, every
/// request is refused.
fn discovered_filter() -> HttpFilter {
    HttpFilter {
        name: NAME.to_owned(),
        config_type: Some(http_filter::ConfigType::ConfigDiscovery(ExtensionConfigSource {
            config_source: Some(ads()),
            type_urls: vec![Wasm::type_url()],
            ..ExtensionConfigSource::default()
        })),
        ..HttpFilter::default()
    }
}

pub(super) fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}
