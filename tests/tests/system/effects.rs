//! What a flag changes about a request beyond its cluster, through the real filter and router.

use anyhow::ensure;
use rampart_tests::{
    client::Client,
    envoy::Envoy,
    paths,
    ports::Port,
    shipped::{StaticVariant, example_policy},
    upstream::Upstream,
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::json;
use std::net::TcpListener;

const PATH: &str = "/api/v1/modules/v1/effects/here";

#[test]
fn a_flags_effects_reach_the_router() {
    system_test(async |dir| {
        // It takes connections and never answers.
        let module = TcpListener::bind("127.0.0.1:0")?;
        let legacy = Upstream::start("legacy").await?;
        let listener = Port::claim()?;
        let mut policy = example_policy()?;
        let cluster = policy["modules"][0]["cluster"].clone();
        policy["flags"] = json!([{"key": "on", "no_organisation": true}]);
        policy["modules"] = json!([{
            "id": "effects", "version": "v1", "namespace": "effects", "cluster": cluster,
            "auth": {"level": "none"},
            "effects": [{"flag": "on", "when_on": {
                "headers": {"x-envoy-upstream-rq-timeout-ms": "300"},
                "mirror": {"cluster": "legacy"}
            }}]
        }]);
        let config = StaticVariant {
            listener: listener.address(),
            analytics: module.local_addr()?,
            legacy: legacy.address(),
            module: &paths::filter()?,
            policy: &policy,
        };
        let mut envoy = Envoy::start(dir, &config.render()?, 1).await?;
        envoy.ready().await?;
        envoy.accepts(listener.address()).await?;
        let client = Client::new(listener.address())?;

        // The route waits for ever, the client would have Envoy wait for a minute: the policy's value
        // holds, or the client gives up before Envoy does.
        let own = [("x-envoy-upstream-rq-timeout-ms", "60000"), ("x-rampart-mirror", "nowhere")];
        for (method, copies) in [(Method::POST, 0), (Method::GET, 1)] {
            let reply = client.send(method.clone(), PATH, &own, Vec::new()).await?;
            ensure!(reply.status == 504, "{method}: {} {}", reply.status, reply.text());
            eventually(SOON, "the copy", async || {
                ensure!(legacy.requests() == copies, "{method}: {}", legacy.requests());
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}
