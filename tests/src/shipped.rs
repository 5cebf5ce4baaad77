//! The static configurations that Rampart ships, changed only where a test must: their ports, the
//! module's file, and the policy.

use crate::{paths, ports::substitute};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{fs, net::SocketAddr, path::Path};

/// Envoy without the flag service.
const STATIC: &str = "envoy/static.yaml";

/// Where the shipped files expect the module.
const MODULE: &str = "/etc/rampart/rampart.wasm";

/// A module with flags that switch Envoy's own machinery, as documented in `docs/presets.md`.
pub const MESSAGING: &str = "envoy/presets/messaging/envoy.yaml";

/// What a test puts in place of the shipped file's own values.
#[derive(Debug, Clone, Copy)]
pub struct StaticVariant<'a> {
    /// Where Envoy listens.
    pub listener: SocketAddr,
    /// The upstream of the example's one module.
    pub analytics: SocketAddr,
    /// The legacy application.
    pub legacy: SocketAddr,
    /// The module to run.
    pub module: &'a Path,
    /// The policy to run it with.
    pub policy: &'a Value,
}

impl StaticVariant<'_> {
    /// The shipped file with these values.
    ///
    /// # Errors
    ///
    /// When the shipped file has lost one of the places they belong to.
    pub fn render(&self) -> Result<String> {
        let ports = [(9001, self.analytics.port()), (9000, self.legacy.port())];
        render(STATIC, self.listener, &ports, self.module, self.policy)
    }
}

/// The shipped file of this name with ports, module and policy of a test's own.
///
/// # Errors
///
/// When the shipped file has lost one of the places they belong to.
pub fn render(
    file: &str,
    listener: SocketAddr,
    upstreams: &[(u16, u16)],
    module: &Path,
    policy: &Value,
) -> Result<String> {
    let (before, _, after) = split(&shipped(file)?)?;
    ensure!(before.contains(MODULE), "{MODULE} does not occur");
    let before = substitute(&before, &[(9901, 0), (10_000, listener.port())])?;
    let before = before.replace(MODULE, &module.display().to_string());
    let after = substitute(&after, upstreams)?;
    // A block of one line: JSON has no line break that it needs. What follows says how far the
    // block is indented at least.
    Ok(format!("{before}{:40}{policy}\n{after}", ""))
}

/// The policy that the shipped file carries as its example.
///
/// # Errors
///
/// When there is none.
pub fn example_policy() -> Result<Value> {
    policy_in(STATIC)
}

/// The policy that the shipped file of this name carries.
///
/// # Errors
///
/// When there is none.
pub fn policy_in(file: &str) -> Result<Value> {
    let (_, policy, _) = split(&shipped(file)?)?;
    serde_json::from_str(&policy).with_context(|| format!("the policy in {file}"))
}

fn shipped(file: &str) -> Result<String> {
    let file = paths::repository().join(file);
    fs::read_to_string(&file).with_context(|| file.display().to_string())
}

/// What stands before the policy, the policy, and what stands after it.
fn split(yaml: &str) -> Result<(String, String, String)> {
    let start = yaml.find("value: |\n").context("no policy in a shipped file")? + "value: |\n".len();
    let (before, rest) = yaml.split_at(start);
    let indent = rest.len() - rest.trim_start_matches(' ').len();
    let inside = |line: &&str| line.trim().is_empty() || line[..indent.min(line.len())].trim().is_empty();
    let length = rest.split_inclusive('\n').take_while(inside).map(str::len).sum();
    let (policy, after) = rest.split_at(length);
    Ok((before.to_owned(), policy.to_owned(), after.to_owned()))
}

/// The shipped configuration with upstreams that are spoken to by HTTP/2, without TLS.
#[must_use]
pub fn with_http2(yaml: &str) -> String {
    let options = "    typed_extension_protocol_options:\n      \
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
        explicit_http_config: { http2_protocol_options: {} }\n    connect_timeout: 1s\n";
    yaml.replace("    connect_timeout: 1s\n", options)
}
