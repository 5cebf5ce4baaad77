//! How many requests a module takes, and which headers are changed for it: from its manifest to both ends.

use anyhow::{Result, ensure};
use rampart_tests::{
    client::Reply,
    seed::ROUTE,
    stack::Stack,
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;

const PATH: &str = "/api/v1/modules/v1/orders/list";

fn manifest(stack: &Stack, members: &Value) -> Value {
    let mut manifest = json!({
        "id": "orders", "endpoints": [stack.upstreams.pricing.address().to_string()],
        "routes": [{"path": "/list"}, {"path": "/open", "auth": {"level": "none"}}]
    });
    let members = members.as_object().into_iter().flatten();
    manifest
        .as_object_mut()
        .into_iter()
        .for_each(|all| all.extend(members.clone().map(|(k, v)| (k.clone(), v.clone()))));
    manifest
}

/// Registers the module, and waits until an answer is as wanted.
async fn until(
    stack: &Stack,
    dir: &Path,
    members: &Value,
    organisation: &str,
    wanted: impl Fn(&Reply) -> bool,
) -> Result<()> {
    stack.register(dir, &manifest(stack, members)).await?.ok()?;
    let token = stack.token(organisation)?;
    eventually(SOON, &members.to_string(), async || {
        let reply = stack.client()?.get(PATH, Some(&token)).await?;
        ensure!(wanted(&reply), "{} {}", reply.status, reply.text());
        Ok(())
    })
    .await
}

#[test]
fn one_organisation_has_used_up_what_it_may_ask_and_another_has_not() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let limit = json!({"rate_limit": {
            "per_organisation": {"requests": 5, "per": "day"}, "organisations": {"big": {"requests": 9, "per": "day"}}
        }});
        // The first who asks is not among those that are counted below.
        until(&stack, dir, &limit, "probe", |reply| reply.status == 429).await?;
        let client = stack.client()?;
        let ask = async |organisation: &str, times: usize| {
            let token = stack.token(organisation)?;
            let mut statuses = Vec::new();
            for _ in 0..times {
                statuses.push(client.get(PATH, Some(&token)).await?.status);
            }
            Ok::<_, anyhow::Error>(statuses)
        };
        ensure!(ask("acme", 8).await? == [200, 200, 200, 200, 200, 429, 429, 429], "acme");
        ensure!(ask("wayne", 6).await? == [200, 200, 200, 200, 200, 429], "wayne");
        let big = ask("big", 10).await?;
        ensure!(big.iter().filter(|status| **status == 200).count() == 9, "{big:?}");
        let refused = client.get(PATH, Some(&stack.token("acme")?)).await?;
        let problem = refused.json()?;
        ensure!(problem["reason"] == "rate_limited" && problem["status"] == 429, "{problem}");
        ensure!(refused.header("content-type") == Some("application/problem+json"), "{refused:?}");
        let after: Option<u64> = refused.header("retry-after").and_then(|after| after.parse().ok());
        ensure!(after.is_some_and(|after| after > 60), "{refused:?}");
        let call = [
            ("authorization", &*format!("Bearer {}", stack.token("acme")?)),
            ("content-type", "application/grpc"),
        ];
        let call = client.send(Method::POST, PATH, &call, Vec::new()).await?;
        ensure!(
            call.status == 200 && call.header("grpc-status") == Some("8"),
            "RESOURCE_EXHAUSTED: {call:?}"
        );
        // Who asks for no organisation is not counted for one, and other modules are not this one.
        for _ in 0..8 {
            ensure!(client.get("/api/v1/modules/v1/orders/open", None).await?.status == 200);
            ensure!(client.get(ROUTE, Some(&stack.token("acme")?)).await?.status == 200);
        }
        let stats = stack.envoy.stats().await?;
        ensure!(stats.get("rampart.http_local_rate_limit.rate_limited").copied() >= Some(5), "{stats:?}");
        Ok(())
    });
}

#[test]
fn a_limit_is_changed_without_a_connection_being_lost() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let total = |requests: u32| json!({"rate_limit": {"total": {"requests": requests, "per": "day"}}});
        until(&stack, dir, &total(3), "acme", |reply| reply.status == 429).await?;
        let drained = async || {
            let (mut all, names) = (Vec::new(), ["listener_modified", "total_listeners_draining"]);
            for name in names {
                all.push(stack.envoy.stat(&format!("listener_manager.{name}")).await?);
            }
            all.push(stack.envoy.stat("http.rampart.downstream_cx_drain_close").await?);
            Ok::<_, anyhow::Error>(all)
        };
        ensure!(drained().await? == [0, 0, 0], "{:?}", drained().await?);
        // Another organisation has no other part of it.
        ensure!(stack.client()?.get(PATH, Some(&stack.token("wayne")?)).await?.status == 429);
        // What serves in its place takes any number.
        stack.service.cli(&["flag", "create", "nobody"]).await?.ok()?;
        let mut gated = total(3);
        gated["gates"] = json!([{"flag": "nobody", "when_off": "legacy"}]);
        until(&stack, dir, &gated, "acme", |reply| reply.served_by() == "legacy").await?;
        for _ in 0..6 {
            ensure!(stack.client()?.get(PATH, Some(&stack.token("acme")?)).await?.served_by() == "legacy");
        }
        until(&stack, dir, &total(1_000), "acme", |reply| reply.status == 200).await?;
        until(&stack, dir, &json!({}), "acme", |reply| reply.status == 200).await?;
        ensure!(drained().await? == [0, 0, 0], "the listener was changed: {:?}", drained().await?);
        Ok(())
    });
}

#[test]
fn headers_are_changed_for_the_module_and_its_callers_alone() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let members = json!({
            "request_headers": {"set": {"x-plan": "100 % of %REQ(x-secret)%"}, "remove": ["x-secret", "authorization"]},
            "response_headers": {"set": {"cache-control": "no-store"}, "remove": ["x-echo"]},
            "retry": {"on": ["5xx"], "max_retries": 3}
        });
        until(&stack, dir, &members, "acme", |reply| reply.header("cache-control") == Some("no-store"))
            .await?;
        let bearer = format!("Bearer {}", stack.token("acme")?);
        let headers =
            [("authorization", &*bearer), ("x-secret", "s"), ("x-plan", "mine"), ("x-other", "kept")];
        // It is tried again twice, and changed once.
        stack.upstreams.pricing.fail(2);
        let reply = stack.client()?.send(Method::GET, PATH, &headers, Vec::new()).await?;
        let echo = reply.echo()?;
        let plans: Vec<&str> =
            echo.headers.iter().filter(|(name, _)| name == "x-plan").map(|(_, value)| &**value).collect();
        ensure!(plans == ["100 % of %REQ(x-secret)%"], "{echo:?}");
        ensure!(echo.header("x-secret").is_none() && echo.header("authorization").is_none(), "{echo:?}");
        ensure!(echo.header("x-other") == Some("kept"), "{echo:?}");
        ensure!(reply.header("cache-control") == Some("no-store"), "{reply:?}");
        // What serves in its place is what it was.
        let gated = json!({"gates": [{"flag": "nobody", "when_off": "legacy"}]});
        stack.service.cli(&["flag", "create", "nobody"]).await?.ok()?;
        let mut members = members;
        members
            .as_object_mut()
            .into_iter()
            .for_each(|all| all.extend(gated.as_object().cloned().unwrap_or_default()));
        until(&stack, dir, &members, "acme", |reply| reply.served_by() == "legacy").await?;
        let reply = stack.client()?.send(Method::GET, PATH, &headers, Vec::new()).await?;
        ensure!(
            reply.echo()?.header("x-secret") == Some("s") && reply.header("cache-control").is_none(),
            "{reply:?}"
        );
        Ok(())
    });
}
