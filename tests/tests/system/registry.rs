//! Manifests in a folder: found, judged, served and taken away.

use anyhow::{Result, ensure};
use rampart_tests::{
    seed::ROUTE,
    stack::{Options, Stack},
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::json;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// A stack whose service reads the folder `modules`.
async fn reading(dir: &Path) -> Result<Stack> {
    fs::create_dir(dir.join("modules"))?;
    let mut stack = Stack::start(dir, Options { manifests: true, ..Options::default() }).await?;
    stack.seed(dir).await?;
    Ok(stack)
}

/// Waits until every worker answers an anonymous request so.
async fn answers(stack: &Stack, path: &str, status: u16) -> Result<()> {
    let asked = async || Ok(stack.client()?.get(path, None).await?.status);
    stack.on_every_worker(path, status, asked).await?;
    Ok(())
}

/// Waits until a module is in this state.
async fn state(stack: &Stack, id: &str, state: &str) -> Result<()> {
    let reached = async || {
        let status = stack.service.cli(&["--output", "json", "module", "status", id]).await?.json()?;
        ensure!(status["state"] == state, "{status}");
        Ok(())
    };
    eventually(SOON, &format!("{id} to be {state}"), reached).await
}

#[test]
fn a_manifest_that_is_dropped_serves_whatever_lies_beside_it_and_goes_with_its_file() {
    system_test(async |dir| {
        let stack = reading(dir).await?;
        let (folder, upstream) = (dir.join("modules"), stack.upstreams.pricing.address());
        let broken =
            "id: broken\nendpoints: [127.0.0.1:9]\nroutes:\n  - path: /x\n    auth:\n      level: some\n";
        fs::write(folder.join("broken.yaml"), broken)?;
        let rival = ROUTE.trim_start_matches("/api/v1/modules/v1/analytics-core");
        let rival = format!(
            "id: rival\nnamespace: analytics-core\nendpoints: [{upstream}]\nroutes:\n  - {{methods: [GET], path: {rival}}}\n"
        );
        fs::write(folder.join("rival.yaml"), rival)?;
        let kept =
            format!("id: kept\nendpoints: [{upstream}]\nauth: {{level: none}}\nroutes: [{{path: /here}}]\n");
        fs::write(folder.join("kept.yaml"), kept)?;
        let orders = format!(
            "module_id: orders\nversion: 1.4.2\nauth_level: NONE\nendpoints: [{upstream}]\nroutes: [{{path: /list}}]\n"
        );
        fs::write(folder.join("orders.yml"), orders)?;

        let (served, route) = ("/api/v1/modules/v1/orders/list", "/api/v1/modules/v1/kept/here");
        answers(&stack, served, 200).await?;
        answers(&stack, route, 200).await?;
        state(&stack, "orders", "active").await?;
        // What does not read has no id but its file's name.
        state(&stack, "broken.yaml", "error").await?;
        state(&stack, "rival", "error").await?;
        let told = stack.service.cli(&["module", "conflicts"]).await?.ok()?;
        let claim = "of module `rival` is claimed already by module `analytics_core`";
        ensure!(told.contains("rival.yaml: line 5: ") && told.contains(claim), "{told}");
        let told = stack.service.cli(&["module", "discover"]).await?.ok()?;
        ensure!(told.contains("broken.yaml: line 6: routes[0].auth.level: unknown variant `some`"), "{told}");
        ensure!(told.contains("registered: kept, orders\n"), "{told}");
        // Who was there first goes on.
        answers(&stack, ROUTE, 401).await?;

        fs::remove_file(folder.join("orders.yml"))?;
        answers(&stack, served, 404).await?;
        state(&stack, "orders", "unregistered").await?;
        answers(&stack, route, 200).await?;
        let told = stack.service.cli(&["--output", "json", "module", "history", "orders"]).await?.json()?;
        let events = told["events"].as_array().into_iter().flatten().rev();
        let life: Vec<&str> = events.filter_map(|event| event["to"].as_str()).collect();
        ensure!(life == ["discovered", "validated", "registered", "active", "unregistered"], "{told}");
        Ok(())
    });
}

#[test]
fn test_full_module_lifecycle() {
    system_test(async |dir| {
        let stack = reading(dir).await?;
        let (api, upstream) = (stack.service.client()?, stack.upstreams.pricing.address());
        let mut took = Vec::new();
        for number in 0..11 {
            let manifest = json!({
                "id": format!("quick_{number}"), "endpoints": [upstream.to_string()],
                "auth": {"level": "none"}, "routes": [{"path": "/now"}]
            });
            let start = Instant::now();
            let headers = [("content-type", "application/json")];
            let modules = "/api/v1/module-management/modules";
            let reply = api.send(Method::POST, modules, &headers, manifest.to_string().into_bytes()).await?;
            ensure!(reply.status == 200, "{}", reply.text());
            let path = format!("/api/v1/modules/v1/quick-{number}/now");
            let client = stack.client()?;
            let served = async || {
                ensure!(client.get(&path, None).await?.status == 200, "not yet");
                Ok(())
            };
            eventually(SOON, "the first 200", served).await?;
            took.push(start.elapsed());
        }
        took.sort();
        println!("from the request to register to the first 200: {took:?}");
        // Others compile beside this one.
        ensure!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
        state(&stack, "quick_0", "active").await?;
        stack.service.cli(&["module", "remove", "quick_0"]).await?.ok()?;
        answers(&stack, "/api/v1/modules/v1/quick-0/now", 404).await?;
        answers(&stack, "/api/v1/modules/v1/quick-1/now", 200).await?;
        state(&stack, "quick_0", "unregistered").await?;
        Ok(())
    });
}
