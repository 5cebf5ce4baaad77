//! Rate limits, as Envoy's own. They stand in the route configuration, which changes without a connection
//! being lost, and the listener has the filter switched off: who limits nothing pays nothing.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::rate_limit::Action;
use envoy_types::pb::envoy::config::route::v3::rate_limit::action::{
    ActionSpecifier, HeaderValueMatch, RequestHeaders,
};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, RateLimit};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::LocalRateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, TokenBucket};
use envoy_types::pb::google::protobuf::{Any, BoolValue};

use super::routes::CLUSTER_HEADER;
use super::traffic::number;
use super::{NAME, pack, seconds};
use crate::model::LEGACY;
use crate::model::upstream as said;

/// The filter's name, in the listener and in the route configuration.
pub(super) const FILTER: &str = "envoy.filters.http.local_ratelimit";

/// Organisations of one module that are counted at once; beyond it, who has not asked for the longest begins
/// anew.
const COUNTED: u32 = 10_000;

/// What a descriptor says first: that the module itself serves.
const SERVED: (&str, &str) = ("served_by", "module");
const MODULE: &str = "module";
const ORGANISATION: &str = "organisation";

/// The filter as the listener has it: it limits nothing.
pub(super) fn nothing() -> Any {
    pack(&LocalRateLimit { stat_prefix: NAME.to_owned(), ..LocalRateLimit::default() })
}

/// The filter's configuration for these modules; none where they have no limits.
pub(super) fn limits(limits: &[(String, said::RateLimit)]) -> HashMap<String, Any> {
    if limits.is_empty() {
        return HashMap::new();
    }
    let always = || {
        Some(RuntimeFractionalPercent {
            default_value: Some(FractionalPercent { numerator: 100, ..FractionalPercent::default() }),
            ..RuntimeFractionalPercent::default()
        })
    };
    let filter = LocalRateLimit {
        stat_prefix: NAME.to_owned(),
        filter_enabled: always(),
        filter_enforced: always(),
        // Required, and for requests that no descriptor is of: it is never empty.
        token_bucket: Some(TokenBucket {
            max_tokens: u32::MAX,
            tokens_per_fill: number(u32::MAX),
            fill_interval: seconds(1),
        }),
        always_consume_default_token_bucket: Some(BoolValue { value: false }),
        rate_limited_as_resource_exhausted: true,
        enable_retry_after_header: true,
        max_dynamic_descriptors: number(COUNTED),
        // Two descriptors of each request, each with a bucket of its own where there is one.
        rate_limits: vec![
            RateLimit { actions: vec![served(), header("x-rampart-module", MODULE)], ..RateLimit::default() },
            RateLimit {
                actions: vec![
                    served(),
                    header("x-rampart-module", MODULE),
                    header("x-rampart-organisation", ORGANISATION),
                ],
                ..RateLimit::default()
            },
        ],
        descriptors: limits.iter().flat_map(|(module, limit)| descriptors(module, limit)).collect(),
        ..LocalRateLimit::default()
    };
    HashMap::from([(FILTER.to_owned(), pack(&filter))])
}

fn descriptors(module: &str, limit: &said::RateLimit) -> Vec<LocalRateLimitDescriptor> {
    let entry = |(key, value): (&str, &str)| Entry { key: key.to_owned(), value: value.to_owned() };
    let of_module = || vec![entry(SERVED), entry((MODULE, module))];
    let of_organisation = |name: &str| [of_module(), vec![entry((ORGANISATION, name))]].concat();
    let descriptor = |entries, rate: &said::Rate| LocalRateLimitDescriptor {
        entries,
        token_bucket: Some(bucket(rate)),
        ..LocalRateLimitDescriptor::default()
    };
    let total = limit.total.iter().map(|rate| descriptor(of_module(), rate));
    let named = limit.organisations.iter().map(|(name, rate)| descriptor(of_organisation(name), rate));
    // A value that is empty stands for any.
    let each = limit.per_organisation.iter().map(|rate| descriptor(of_organisation(""), rate));
    total.chain(named).chain(each).collect()
}

fn bucket(rate: &said::Rate) -> TokenBucket {
    TokenBucket {
        max_tokens: rate.burst.unwrap_or(rate.requests),
        tokens_per_fill: number(rate.requests),
        fill_interval: seconds(rate.per.seconds()),
    }
}

/// Says that the module serves, and not what it replaces; else there is no descriptor at all.
fn served() -> Action {
    let legacy = StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Exact(LEGACY.to_owned())),
        ..StringMatcher::default()
    };
    let (key, value) = SERVED;
    Action {
        action_specifier: Some(ActionSpecifier::HeaderValueMatch(HeaderValueMatch {
            descriptor_key: key.to_owned(),
            descriptor_value: value.to_owned(),
            expect_match: Some(BoolValue { value: false }),
            headers: vec![HeaderMatcher {
                name: CLUSTER_HEADER.to_owned(),
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(legacy)),
                ..HeaderMatcher::default()
            }],
            ..HeaderValueMatch::default()
        })),
    }
}

/// What the filter has told of the request. Where it has not, there is no descriptor.
fn header(name: &str, key: &str) -> Action {
    Action {
        action_specifier: Some(ActionSpecifier::RequestHeaders(RequestHeaders {
            header_name: name.to_owned(),
            descriptor_key: key.to_owned(),
            ..RequestHeaders::default()
        })),
    }
}
