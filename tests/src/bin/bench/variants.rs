//! What is compared: one Envoy configuration each, all made from `envoy/static.yaml`, which
//! Rampart's own variants run as it is shipped. The others keep its listener and its path rules, and
//! have their own filters and routes.

use anyhow::{Context as _, Result};
use rampart_tests::shipped::StaticVariant;
use serde_json::Value;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Plain,
    NoOp,
    NativeRsa,
    NativeEc,
    NativeCached,
    NativeChain,
    NativeChainTelling,
    NativeChainNoCache,
    Rampart,
    RampartThousand,
    RampartTenThousand,
    RampartColdRsa,
    RampartColdEc,
}

/// The tokens that a variant's requests carry, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// The first few RS256 tokens.
    Rsa(usize),
    /// More RS256 tokens than any cache holds.
    EveryRsa,
    /// More ES256 tokens than any cache holds.
    EveryEc,
}

impl Variant {
    /// In the table's order.
    pub(crate) const ALL: [Self; 13] = [
        Self::Plain,
        Self::NoOp,
        Self::NativeRsa,
        Self::NativeEc,
        Self::NativeCached,
        Self::NativeChain,
        Self::NativeChainTelling,
        Self::NativeChainNoCache,
        Self::Rampart,
        Self::RampartThousand,
        Self::RampartTenThousand,
        Self::RampartColdRsa,
        Self::RampartColdEc,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain proxy",
            Self::NoOp => "no-op wasm filter",
            Self::NativeRsa => "jwt_authn, RS256, no cache",
            Self::NativeEc => "jwt_authn, ES256, no cache",
            Self::NativeCached => "jwt_authn, RS256, cached",
            Self::NativeChain => "native chain, cached",
            Self::NativeChainTelling => "native chain, cached, which tells who calls",
            Self::NativeChainNoCache => "native chain, RS256, no cache",
            Self::Rampart => "Rampart, one token",
            Self::RampartThousand => "Rampart, 1,000 tokens",
            Self::RampartTenThousand => "Rampart, 10,000 tokens",
            Self::RampartColdRsa => "Rampart, RS256, every token new",
            Self::RampartColdEc => "Rampart, ES256, every token new",
        }
    }

    pub(crate) const fn tokens(self) -> Tokens {
        match self {
            Self::Plain
            | Self::NoOp
            | Self::NativeCached
            | Self::NativeChain
            | Self::NativeChainTelling
            | Self::Rampart => Tokens::Rsa(1),
            Self::RampartThousand => Tokens::Rsa(1_000),
            Self::RampartTenThousand => Tokens::Rsa(10_000),
            Self::NativeRsa | Self::NativeChainNoCache | Self::RampartColdRsa => Tokens::EveryRsa,
            Self::NativeEc | Self::RampartColdEc => Tokens::EveryEc,
        }
    }

    /// Whether every token must be new to the variant: what it then costs is a verification.
    pub(crate) const fn is_cold(self) -> bool {
        matches!(self.tokens(), Tokens::EveryRsa | Tokens::EveryEc)
    }

    pub(crate) const fn is_rampart(self) -> bool {
        matches!(
            self,
            Self::Rampart
                | Self::RampartThousand
                | Self::RampartTenThousand
                | Self::RampartColdRsa
                | Self::RampartColdEc
        )
    }

    /// Whether Envoy's own filters do what Rampart does.
    const fn is_native_chain(self) -> bool {
        matches!(self, Self::NativeChain | Self::NativeChainTelling | Self::NativeChainNoCache)
    }

    /// Whether requests without a token are refused.
    pub(crate) const fn authenticates(self) -> bool {
        !matches!(self, Self::Plain | Self::NoOp)
    }

    /// Whether permissions are asked for and organisations are told apart.
    pub(crate) const fn does_the_job(self) -> bool {
        self.is_rampart() || self.is_native_chain()
    }

    /// Whether the upstream is told who calls, and what is switched on for them.
    pub(crate) const fn tells(self) -> bool {
        self.is_rampart() || matches!(self, Self::NativeChainTelling)
    }

    /// The whole configuration, from the shipped file with this variant's ports, module and policy.
    pub(crate) fn render(self, shipped: &StaticVariant<'_>) -> Result<String> {
        // Formatting a log line costs all the same: it would only add noise.
        let yaml = replace_block(&shipped.render()?, "access_log", "")?;
        if self.is_rampart() {
            return Ok(yaml);
        }
        let provider = &shipped.policy["providers"][0];
        let filters = match self {
            Self::NoOp => NO_OP.replace("MODULE", &shipped.module.display().to_string()),
            Self::NativeRsa | Self::NativeEc => jwt_authn(provider, ""),
            Self::NativeCached => jwt_authn(provider, CACHE),
            Self::NativeChain => jwt_authn(provider, &[CACHE, METADATA].concat()) + PERMISSION + BUCKET,
            Self::NativeChainTelling => {
                jwt_authn(provider, &[CACHE, METADATA, CLAIMS].concat()) + PERMISSION + BUCKET
            }
            Self::NativeChainNoCache => jwt_authn(provider, METADATA) + PERMISSION + BUCKET,
            _ => String::new(),
        };
        let by_bucket = if self.is_native_chain() { BY_BUCKET } else { "" };
        // What the upstream believes, no client may say: there the listener removes it, as Rampart's does.
        let (yaml, told) = match self {
            Self::NativeChainTelling => (yaml, TOLD),
            _ => (replace_block(&yaml, "early_header_mutation_extensions", "")?, ""),
        };
        let yaml = replace_block(&yaml, "http_filters", &format!("{FILTERS}{filters}{ROUTER}"))?;
        replace_block(&yaml, "route_config", &format!("{ROUTES}{by_bucket}{ROUTE}{told}"))
    }
}

/// The bucket that the native chain's Lua computes, to find organisations that it enrols.
pub(crate) fn lua_bucket(flag: &str, organisation: &str) -> u64 {
    format!("{flag}:{organisation}").bytes().fold(0, |hash, byte| (hash * 31 + u64::from(byte)) % (1 << 32))
        % 100
}

fn jwt_authn(provider: &Value, options: &str) -> String {
    JWT_AUTHN
        .replace("ISSUER", &provider["issuer"].to_string())
        .replace("AUDIENCES", &provider["audiences"].to_string())
        .replace("JWKS", &provider["jwks"].to_string())
        .replace("OPTIONS", options)
}

/// Replaces a key and what stands under it, list items at the key's own depth included.
fn replace_block(yaml: &str, key: &str, with: &str) -> Result<String> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = yaml.split_inclusive('\n').collect();
    let start = lines.iter().position(|line| line.trim() == format!("{key}:"));
    let start = start.with_context(|| format!("no {key} in the configuration"))?;
    let own = depth(lines[start]);
    let below = |line: &&&str| {
        let text = line.trim();
        text.is_empty() || depth(line) > own || depth(line) == own && text.starts_with(['-', '#'])
    };
    let end = start + 1 + lines[start + 1..].iter().take_while(below).count();
    Ok([&lines[..start].concat(), with, &lines[end..].concat()].concat())
}

const FILTERS: &str = "          http_filters:
";
const ROUTER: &str = r#"          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
"#;
const ROUTES: &str = r#"          route_config:
            name: native
            request_headers_to_remove: [x-bucket]
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
"#;
const ROUTE: &str = "              - match: { prefix: / }
                route: { cluster: analytics-v1, timeout: 0s }
";
/// Organisations outside the first half go to the legacy application.
const BY_BUCKET: &str = "              - match: { prefix: /, headers: [{ name: x-bucket, range_match: { start: 50, end: 100 } }] }
                route: { cluster: legacy, timeout: 0s }
";
const NO_OP: &str = r#"          - name: no-op
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                name: no-op
                vm_config: { vm_id: no-op, runtime: envoy.wasm.runtime.v8, code: { local: { filename: "MODULE" } } }
"#;
const JWT_AUTHN: &str = r#"          - name: envoy.filters.http.jwt_authn
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
              providers:
                main:
                  issuer: ISSUER
                  audiences: AUDIENCES
                  forward: true
                  local_jwks: { inline_string: 'JWKS' }
OPTIONS              rules:
              - match: { prefix: / }
                requires: { provider_name: main }
"#;
const CACHE: &str = "                  jwt_cache_config: { jwt_cache_size: 100 }
";
const METADATA: &str = "                  payload_in_metadata: claims
";
/// A list is told as base64 of JSON: `claim_to_headers` has no other way.
const CLAIMS: &str = "                  claim_to_headers:
                  - { header_name: x-rampart-organisation, claim_name: org_id }
                  - { header_name: x-rampart-subject, claim_name: sub }
                  - { header_name: x-rampart-permissions, claim_name: permissions }
";
/// What holds for the last route, of whom the module serves.
const TOLD: &str = "                request_headers_to_add:
                - { header: { key: x-rampart-module, value: analytics } }
                - { header: { key: x-rampart-flags, value: analytics_module } }
";
const PERMISSION: &str = r#"          - name: envoy.filters.http.rbac
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules:
                action: ALLOW
                policies:
                  permitted:
                    permissions: [{ any: true }]
                    principals:
                    - metadata:
                        filter: envoy.filters.http.jwt_authn
                        path: [{ key: claims }, { key: permissions }]
                        value: { list_match: { one_of: { string_match: { exact: "analytics:read" } } } }
"#;
const BUCKET: &str = r#"          - name: envoy.filters.http.lua
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
              default_source_code:
                inline_string: |
                  function envoy_on_request(handle)
                    local data = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
                    local key = "analytics_module:" .. data["claims"]["org_id"]
                    local hash = 0
                    for i = 1, #key do
                      hash = (hash * 31 + key:byte(i)) % 4294967296
                    end
                    handle:headers():replace("x-bucket", tostring(hash % 100))
                  end
"#;
