//! What a flag changes about a request beyond its cluster, through the real filter and router.

use anyhow::{Result, ensure};
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
use serde_json::{Value, json};
use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
};

const PATH: &str = "/api/v1/modules/v1/effects/here";

/// An Envoy with one module, whose flag is on and has these effects.
async fn envoy_with(
    dir: &Path,
    module: SocketAddr,
    legacy: SocketAddr,
    when_on: Value,
) -> Result<(Envoy, Client)> {
    let listener = Port::claim()?;
    let mut policy = example_policy()?;
    let cluster = policy["modules"][0]["cluster"].clone();
    policy["flags"] = json!([{"key": "on", "no_organisation": true}]);
    policy["modules"] = json!([{
        "id": "effects", "version": "v1", "namespace": "effects", "cluster": cluster,
        "auth": {"level": "none"}, "effects": [{"flag": "on", "when_on": when_on}]
    }]);
    let config = StaticVariant {
        listener: listener.address(),
        analytics: module,
        legacy,
        module: &paths::filter()?,
        policy: &policy,
    };
    let mut envoy = Envoy::start(dir, &config.render()?, 1).await?;
    envoy.ready().await?;
    envoy.accepts(listener.address()).await?;
    Ok((envoy, Client::new(listener.address())?))
}

#[test]
fn a_flags_effects_reach_the_router() {
    system_test(async |dir| {
        // It takes connections and never answers.
        let module = TcpListener::bind("127.0.0.1:0")?;
        let legacy = Upstream::start("legacy").await?;
        let when_on = json!({
            "headers": {"x-envoy-upstream-rq-timeout-ms": "300"}, "mirror": {"cluster": "legacy"}
        });
        let (_envoy, client) = envoy_with(dir, module.local_addr()?, legacy.address(), when_on).await?;

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

#[test]
fn a_copy_for_a_cluster_that_envoy_does_not_have_harms_nobody() {
    system_test(async |dir| {
        let (module, legacy) = (Upstream::start("module").await?, Upstream::start("legacy").await?);
        let when_on = json!({"mirror": {"cluster": "nowhere"}});
        let (envoy, client) = envoy_with(dir, module.address(), legacy.address(), when_on).await?;
        for (number, method) in [Method::GET, Method::POST, Method::GET].into_iter().enumerate() {
            let reply = client.send(method, PATH, &[], b"body".to_vec()).await?;
            let echo = reply.echo()?;
            ensure!((reply.status, &*echo.name, echo.body_length) == (200, "module", 4), "{echo:?}");
            ensure!(module.requests() == number + 1 && legacy.requests() == 0, "{number}");
        }
        ensure!(envoy.stat("http.rampart.downstream_rq_5xx").await? == 0);
        Ok(())
    });
}
