//! For whom a module is enabled, from the command line to its upstream, and how often they used it.

use anyhow::{Result, ensure};
use rampart_tests::{
    stack::Stack,
    wait::{SOON, eventually},
    workdir::system_test,
};
use serde_json::{Value, json};
use std::fs;

const MODULE: &str = "/api/v1/modules/v1/orders/list";
/// A name that means something to whoever reads names of counters.
const ODD: &str = "caf\u{e9}:1 a/b.c=\"x\"";

/// What is said of the module's organisations, by their names.
async fn told(stack: &Stack, organisation: &str) -> Result<Value> {
    let path = "/api/v1/module-management/modules/orders/organisations";
    let told = stack.service.client()?.get(path, None).await?.json()?;
    let mut all = told["organisations"].as_array().into_iter().flatten();
    Ok(all.find(|told| told["organisation"] == organisation).cloned().unwrap_or_default())
}

#[test]
fn a_module_serves_and_counts_those_for_whom_it_is_enabled() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let manifest = json!({
            "id": "orders", "enabled_for": "listed", "tell_configuration": true, "auth": {"level": "basic"},
            "endpoints": [stack.upstreams.pricing.address().to_string()], "routes": [{"path": "/list"}]
        });
        stack.register(dir, &manifest).await?.ok()?;
        let plan = dir.join("plan.json");
        fs::write(&plan, r#"{"plan": "caf\u00e9"}"#)?;
        let plan = plan.to_string_lossy();
        for organisation in ["acme", ODD] {
            stack
                .service
                .cli(&["module", "enable", "orders", organisation, "--configuration", &plan])
                .await?
                .ok()?;
        }
        let client = stack.client()?;
        let get = async |organisation: &str| client.get(MODULE, Some(&stack.token(organisation)?)).await;
        let status = async |organisation: &str| Ok(get(organisation).await?.status);
        stack.on_every_worker("enabled", 200, async || status(ODD).await).await?;
        let refused = get("wayne").await?;
        ensure!(refused.status == 403 && refused.text().contains("module_not_enabled"), "{}", refused.text());
        let echo = get("acme").await?.echo()?;
        ensure!(echo.header("x-rampart-module-config") == Some(r#"{"plan":"caf\u00e9"}"#), "{echo:?}");
        for _ in 0..6 {
            ensure!(status("acme").await? == 200);
        }

        eventually(SOON, "the counts", async || {
            let [acme, odd] = [told(&stack, "acme").await?, told(&stack, ODD).await?];
            ensure!(acme["access_count"] == 7 && acme["last_accessed_at"].is_string(), "{acme}");
            ensure!(odd["access_count"].as_u64() > Some(0), "{odd}");
            Ok(())
        })
        .await?;
        let stats = stack.envoy.admin("/stats/prometheus").await?;
        let line = r#"rampart_usage{module="orders",organisation="acme"} 7"#;
        ensure!(stats.lines().any(|other| other == line), "{stats}");

        stack.service.cli(&["module", "disable", "orders", "acme"]).await?.ok()?;
        stack.on_every_worker("disabled", 403, async || status("acme").await).await?;
        ensure!(status(ODD).await? == 200);
        stack.service.cli(&["module", "reset", "orders", ODD]).await?.ok()?;
        stack.on_every_worker("no more listed", 403, async || status(ODD).await).await?;
        // Who is refused has not used it.
        ensure!(told(&stack, "acme").await?["access_count"] == 7);
        Ok(())
    });
}
