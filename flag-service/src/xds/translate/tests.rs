//! Golden tests: a small revision in, its resources as text out. `UPDATE_GOLDEN=1` rewrites the
//! files; read the difference before you commit it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use envoy_types::pb::envoy::config::accesslog::v3::access_log;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::core::v3::{TypedExtensionConfig, transport_socket};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy_types::pb::envoy::extensions::clusters::aggregate::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::common::matching::v3::ExtensionWithMatcher;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3 as header_mutation_filter;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::wasm::v3::{PluginConfig, VmConfig, plugin_config};
use envoy_types::pb::google::protobuf::{StringValue, Struct, value};
use rampart_engine::policy::wire::Policy;
use serde_json::{Value, json};

use super::*;
use crate::model::upstream::TrafficPolicy;
use crate::model::{Module, Settings, State};
use crate::published::Upstream;

fn published(legacy: Option<&str>) -> Published {
    let upstream = |cluster: &str, endpoints: &[&str]| Upstream {
        cluster: cluster.to_owned(),
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
        hashed: cluster == "analytics-v1",
        fallback: None,
        traffic: TrafficPolicy::default(),
    };
    let legacy_field = legacy.map(|name| format!(r#","legacy_cluster":"{name}""#)).unwrap_or_default();
    Published {
        revision: 7,
        policy: serde_json::from_str(&format!(r#"{{"schema":1,"revision":7{legacy_field}}}"#)).unwrap(),
        upstreams: vec![
            upstream("analytics-v1", &["127.0.0.1:9001", "[::1]:9001"]),
            upstream("legacy", &["127.0.0.1:9000", "legacy.internal:80"]),
        ],
        limits: Vec::new(),
        keys: Vec::new(),
    }
}

fn decode<M: Message + Default>(any: &Any) -> M {
    M::decode(any.value.as_slice()).unwrap()
}

fn resource<M: Message + Default>(snapshot: &Snapshot, kind: Kind, name: &str) -> M {
    decode(&Any::decode(snapshot.get(kind, name).unwrap().body.as_ref()).unwrap())
}

/// The message as text, without what is not set, the bytes of what is packed, and brackets that
/// say only "present".
fn text(message: &impl Debug) -> String {
    let unset = [": None,", ": [],", ": {},", ": \"\",", ": false,", ": 0,"];
    let is_byte = |line: &str| line.strip_suffix(',').is_some_and(|byte| byte.parse::<u8>().is_ok());
    let mut lines: Vec<&str> = Vec::new();
    let debug = format!("{message:#?}");
    for line in debug.lines() {
        let noise = matches!(line.trim(), ")," | ")") || is_byte(line.trim());
        if noise || unset.iter().any(|unset| line.ends_with(unset)) {
            continue;
        }
        if line.trim() == "]," && lines.last().is_some_and(|last| last.trim() == "value: [") {
            lines.pop();
        } else {
            lines.push(line.trim_end_matches("Some(").trim_end());
        }
    }
    lines.join("\n") + "\n"
}

fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{} differs; UPDATE_GOLDEN=1 rewrites it. Now:\n{text}", path.display());
}

#[test]
fn listener() {
    let snapshot = translate(&published(None), &DataPlane::default());
    let listener: Listener = resource(&snapshot, Kind::Listener, "rampart");
    let Some(filter::ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type else {
        panic!("the connection manager is typed")
    };
    let mut manager: HttpConnectionManager = decode(any);
    let early: HeaderMutation =
        decode(manager.early_header_mutation_extensions[0].typed_config.as_ref().unwrap());
    let typed = |place: usize| match &manager.http_filters[place].config_type {
        Some(http_filter::ConfigType::TypedConfig(any)) => any,
        other => panic!("{other:?}"),
    };
    let (guard, router): (ExtensionWithMatcher, Router) = (decode(typed(1)), decode(typed(3)));
    let rbac: Rbac = decode(guard.extension_config.as_ref().unwrap().typed_config.as_ref().unwrap());
    let access_log = manager.access_log.remove(0);
    let Some(access_log::ConfigType::TypedConfig(any)) = &access_log.config_type else { panic!("typed") };
    let log: FileAccessLog = decode(any);
    let Some(file_access_log::AccessLogFormat::LogFormat(format)) = log.access_log_format else {
        panic!("a format")
    };
    let Some(Format::JsonFormat(Struct { fields })) = format.format else { panic!("JSON") };
    let fields: BTreeMap<_, _> = fields
        .into_iter()
        .map(|(name, format)| match format.kind {
            Some(value::Kind::StringValue(format)) => (name, format),
            other => panic!("{other:?}"),
        })
        .collect();
    let parts = [
        text(&listener),
        text(&manager),
        text(&early),
        text(&guard),
        text(&rbac),
        text(&router),
        format!("access log to {}: {}", log.path, text(&fields)),
    ];
    check("listener.txt", &parts.join("\n"));
}

#[test]
fn the_listener_for_modules_differs_by_name_and_address_alone() {
    let internal = Some("127.0.0.1:10001".parse().unwrap());
    let snapshot = translate(&published(None), &DataPlane { internal, ..DataPlane::default() });
    let [clients, modules] = [("rampart", 10_000), ("rampart_internal", 10_001)].map(|(name, port)| {
        let listener: Listener = resource(&snapshot, Kind::Listener, name);
        assert_eq!(listener.address, Some(address("127.0.0.1".to_owned(), port)));
        let Some(filter::ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type
        else {
            panic!("the connection manager is typed")
        };
        let manager: HttpConnectionManager = decode(any);
        assert_eq!((&*listener.name, &*manager.stat_prefix), (name, name));
        HttpConnectionManager { stat_prefix: String::new(), ..manager }
    });
    assert_eq!(clients, modules);
    let without = translate(&published(None), &DataPlane::default());
    for kind in Kind::PUSH_ORDER {
        assert_eq!(without.version(kind) == snapshot.version(kind), kind != Kind::Listener, "{kind:?}");
    }
}

#[test]
fn routes() {
    let with = translate(&published(Some("legacy")), &DataPlane::default());
    let without = translate(&published(None), &DataPlane::default());
    check("routes.txt", &text(&resource::<RouteConfiguration>(&with, Kind::Route, "rampart")));
    let routes: RouteConfiguration = resource(&without, Kind::Route, "rampart");
    let names: Vec<&str> = routes.virtual_hosts[0].routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["mirrored", "judged", "modules"], "nothing leads to a cluster that is not there");
}

#[test]
fn clusters() {
    let snapshot = translate(&published(None), &DataPlane::default());
    let parts = [
        text(&resource::<Cluster>(&snapshot, Kind::Cluster, "analytics-v1")),
        text(&resource::<ClusterLoadAssignment>(&snapshot, Kind::Endpoints, "analytics-v1")),
        text(&resource::<Cluster>(&snapshot, Kind::Cluster, "legacy")),
    ];
    check("clusters.txt", &parts.join("\n"));
    assert!(snapshot.get(Kind::Endpoints, "legacy").is_none(), "EDS takes no names");
}

#[test]
fn fallback() {
    let manifest = json!({
        "id": "orders", "endpoints": ["127.0.0.1:9001"], "fallback": "legacy", "outlier_detection": {}
    });
    let module: Module = serde_json::from_value(manifest).unwrap();
    let settings = Settings { legacy: vec!["127.0.0.1:9000".parse().unwrap()], ..Settings::default() };
    let state = State {
        modules: BTreeMap::from([(module.id.clone(), Arc::new(module))]),
        settings: Arc::new(settings),
        ..State::default()
    };
    let published = state.published(1);
    let snapshot = translate(&published, &DataPlane::default());
    let falling: Cluster = resource(&snapshot, Kind::Cluster, "module/orders/v1");
    let options = falling.typed_extension_protocol_options.values().next().unwrap();
    let options: HttpProtocolOptions = decode(options);
    let Some(ClusterDiscoveryType::ClusterType(kind)) = &falling.cluster_discovery_type else {
        panic!("custom")
    };
    let members: ClusterConfig = decode(kind.typed_config.as_ref().unwrap());
    let own = "module/orders/v1/endpoints";
    assert_eq!(Module::of_cluster(own), Some(("orders", "v1")), "a refusal of it is the module's");
    let parts = [
        text(&falling),
        text(&members),
        text(&options),
        text(&resource::<Cluster>(&snapshot, Kind::Cluster, own)),
        text(&resource::<ClusterLoadAssignment>(&snapshot, Kind::Endpoints, own)),
        serde_json::to_string_pretty(&published.policy.modules[0].retry).unwrap() + "\n",
    ];
    check("fallback.txt", &parts.join("\n"));
}

/// Limits stand in the routes, and changed headers in the cluster; a listener has neither.
#[test]
fn limits() {
    let manifest = json!({
        "id": "orders", "endpoints": ["127.0.0.1:9001"],
        "rate_limit": {
            "per_organisation": {"requests": 100, "per": "minute", "burst": 20},
            "organisations": {"acme": {"requests": 5, "per": "second"}}, "total": {"requests": 9, "per": "day"}
        },
        "request_headers": {"set": {"x-plan": "100 %"}, "remove": ["x-secret"]},
        "response_headers": {"set": {"cache-control": "no-store"}}
    });
    let module: Module = serde_json::from_value(manifest).unwrap();
    let modules = BTreeMap::from([(module.id.clone(), Arc::new(module))]);
    let state = State { modules, ..State::default() };
    let snapshot = translate(&state.published(1), &DataPlane::default());
    let routes: RouteConfiguration = resource(&snapshot, Kind::Route, "rampart");
    let filter = &routes.virtual_hosts[0].typed_per_filter_config["envoy.filters.http.local_ratelimit"];
    let cluster: Cluster = resource(&snapshot, Kind::Cluster, "module/orders/v1");
    let options: HttpProtocolOptions =
        decode(cluster.typed_extension_protocol_options.values().next().unwrap());
    let Some(http_filter::ConfigType::TypedConfig(mutation)) = &options.http_filters[0].config_type else {
        panic!("typed")
    };
    let mutation: header_mutation_filter::HeaderMutation = decode(mutation);
    let parts = [text(&decode::<LocalRateLimit>(filter)), text(&options), text(&mutation)];
    check("limits.txt", &parts.join("\n"));
    let without = translate(&State::default().published(1), &DataPlane::default());
    assert_eq!(without.version(Kind::Listener), snapshot.version(Kind::Listener));
}

/// All that a manifest says of how its endpoints are reached, in one cluster of each protocol.
#[test]
fn traffic() {
    let manifest = |id: &str, members: Value| {
        let mut manifest = json!({"id": id, "endpoints": ["127.0.0.1:9001"]});
        manifest.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        Arc::new(serde_json::from_value::<Module>(manifest).unwrap())
    };
    let modules = [
        manifest(
            "all",
            json!({
                "connect_timeout_ms": 250, "protocol": "http2",
                "tls": {
                    "server_name": "all.test", "subject_alt_names": ["spiffe://all.test/a", "b.test"],
                    "ca_file": "/ca.pem", "certificate": {"chain_file": "/a.pem", "key_file": "/a.key"}
                },
                "health_check": {
                    "http": {"path": "/healthz", "expected_statuses": [200, 204]}, "interval_ms": 1500,
                    "timeout_ms": 500, "unhealthy_threshold": 2, "healthy_threshold": 4
                },
                "outlier_detection": {
                    "consecutive_5xx": 7, "consecutive_gateway_failures": 3, "interval_ms": 1000,
                    "base_ejection_ms": 2000, "max_ejection_percent": 90
                },
                "circuit_breakers": {
                    "max_connections": 1, "max_pending_requests": 2, "max_requests": 3, "max_retries": 4
                }
            }),
        ),
        manifest(
            "few",
            json!({
                "endpoints": ["few.test:443"], "protocol": "auto", "tls": {"ca": "PEM"},
                "health_check": {"tcp": {}}, "outlier_detection": {},
                "circuit_breakers": {"retry_budget": {}}
            }),
        ),
        manifest("grpc", json!({"protocol": "http2", "health_check": {"grpc": {"service": "a.B"}}})),
    ];
    let modules = modules.map(|module| (module.id.clone(), module));
    let state = State { modules: BTreeMap::from(modules), ..State::default() };
    let snapshot = translate(&state.published(1), &DataPlane::default());
    let mut parts = Vec::new();
    for name in ["module/all/v1", "module/few/v1", "module/grpc/v1"] {
        let cluster: Cluster = resource(&snapshot, Kind::Cluster, name);
        parts.push(text(&cluster));
        for options in cluster.typed_extension_protocol_options.values() {
            parts.push(text(&decode::<HttpProtocolOptions>(options)));
        }
        if let Some(transport_socket::ConfigType::TypedConfig(tls)) =
            cluster.transport_socket.and_then(|socket| socket.config_type)
        {
            parts.push(text(&decode::<UpstreamTlsContext>(&tls)));
        }
    }
    parts.push(text(&resource::<ClusterLoadAssignment>(&snapshot, Kind::Endpoints, "module/all/v1")));
    check("traffic.txt", &parts.join("\n"));
}

#[test]
fn extension() {
    let published = published(Some("legacy"));
    let data_plane =
        DataPlane { filter: "/opt/f.wasm".into(), vm_id: "second".into(), ..DataPlane::default() };
    let extension: TypedExtensionConfig =
        resource(&translate(&published, &data_plane), Kind::Extension, "rampart");
    let wasm: Wasm = decode(extension.typed_config.as_ref().unwrap());
    let mut plugin: PluginConfig = wasm.config.unwrap();
    let Some(plugin_config::Vm::VmConfig(vm)) = &mut plugin.vm else { panic!("a VM") };
    let VmConfig { capability_restriction_config, .. } = vm;
    let mut allowed: Vec<_> =
        capability_restriction_config.take().unwrap().allowed_capabilities.into_keys().collect();
    let mut listed = CAPABILITIES.to_vec();
    allowed.sort();
    listed.sort_unstable();
    assert_eq!(allowed, listed);
    let configuration: StringValue = decode(plugin.configuration.as_ref().unwrap());
    assert_eq!(serde_json::from_str::<Policy>(&configuration.value).unwrap(), published.policy);
    check("extension.txt", &[text(&plugin), configuration.value].join("\n"));
}

/// Written at once, a map of 30 entries comes out in the same order about never.
#[test]
fn equal_input_gives_equal_bytes() {
    let once = translate(&published(None), &DataPlane::default());
    assert_eq!(once, translate(&published(None), &DataPlane::default()));
}

#[test]
fn a_change_of_policy_touches_the_extension_alone() {
    let before = translate(&published(Some("legacy")), &DataPlane::default());
    let mut changed = published(Some("legacy"));
    changed.revision = 8;
    changed.policy.revision = 8;
    let after = translate(&changed, &DataPlane::default());
    for kind in Kind::PUSH_ORDER {
        assert_eq!(before.version(kind) == after.version(kind), kind != Kind::Extension, "{kind:?}");
    }
}

/// The static variant states again what is stated here; where the two differ, one is wrong.
#[test]
fn the_static_variant_agrees() {
    let yaml = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy/static.yaml")).unwrap();
    let line = |line: &str| yaml.lines().any(|candidate| candidate.trim() == line);
    for capability in CAPABILITIES {
        assert!(line(&format!("{capability}: {{}}")), "{capability}");
    }
    assert_eq!(yaml.lines().filter(|line| line.ends_with(": {}")).count(), CAPABILITIES.len());
    for (name, format) in logs::ACCESS_LOG {
        assert!(line(&format!("{name}: \"{format}\"")), "{name}");
    }
    for (name, format) in logs::TAGS {
        assert!(line(&format!("- {{ name: {name}, value_format: \"{format}\" }}")), "{name}");
    }
    for prefix in rampart_engine::request::PRIVATE_HEADERS.map(|prefix| format!("prefix: {prefix}")) {
        assert_eq!(yaml.lines().filter(|line| line.trim() == prefix).count(), 1, "{prefix}");
    }
    let guarded = yaml.matches("value_match: { exact: ").count();
    assert_eq!(guarded, guard::DECISIONS.len());
    for decision in guard::DECISIONS {
        assert!(yaml.contains(&format!("value_match: {{ exact: {decision} }}")), "{decision}");
    }
    let DataPlane { listen, filter, vm_id, .. } = DataPlane::default();
    for same in [
        format!("rules_stat_prefix: {}", guard::ATTESTATION),
        format!("port_value: {}", listen.port()),
        format!("filename: {filter}"),
        format!("vm_id: {vm_id}"),
    ] {
        assert!(line(&same), "{same}");
    }
    let (_, policy) = yaml.split_once("value: |\n").unwrap();
    let policy: String = policy.lines().take_while(|line| !line.trim_start().starts_with('#')).collect();
    let policy = serde_json::from_str(&policy).unwrap();
    rampart_engine::policy::Policy::compile(&policy).unwrap();
}
