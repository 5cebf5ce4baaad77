//! What Envoys report of themselves: calls, workers, health, unknown keys, as the flag service tells them.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    seed::{EARLY, LATE, ROUTE},
    stack::Stack,
    upstream::Upstream,
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::{Value, json};

const METRICS: &str = "/api/v1/module-management/modules/metrics";

async fn get(stack: &Stack, path: &str) -> Result<Value> {
    let reply = stack.service.client()?.get(path, None).await?;
    ensure!(reply.status == 200, "{path}: {} {}", reply.status, reply.text());
    reply.json()
}

/// Waits until a part of what is told at a path is as wanted.
async fn told(stack: &Stack, path: &str, pointer: &str, wanted: &Value) -> Result<()> {
    eventually(SOON, pointer, async || {
        let body = get(stack, path).await?;
        ensure!(body.pointer(pointer) == Some(wanted), "{body:#}");
        Ok(())
    })
    .await
}

/// Waits until `/metrics` has a line.
async fn counted(stack: &Stack, line: &str) -> Result<()> {
    eventually(SOON, line, async || {
        let text = stack.service.client()?.get("/metrics", None).await?.text();
        ensure!(text.lines().any(|other| other == line), "{text}");
        Ok(())
    })
    .await
}

#[test]
fn as_many_calls_are_told_as_were_made() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("50").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        stack.served_by(&stack.token(LATE)?, "legacy").await?;
        let client = stack.client()?;
        let path = ROUTE.replace("/dashboard/overview", "/analytics/7");
        let mut failures = 0;
        for (organisation, times, failing) in [(EARLY, 30, 4), (LATE, 20, 0)] {
            let token = stack.token(organisation)?;
            stack.upstreams.analytics_v1.fail(failing);
            for _ in 0..times {
                failures += usize::from(client.get(&path, Some(&token)).await?.status == 503);
            }
        }
        ensure!(failures == 4, "{failures}");
        for _ in 0..5 {
            ensure!(client.get(&path, None).await?.status == 401);
            // Nothing that clients make up is kept.
            client.get("/api/v1/modules/v1/analytics-core/invented", None).await?;
        }
        let key = "/analytics_core:~1analytics~1{subject}";
        told(&stack, METRICS, &format!("{key}/call_count"), &json!(55)).await?;
        let body = get(&stack, METRICS).await?;
        let entry = body.pointer(key).context("no entry")?;
        let members: Vec<&String> = entry.as_object().context("no object")?.keys().collect();
        let given = ["avg_duration_ms", "call_count", "error_count", "success_rate", "total_duration_ms"];
        ensure!(members == given, "{members:?}");
        ensure!(entry["error_count"] == 4 && entry["success_rate"] == json!(51.0 / 55.0), "{entry}");
        let (total, mean) = (entry["total_duration_ms"].as_f64(), entry["avg_duration_ms"].as_f64());
        // JSON is not read to the last bit.
        let close = |total: f64| mean.is_some_and(|mean| (total / 55.0 - mean).abs() < 1e-9);
        ensure!(total.is_some_and(|total| total > 0.0 && close(total)), "{entry}");

        let detailed = get(&stack, &format!("{METRICS}?detail=true")).await?;
        let arms = detailed.pointer(&format!("{key}/arms")).context("no arms")?;
        let wanted = json!({"": {"401": 5}, "legacy": {"200": 20}, "module": {"200": 26, "503": 4}});
        ensure!(*arms == wanted, "{arms}");
        let top = get(&stack, &format!("{METRICS}?top=1&by=module")).await?;
        let modules: Vec<&String> = top.as_object().context("no object")?.keys().collect();
        ensure!(modules == ["analytics_core"], "{top}");
        counted(&stack, r#"rampart_requests_total{module="analytics_core",arm="module",code="5xx"} 4"#)
            .await?;
        // Every call is timed once: histograms too come as increments.
        eventually(SOON, "as many durations as calls", async || {
            let text = stack.service.client()?.get("/metrics", None).await?.text();
            let sum = |name: &str| -> Result<u64> {
                let of = format!(r#"rampart_{name}{{module="analytics_core",arm="module""#);
                let values = text.lines().filter(|line| line.starts_with(&of));
                values.map(|line| Ok(line.rsplit(' ').next().context("no value")?.parse::<u64>()?)).sum()
            };
            let (calls, timed) = (sum("requests_total")?, sum("request_duration_seconds_count")?);
            ensure!(calls > 30 && calls == timed, "{calls} calls, {timed} timed");
            Ok(())
        })
        .await?;
        let metrics = stack.service.client()?.get("/metrics", None).await?.text();
        ensure!(!metrics.contains("rampart_reports_dropped_total{"), "{metrics}");
        Ok(())
    });
}

#[test]
fn the_revision_that_decides_on_each_worker_is_told() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        for percentage in ["40", "60"] {
            stack.roll_out(percentage).await?;
            stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
            stack.workers_follow(2).await?;
            let envoys = get(&stack, "/api/v1/envoys").await?;
            let workers = envoys.pointer("/envoys/0/running/workers").and_then(Value::as_array);
            ensure!(workers.is_some_and(|workers| workers.len() == 2), "{envoys:#}");
        }
        let status = stack.service.cli(&["status"]).await?.ok()?;
        let revision = get(&stack, "/api/v1/envoys").await?["revision"].to_string();
        let row = status.lines().find(|line| line.starts_with("envoy-1")).context("no row")?;
        ensure!(row.split_whitespace().filter(|cell| *cell == revision).count() == 2, "{status}");
        counted(&stack, "rampart_workers_behind 0").await?;
        counted(&stack, "rampart_unjudged_requests_total 0").await
    });
}

#[test]
fn a_module_that_goes_away_is_unhealthy_and_well_again_when_it_is_back() {
    system_test(async |dir| {
        let mut stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let token = stack.token(EARLY)?;
        stack.served_by(&token, "analytics-core v1").await?;
        let health = "/health/analytics_core/status";
        told(&stack, "/api/v1/status", health, &json!("healthy")).await?;
        let gone = std::mem::replace(&mut stack.upstreams.analytics_v1, Upstream::start("other").await?);
        drop(gone);
        eventually(SOON, "unhealthy", async || {
            stack.client()?.get(ROUTE, Some(&token)).await?;
            let body = get(&stack, "/api/v1/status").await?;
            ensure!(body.pointer(health) == Some(&json!("unhealthy")), "{body:#}");
            ensure!(body["health"]["pricing_intelligence"]["status"] == "healthy", "{body:#}");
            Ok(())
        })
        .await?;
        counted(&stack, r#"rampart_module_up{module="analytics_core"} 0"#).await?;
        let status = stack.service.cli(&["status"]).await?.ok()?;
        ensure!(status.contains("analytics_core  unhealthy  1 of 1"), "{status}");
        let other = stack.upstreams.analytics_v1.address().to_string();
        let manifest = json!({"endpoints": [other]});
        let path = "/api/v1/module-management/modules/analytics_core";
        let api = stack.service.client()?;
        let mut module: Value = api.get(path, None).await?.json()?;
        module["endpoints"] = manifest["endpoints"].clone();
        let put = api.send(Method::PUT, path, &[("if-match", "*")], module.to_string().into_bytes()).await?;
        ensure!(put.status == 200, "{}", put.text());
        stack.served_by(&token, "other").await?;
        // A minute without a failure makes it healthy; a moment makes it no longer unhealthy.
        eventually(SOON, "degraded at most", async || {
            stack.client()?.get(ROUTE, Some(&token)).await?;
            let body = get(&stack, "/api/v1/status").await?;
            ensure!(body.pointer(health) == Some(&json!("degraded")), "{body:#}");
            Ok(())
        })
        .await
    });
}

#[test]
fn tokens_of_unknown_keys_are_counted_by_their_provider() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        let header = json!({"alg": "RS256", "kid": "not-yet-known"});
        let claims = stack.issuer.claims(EARLY, &[]);
        let token = stack.issuer.rsa().sign_with_header(&header, &claims)?;
        for _ in 0..3 {
            ensure!(stack.client()?.get(ROUTE, Some(&token)).await?.status == 401);
        }
        counted(&stack, r#"rampart_unknown_keys_total{provider="main"} 3"#).await?;
        counted(&stack, r#"rampart_refusals_total{reason="unknown_key"} 3"#).await?;
        let prometheus = stack.envoy.admin("/stats/prometheus").await?;
        let line = r#"rampart_unknown_key{provider="main"} 3"#;
        ensure!(prometheus.lines().any(|other| other == line), "no `{line}` in {prometheus}");
        Ok(())
    });
}
