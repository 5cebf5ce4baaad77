//! A static Envoy configuration around one upstream, for tests of what Envoy and a hand-written
//! module do together. What Rampart ships is in `envoy/`, and is tested as it is.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

/// One listener, at most one wasm filter, at most one attestation guard, one upstream.
#[derive(Debug, Clone, Copy)]
pub struct StaticConfig<'a> {
    /// Where Envoy listens.
    pub listener: SocketAddr,
    /// Where every request goes.
    pub upstream: SocketAddr,
    /// The filter before the guard, if any.
    pub filter: Filter<'a>,
    /// The filter state without which a guard after the module refuses, if there is a guard.
    pub attestation: Option<&'a str>,
}

/// Where a filter comes from.
#[derive(Debug, Clone, Copy)]
pub enum Filter<'a> {
    /// There is none.
    None,
    /// This module, for good.
    Module(&'a Path),
    /// What Envoy finds in this file, whenever the file is replaced.
    Discovered(&'a Path),
}

impl StaticConfig<'_> {
    /// The configuration as YAML, with an admin interface on a port of Envoy's choice.
    #[must_use]
    pub fn render(&self) -> String {
        let mut filters = String::new();
        match self.filter {
            Filter::None => {}
            Filter::Module(module) => filters += &wasm_filter(module),
            Filter::Discovered(file) => filters += &discovered_filter(file),
        }
        if let Some(key) = self.attestation {
            filters += &attestation_guard(key);
        }
        let address = |socket: SocketAddr| {
            format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", socket.ip(), socket.port())
        };
        let mut yaml = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            yaml,
            r#"node: {{ id: test, cluster: tests }}
admin:
  address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
static_resources:
  listeners:
  - name: main
    address: {listener}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: / }}
                route: {{ cluster: upstream }}
          http_filters:
{filters}          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: upstream
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {upstream} }}
"#,
            listener = address(self.listener),
            upstream = address(self.upstream),
        );
        yaml
    }
}

fn wasm_filter(module: &Path) -> String {
    format!(
        r#"          - name: module
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                name: module
                failure_policy: FAIL_RELOAD
                vm_config:
                  vm_id: module
                  code: {{ local: {{ filename: "{}" }} }}
"#,
        module.display()
    )
}

fn discovered_filter(file: &Path) -> String {
    format!(
        r#"          - name: module
            config_discovery:
              config_source: {{ path_config_source: {{ path: "{}" }}, resource_api_version: V3 }}
              type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]
"#,
        file.display()
    )
}

/// As it is shipped, but for the values: any will do.
fn attestation_guard(key: &str) -> String {
    format!(
        r#"          - name: attestation
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher
              xds_matcher:
                matcher_list:
                  matchers:
                  - predicate:
                      single_predicate:
                        input: {{ name: decision, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.FilterStateInput, key: "{key}" }} }}
                        value_match: {{ safe_regex: {{ google_re2: {{}}, regex: ".+" }} }}
                    on_match: {{ action: {{ name: pass-by, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter }} }} }}
              extension_config:
                name: envoy.filters.http.rbac
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
                  rules: {{ action: ALLOW }}
"#
    )
}
