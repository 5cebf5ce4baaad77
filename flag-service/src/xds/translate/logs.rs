//! What is written down of each request: a line, and counts by what the filter decided.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
use envoy_types::pb::envoy::config::core::v3::{SubstitutionFormatString, substitution_format_string};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy_types::pb::envoy::extensions::access_loggers::stats::v3::{Config as Stats, config};
use envoy_types::pb::envoy::r#type::v3::Scope;
use envoy_types::pb::google::protobuf::{Struct, UInt32Value, UInt64Value, Value, value};

use super::{NAME, pack, pack_with_entries};

/// Fields of the access log. The path is the client's, whatever the module sees, and has no query
/// string; no header is logged that can hold a token.
pub(super) const ACCESS_LOG: &[(&str, &str)] = &[
    ("time", "%START_TIME%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%PATH(NQ:ORIG_OR_PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("code", "%RESPONSE_CODE%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("duration_ms", "%DURATION%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("decision", "%FILTER_STATE(wasm.rampart.decision:PLAIN)%"),
    ("module", "%FILTER_STATE(wasm.rampart.module:PLAIN)%"),
    ("route", "%FILTER_STATE(wasm.rampart.route:PLAIN)%"),
    ("organisation", "%FILTER_STATE(wasm.rampart.organisation:PLAIN)%"),
    ("flags_on", "%FILTER_STATE(wasm.rampart.flags:PLAIN)%"),
    ("reason", "%FILTER_STATE(wasm.rampart.reason:PLAIN)%"),
    ("revision", "%FILTER_STATE(wasm.rampart.revision:PLAIN)%"),
];

/// Tags of the counts. Module, route and arm are the policy's words, the decision is the filter's, and the
/// code is a number: nothing a client sends, and no organisation, makes a series. The arm is the cluster
/// that an effect chose, where one did.
pub(super) const TAGS: [(&str, &str); 5] = [
    ("module", "%FILTER_STATE(wasm.rampart.module:PLAIN)%"),
    ("decision", "%FILTER_STATE(wasm.rampart.decision:PLAIN)%"),
    ("arm", "%FILTER_STATE(wasm.rampart.arm:PLAIN)%"),
    ("route", "%FILTER_STATE(wasm.rampart.route:PLAIN)%"),
    ("code", "%RESPONSE_CODE%"),
];

/// From the request's first byte to the response's last, in microseconds: Envoy's `%DURATION%` is in
/// milliseconds, and most requests take less.
const MICROSECONDS: &str = "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%";

/// Most series of either kind; a request that would need one more is not counted.
const SERIES: u32 = 20_000;

/// A line of JSON for each request.
pub(super) fn lines() -> AccessLog {
    let log = |fields| FileAccessLog {
        access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(SubstitutionFormatString {
            format: Some(substitution_format_string::Format::JsonFormat(Struct { fields })),
            ..SubstitutionFormatString::default()
        })),
        ..FileAccessLog::default()
    };
    let fields = ACCESS_LOG.iter().map(|(name, format)| {
        let value = Value { kind: Some(value::Kind::StringValue((*format).to_owned())) };
        log(HashMap::from([((*name).to_owned(), value)]))
    });
    let path = FileAccessLog { path: "/dev/stdout".to_owned(), ..FileAccessLog::default() };
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(pack_with_entries(&path, fields))),
        ..AccessLog::default()
    }
}

/// How many requests, and how long they took: by module and arm, and in sums by route too. A histogram is
/// dearer than a counter by two orders. What nothing has counted for long is forgotten where the bootstrap
/// says when.
pub(super) fn stats() -> AccessLog {
    let stat = |name: &str, tags: &[(&str, &str)]| config::Stat {
        name: name.to_owned(),
        tags: tags.iter().map(|(name, format)| tag(name, format)).collect(),
    };
    let [module, decision, arm, route, _] = TAGS;
    let counter = |stat| config::Counter { stat: Some(stat), ..config::Counter::default() };
    let limit = Some(UInt32Value { value: SERIES });
    let stats = Stats {
        stats_scope: Some(Scope {
            prefix: NAME.to_owned(),
            max_counters: limit,
            max_histograms: limit,
            enable_eviction: true,
            ..Scope::default()
        }),
        counters: vec![
            config::Counter {
                value_fixed: Some(UInt64Value { value: 1 }),
                ..counter(stat("requests", &TAGS))
            },
            config::Counter {
                value_format: MICROSECONDS.to_owned(),
                ..counter(stat("duration_us", &[module, decision, arm, route]))
            },
        ],
        histograms: vec![config::Histogram {
            stat: Some(stat("duration", &[module, decision, arm])),
            unit: config::histogram::Unit::Milliseconds.into(),
            value_format: "%DURATION%".to_owned(),
        }],
        ..Stats::default()
    };
    AccessLog {
        name: "envoy.access_loggers.stats".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(pack(&stats))),
        ..AccessLog::default()
    }
}

fn tag(name: &str, format: &str) -> config::Tag {
    config::Tag { name: name.to_owned(), value_format: format.to_owned(), ..config::Tag::default() }
}
