//! Filters that arrive, fail and are replaced while Envoy runs: what Envoy 1.40 makes of them is why
//! some things here are as they are. Should another version do otherwise, these tests say so.

use anyhow::{Result, ensure};
use rampart_tests::{
    client::{Client, fan_out, tally},
    envoy::Envoy,
    modules::WORKER_REFUSING_BAD,
    paths,
    ports::Port,
    static_config::{Filter, StaticConfig},
    upstream::Upstream,
    wait::{SOON, eventually},
    workdir::system_test,
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

const REQUESTS: usize = 20;

/// The file in which Envoy finds its filter.
struct Discovered {
    file: PathBuf,
    module: PathBuf,
    version: usize,
}

impl Discovered {
    fn new(dir: &Path, module: PathBuf) -> Self {
        Self { file: dir.join("filter.json"), module, version: 0 }
    }

    /// Replaces the filter by one with this configuration, in this VM.
    fn push(&mut self, vm_id: &str, configuration: &str) -> Result<()> {
        self.version += 1;
        let wasm = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "module", "failure_policy": "FAIL_RELOAD",
                "vm_config": {"vm_id": vm_id, "code": {"local": {"filename": self.module}}},
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration},
            },
        });
        let extension = json!({
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "module", "typed_config": wasm,
        });
        let response = json!({"version_info": self.version.to_string(), "resources": [extension]});
        // Envoy looks when a file is moved there, not when one is written to.
        let next = self.file.with_extension("next");
        fs::write(&next, response.to_string())?;
        Ok(fs::rename(next, &self.file)?)
    }
}

/// Every worker answers with this status.
async fn answers(listener: &Port, status: u16) -> Result<()> {
    let client = Client::new(listener.address())?;
    let ask = async |_| Ok(client.get("/", None).await?.status);
    let all = async || {
        let answers = tally(&fan_out(0..REQUESTS, 8, ask).await?);
        ensure!(answers == [(status.to_string(), REQUESTS)].into(), "{answers:?}");
        Ok(())
    };
    eventually(SOON, &format!("{status} from every worker"), all).await
}

/// Waits until Envoy has counted this many discoveries to have ended so.
async fn counted(envoy: &Envoy, outcome: &str, times: u64) -> Result<()> {
    let name = format!("extension_config_discovery.http_filter.module.{outcome}");
    let all = async || {
        let count = envoy.stat(&name).await?;
        ensure!(count == times, "{count}");
        Ok(())
    };
    eventually(SOON, &format!("{times} of {name}"), all).await
}

#[test]
fn after_a_failure_on_workers_good_configurations_are_refused_until_the_vm_has_another_id() {
    system_test(async |dir| {
        let (upstream, listener) = (Upstream::start("upstream").await?, Port::claim()?);
        let mut discovered = Discovered::new(dir, WORKER_REFUSING_BAD.write_to(dir)?);
        discovered.push("first", "good")?;
        let config = StaticConfig {
            listener: listener.address(),
            upstream: upstream.address(),
            filter: Filter::Discovered(&discovered.file),
            attestation: Some("wasm.rampart.decision"),
        };
        let mut envoy = Envoy::start(dir, &config.render(), 2).await?;
        envoy.ready().await?;
        answers(&listener, 200).await?;
        let refused = envoy.stat("http.main.rbac.denied").await?;

        // Envoy accepts it, and runs without the filter: the guard is all there is.
        discovered.push("first", "bad")?;
        answers(&listener, 403).await?;
        let last = upstream.requests();
        ensure!(envoy.stat("http.main.rbac.denied").await? >= refused + REQUESTS as u64);

        discovered.push("first", "as good as the one before")?;
        counted(&envoy, "update_rejected", 1).await?;
        answers(&listener, 403).await?;
        ensure!(upstream.requests() == last, "a request passed without a filter");

        discovered.push("second", "as good as the one before")?;
        answers(&listener, 200).await?;
        Ok(())
    });
}

#[test]
fn a_refused_policy_leaves_the_one_before_though_envoy_accepts_it_the_second_time() {
    system_test(async |dir| {
        let (upstream, listener) = (Upstream::start("upstream").await?, Port::claim()?);
        let mut discovered = Discovered::new(dir, paths::filter()?);
        let passing = json!({"schema": 1, "default": "pass"}).to_string();
        discovered.push("first", &passing)?;
        let config = StaticConfig {
            listener: listener.address(),
            upstream: upstream.address(),
            filter: Filter::Discovered(&discovered.file),
            attestation: Some("wasm.rampart.decision"),
        };
        let mut envoy = Envoy::start(dir, &config.render(), 2).await?;
        envoy.ready().await?;
        answers(&listener, 200).await?;
        let accepted = envoy.stat("extension_config_discovery.http_filter.module.update_success").await?;

        let denying = |schema: u32| json!({"schema": schema, "default": "deny"}).to_string();
        discovered.push("first", &denying(2))?;
        counted(&envoy, "update_rejected", 1).await?;
        answers(&listener, 200).await?;
        let log = envoy.log()?;
        ensure!(log.contains("policy refused: schema: this filter reads schema 1, not 2"), "{log}");

        // Why "accepted" is no proof: Envoy compares with what it was sent last, not with what runs.
        discovered.push("first", &denying(2))?;
        counted(&envoy, "update_success", accepted + 1).await?;
        counted(&envoy, "update_rejected", 1).await?;
        answers(&listener, 200).await?;

        discovered.push("first", &denying(1))?;
        answers(&listener, 404).await
    });
}
