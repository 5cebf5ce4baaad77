//! The guard behind the filter: requests that the filter has judged pass it by, and it refuses all others.
//! Should the filter ever be skipped, nothing is marked as judged and nothing passes.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::extensions::common::matching::v3::ExtensionWithMatcher;
use envoy_types::pb::envoy::extensions::filters::common::matcher::action::v3::SkipFilter;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::matching::common_inputs::network::v3::FilterStateInput;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig as Extension;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::matcher_list::{
    FieldMatcher, Predicate, predicate,
    predicate::{SinglePredicate, single_predicate},
};
use envoy_types::pb::xds::r#type::matcher::v3::matcher::{MatcherList, MatcherType, OnMatch, on_match};
use envoy_types::pb::xds::r#type::matcher::v3::{Matcher, StringMatcher, string_matcher};
use rampart_engine::decision::{Arm, PASS};

use super::{listener::http_filter, pack};

/// Filter state that the filter sets on every request it has judged.
const DECISION: &str = "wasm.rampart.decision";

/// What it may say; a request that is refused has none.
pub(super) const DECISIONS: [&str; 3] = [Arm::Module.as_str(), Arm::Legacy.as_str(), PASS];

/// What its refusals are counted under: `http.rampart.rbac.attestation.denied`, which should stay 0.
pub(super) const ATTESTATION: &str = "attestation";

/// RBAC could tell them apart by rules of its own, but it writes dynamic metadata about each request that it lets
/// through: that costs three times as much as not to be asked.
pub(super) fn guard() -> HttpFilter {
    let nobody = Rbac {
        rules: Some(rbac::Rbac { action: rbac::rbac::Action::Allow.into(), ..rbac::Rbac::default() }),
        rules_stat_prefix: ATTESTATION.to_owned(),
        ..Rbac::default()
    };
    let judged = MatcherList { matchers: DECISIONS.map(passes_by).into() };
    let unless_judged = ExtensionWithMatcher {
        xds_matcher: Some(Matcher {
            matcher_type: Some(MatcherType::MatcherList(judged)),
            ..Matcher::default()
        }),
        extension_config: Some(TypedExtensionConfig {
            name: "envoy.filters.http.rbac".to_owned(),
            typed_config: Some(pack(&nobody)),
        }),
        ..ExtensionWithMatcher::default()
    };
    http_filter(ATTESTATION, pack(&unless_judged))
}

fn passes_by(decision: &str) -> FieldMatcher {
    let input = FilterStateInput { key: DECISION.to_owned(), ..FilterStateInput::default() };
    let said = StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Exact(decision.to_owned())),
        ..StringMatcher::default()
    };
    let judged = SinglePredicate {
        input: Some(extension("decision", pack(&input))),
        matcher: Some(single_predicate::Matcher::ValueMatch(said)),
    };
    let skip = on_match::OnMatch::Action(extension("pass-by", pack(&SkipFilter {})));
    FieldMatcher {
        predicate: Some(Predicate { match_type: Some(predicate::MatchType::SinglePredicate(judged)) }),
        on_match: Some(OnMatch { on_match: Some(skip), ..OnMatch::default() }),
    }
}

fn extension(name: &str, config: Any) -> Extension {
    Extension { name: name.to_owned(), typed_config: Some(config) }
}
