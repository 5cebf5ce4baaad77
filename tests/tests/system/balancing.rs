//! Which endpoint of a module a request goes to.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use rampart_tests::{stack::Stack, workdir::system_test};
use serde_json::json;

const PATH: &str = "/api/v1/modules/v1/spread";

/// The endpoints that each of some organisations meets in a few requests, all connections new.
async fn met(stack: &Stack) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut met = BTreeMap::<String, BTreeSet<String>>::new();
    for number in 0..24 {
        let organisation = format!("organisation-{number}");
        let token = stack.token(&organisation)?;
        for _ in 0..8 {
            let reply = stack.client()?.get(PATH, Some(&token)).await?;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
            met.entry(organisation.clone()).or_default().insert(reply.served_by());
        }
    }
    Ok(met)
}

#[test]
fn an_organisation_keeps_its_endpoint_where_the_module_asks_for_it() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let upstreams =
            [&stack.upstreams.analytics_v1, &stack.upstreams.analytics_v2, &stack.upstreams.pricing];
        let endpoints = upstreams.map(|upstream| upstream.address().to_string());
        let manifest = json!({"id": "spread", "endpoints": endpoints, "hash_by": "organisation"});
        stack.register(dir, &manifest).await?.ok()?;
        let token = stack.token("somebody")?;
        let asked = async || Ok(stack.client()?.get(PATH, Some(&token)).await?.status);
        stack.on_every_worker("the module", 200, asked).await?;

        let kept = met(&stack).await?;
        ensure!(kept.values().all(|endpoints| endpoints.len() == 1), "{kept:?}");
        let all: BTreeSet<&String> = kept.values().flatten().collect();
        ensure!(all.len() == endpoints.len(), "some endpoint serves nobody: {kept:?}");

        // Another module at the same endpoints, which does not ask for it.
        let manifest = json!({"id": "spread", "version": "v2", "endpoints": endpoints});
        let path = PATH.replace("v1/spread", "v2/spread");
        stack.register(dir, &manifest).await?.ok()?;
        let asked = async || Ok(stack.client()?.get(&path, Some(&token)).await?.status);
        stack.on_every_worker("the other module", 200, asked).await?;
        let mut met = BTreeSet::new();
        for _ in 0..24 {
            met.insert(stack.client()?.get(&path, Some(&token)).await?.served_by());
        }
        ensure!(met.len() > 1, "{met:?}");
        Ok(())
    });
}
