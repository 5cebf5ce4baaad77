//! The frozen bucketing vectors, through the filter in a real Envoy: the same file that the engine
//! is tested with natively.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    client::{Client, fan_out},
    envoy::Envoy,
    issuer::{AUDIENCE, Issuer},
    paths,
    ports::Port,
    shipped::{StaticVariant, example_policy},
    upstream::Upstream,
    workdir::system_test,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

const PERCENTAGES: [u64; 3] = [25, 50, 75];
const GENERATIONS: [&str; 2] = ["v2", "v3"];

/// What a flag may be called; the vectors also hold keys that none may have.
fn is_key(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// A flag for each key, generation and percentage, each with a route of its own that it gates.
fn policy(keys: &BTreeSet<&str>, issuer: &Issuer) -> Result<Value> {
    let (mut flags, mut routes) = (Vec::new(), Vec::new());
    for (index, key) in keys.iter().enumerate() {
        for generation in GENERATIONS {
            for percentage in PERCENTAGES {
                let flag = format!("{index}-{generation}-{percentage}");
                routes.push(
                    json!({"path": format!("/{flag}"), "gates": [{"flag": flag, "when_off": "legacy"}]}),
                );
                flags.push(json!({"key": flag, "rollout_group": key, "percentage": percentage,
                    "bucketing": format!("flagd-{generation}")}));
            }
        }
    }
    let mut policy = example_policy()?;
    policy["providers"][0] = json!({"name": "main", "issuer": issuer.url(), "audiences": [AUDIENCE],
        "jwks": issuer.jwks()});
    policy["flags"] = json!(flags);
    let cluster = policy["modules"][0]["cluster"].clone();
    policy["modules"] = json!([{"id": "vectors", "version": "v1", "namespace": "vectors", "cluster": cluster, "routes": routes}]);
    Ok(policy)
}

#[test]
fn every_vector_holds_in_webassembly() {
    system_test(async |dir| {
        let file = paths::repository().join("tests/vectors/bucketing-vectors-explicit.json");
        let vectors: Value = serde_json::from_slice(&fs::read(file)?)?;
        let rows = vectors["rows"].as_array().context("no rows")?;
        let rows: Vec<&Value> =
            rows.iter().filter(|row| row["flagKey"].as_str().is_some_and(is_key)).collect();
        let keys: BTreeSet<&str> = rows.iter().filter_map(|row| row["flagKey"].as_str()).collect();

        let issuer = Issuer::start().await?;
        let (module, legacy) = (Upstream::start("module").await?, Upstream::start("legacy").await?);
        let listener = Port::claim()?;
        let config = StaticVariant {
            listener: listener.address(),
            analytics: module.address(),
            legacy: legacy.address(),
            module: &paths::filter()?,
            policy: &policy(&keys, &issuer)?,
        };
        let mut envoy = Envoy::start(dir, &config.render()?, 2).await?;
        envoy.ready().await?;
        let client = Client::new(listener.address())?;

        let mut cases = Vec::new();
        for row in rows {
            let (key, organisation) = (row["flagKey"].as_str(), row["organizationId"].as_str());
            let (key, organisation) = (key.context("no key")?, organisation.context("no organisation")?);
            let index = keys.iter().position(|known| *known == key).context("no such key")?;
            let token = issuer.p256().sign(&issuer.claims(organisation, &[]))?;
            for generation in GENERATIONS {
                let bucket = row[generation]["bucketOf1e6"].as_u64().context("no bucket")?;
                for percentage in PERCENTAGES {
                    let path = format!("/api/v1/modules/v1/vectors/{index}-{generation}-{percentage}");
                    let expected = if bucket < percentage * 10_000 { "module" } else { "legacy" };
                    cases.push((path, token.clone(), expected));
                }
            }
        }
        ensure!(cases.len() >= 480, "only {} cases", cases.len());
        let ask = async |(path, token, _): &(String, String, &str)| {
            Ok(client.get(path, Some(token)).await?.served_by())
        };
        for ((path, _, expected), served_by) in cases.iter().zip(fan_out(&cases, 16, ask).await?) {
            ensure!(served_by == *expected, "{path}: {served_by} instead of {expected}");
        }
        Ok(())
    });
}
