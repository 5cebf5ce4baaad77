//! The frozen bucketing vectors, through the filter in a real Envoy: the same file that the engine
//! is tested with natively, and the filter in an interpreter.

use anyhow::ensure;
use rampart_tests::{
    client::{Client, fan_out},
    envoy::Envoy,
    issuer::{AUDIENCE, Issuer},
    paths,
    ports::Port,
    shipped::{StaticVariant, example_policy},
    upstream::Upstream,
    vectors::{Vector, ask_all, check},
    workdir::system_test,
};
use serde_json::json;

const REPORTS: &str = "/api/v1/modules/v1/analytics/reports";

#[test]
fn every_vector_holds_in_envoy() {
    system_test(async |dir| {
        let vectors = Vector::all()?;
        let (issuer, upstream, listener) =
            (Issuer::start().await?, Upstream::start("upstream").await?, Port::claim()?);
        let mut policy = example_policy()?;
        policy["providers"][0] = json!({"name": "main", "issuer": issuer.url(), "audiences": [AUDIENCE],
            "jwks": issuer.jwks()});
        ask_all(&mut policy, &vectors);
        let config = StaticVariant {
            listener: listener.address(),
            analytics: upstream.address(),
            legacy: upstream.address(),
            module: &paths::filter()?,
            policy: &policy,
        };
        let mut envoy = Envoy::start(dir, &config.render()?, 2).await?;
        envoy.ready().await?;
        envoy.accepts(listener.address()).await?;
        let client = Client::new(listener.address())?;
        let ask = async |number: usize| {
            let claims = issuer.claims(&vectors[number].organisation, &["analytics:read"]);
            client.get(REPORTS, Some(&issuer.p256().sign(&claims)?)).await?.echo()
        };
        for (number, echo) in fan_out(0..vectors.len(), 16, ask).await?.iter().enumerate() {
            check(&vectors, number, echo.header("x-rampart-flags").unwrap_or_default())?;
        }
        ensure!(upstream.requests() == vectors.len(), "{}", upstream.requests());
        Ok(())
    });
}
