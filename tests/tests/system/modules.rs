//! What a manifest says of a module besides who may call it, from the command line to its upstream.

use anyhow::{Result, ensure};
use rampart_tests::{
    seed::{EARLY, FLAG, LATE, ROUTE},
    stack::Stack,
    upstream::Echo,
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{net::TcpListener, path::Path};

/// Registers a module and waits until every worker answers its `path` with `status`.
async fn registered(stack: &Stack, dir: &Path, manifest: &Value, path: &str, status: u16) -> Result<()> {
    stack.register(dir, manifest).await?.ok()?;
    let token = stack.token(EARLY)?;
    let asked = async || Ok(stack.client()?.get(path, Some(&token)).await?.status);
    stack.on_every_worker(&manifest["id"].to_string(), status, asked).await?;
    Ok(())
}

#[test]
fn three_versions_of_a_namespace_stand_side_by_side() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        let third = json!({
            "id": "analytics_core_v3", "version": "v3", "namespace": "analytics-core",
            "endpoints": [stack.upstreams.pricing.address().to_string()],
            "routes": [{"methods": ["GET"], "path": "/dashboard/overview"}]
        });
        registered(&stack, dir, &third, &ROUTE.replace("/v1/analytics", "/v3/analytics"), 200).await?;
        let (client, token) = (stack.client()?, stack.token(EARLY)?);
        for (version, served_by, module) in [
            ("v1", "analytics-core v1", "analytics_core"),
            ("v2", "analytics-core v2", "analytics_core_v2"),
            ("v3", "pricing-intelligence v1", "analytics_core_v3"),
        ] {
            let path = ROUTE.replace("/v1/analytics", &format!("/{version}/analytics"));
            let echo = client.get(&path, Some(&token)).await?.echo()?;
            ensure!(echo.name == served_by && echo.path == path, "{version}: {echo:?}");
            ensure!(echo.header("x-rampart-module") == Some(module), "{version}: {echo:?}");
        }
        let reply = client.get(&ROUTE.replace("/v1/analytics", "/v4/analytics"), Some(&token)).await?;
        ensure!(reply.status == 404 && reply.text().contains("v1, v2, v3"), "{}", reply.text());
        Ok(())
    });
}

#[test]
fn a_module_is_found_by_its_aliases_and_sees_a_path_of_its_own() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let public = "/api/v1/modules/v1/bestellungen/a%20b/7";
        let mut manifest = json!({
            "id": "orders", "aliases": ["bestellungen"], "rewrite": {"prefix": "/internal/orders"},
            "endpoints": [stack.upstreams.pricing.address().to_string()],
            "routes": [
                {"path": "/old", "gates": [{"flag": FLAG, "when_off": "legacy"}]},
                {"path": "/{*rest}"}
            ]
        });
        registered(&stack, dir, &manifest, public, 200).await?;
        let (client, bearer) = (stack.client()?, format!("Bearer {}", stack.token(EARLY)?));
        // Once as the client of an edge, once as one that Envoy takes for internal.
        for forwarded_for in ["203.0.113.7", "10.0.0.1"] {
            let lies = [
                ("authorization", bearer.as_str()),
                ("x-envoy-original-path", "/forged-original"),
                ("x-envoy-original-path", "/forged-again"),
                ("x-forwarded-for", forwarded_for),
            ];
            let seen = |echo: &Echo| {
                let told = echo.headers.iter().filter(|(name, _)| name == "x-envoy-original-path");
                told.map(|(_, value)| value.clone()).collect::<Vec<_>>()
            };
            for (namespace, query) in [("bestellungen", "?q=%2F..&r"), ("orders", "")] {
                let path = format!("/api/v1/modules/v1/{namespace}/a%20b/7{query}");
                let echo = client.send(Method::GET, &path, &lies, Vec::new()).await?.echo()?;
                ensure!(echo.name == "pricing-intelligence v1", "{echo:?}");
                ensure!(echo.path == "/internal/orders/a%20b/7", "{echo:?}");
                ensure!(
                    echo.query.as_deref().unwrap_or_default() == query.trim_start_matches('?'),
                    "{echo:?}"
                );
                ensure!(seen(&echo) == [path.as_str()], "{echo:?}");
                ensure!(echo.header("x-rampart-module") == Some("orders"), "{echo:?}");
            }
            // What is replaced, and what is none of ours, gets the public path.
            for path in ["/api/v1/modules/v1/orders/old", "/outside"] {
                let echo = client.send(Method::GET, path, &lies, Vec::new()).await?.echo()?;
                ensure!(echo.name == "legacy" && echo.path == path && seen(&echo).is_empty(), "{echo:?}");
            }
        }
        let log = eventually(SOON, "the access log", async || {
            let log = stack.envoy.log()?;
            ensure!(log.matches("\"/outside\"").count() >= 2, "{log}");
            Ok(log)
        })
        .await?;
        ensure!(log.contains(&format!("\"path\":\"{public}\"")), "the log has the client's path: {log}");
        ensure!(!log.contains("forged") && !log.contains("/internal/orders"), "{log}");

        let usurper = json!({
            "id": "usurper", "namespace": "bestellungen", "endpoints": ["127.0.0.1:1"],
            "routes": [{"path": "/old"}]
        });
        let refused = stack.register(dir, &usurper).await?.refused()?;
        for word in ["usurper", "`orders`", "/bestellungen/old", "alias `bestellungen`"] {
            ensure!(refused.contains(word), "`{word}` is missing: {refused}");
        }

        // Whatever the module's path becomes, it leads to the module.
        manifest["rewrite"]["prefix"] = "/".into();
        manifest["gates"] = json!([]);
        manifest["routes"] = json!([{"path": "/{*rest}"}]);
        stack.register(dir, &manifest).await?.ok()?;
        let token = stack.token(EARLY)?;
        for below in [ROUTE, "/api/v1/modules/v2/analytics-core/x", "/outside", "/", ""] {
            let seen = async || {
                let path = format!("/api/v1/modules/v1/orders{below}");
                let echo = stack.client()?.get(&path, Some(&token)).await?.echo()?;
                Ok((echo.name, echo.path))
            };
            let path = if below.is_empty() { "/" } else { below };
            let wanted = ("pricing-intelligence v1".to_owned(), path.to_owned());
            stack.on_every_worker("the path", wanted, seen).await?;
        }
        Ok(())
    });
}

#[test]
fn nobody_calls_for_another_organisation() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let manifest = json!({
            "id": "data", "tenant": {"path": "organisation"},
            "endpoints": [stack.upstreams.pricing.address().to_string()],
            "routes": [
                {"path": "/of/{organisation}/reports"},
                {"path": "/mine", "tenant": {"header": "x-organisation-id"}}
            ]
        });
        let base = "/api/v1/modules/v1/data";
        registered(&stack, dir, &manifest, &format!("{base}/of/{EARLY}/reports"), 200).await?;
        let (client, bearer) = (stack.client()?, format!("Bearer {}", stack.token(EARLY)?));
        let served = stack.upstreams.pricing.requests();
        let name = "x-organisation-id";
        let both = format!("{EARLY},{LATE}");
        for (path, headers, status, reason) in [
            (format!("/of/{LATE}/reports"), &[][..], 403, "cross_tenant"),
            (format!("/of/{EARLY}/../{LATE}/reports"), &[], 403, "cross_tenant"),
            (format!("/of/{LATE}%2f..%2f{EARLY}/reports"), &[], 400, ""),
            (format!("/of/{}/reports", EARLY.to_uppercase()), &[], 403, "cross_tenant"),
            ("/mine".to_owned(), &[], 400, "malformed_tenant"),
            ("/mine".to_owned(), &[(name, LATE)], 403, "cross_tenant"),
            ("/mine".to_owned(), &[(name, EARLY), (name, LATE)], 400, "malformed_tenant"),
            ("/mine".to_owned(), &[(name, EARLY), (name, EARLY)], 400, "malformed_tenant"),
            ("/mine".to_owned(), &[(name, &*both)], 400, "malformed_tenant"),
            ("/mine".to_owned(), &[(name, EARLY), ("x_organisation_id", LATE)], 400, "malformed_tenant"),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let mut all = vec![("authorization", bearer.as_str())];
                all.extend(headers);
                let reply = client.send(method.clone(), &format!("{base}{path}"), &all, Vec::new()).await?;
                ensure!(reply.status == status, "{method} {path} {headers:?}: {}", reply.status);
                let told = method == Method::HEAD || reply.text().contains(reason);
                ensure!(told, "{path} {headers:?}: {}", reply.text());
                let challenge = reply.header("www-authenticate").unwrap_or_default();
                ensure!((status == 403) == challenge.contains("insufficient_scope"), "{path}: {challenge}");
            }
        }
        let grpc = [("authorization", bearer.as_str()), ("content-type", "application/grpc")];
        let path = format!("{base}/of/{LATE}/reports");
        let reply = client.send(Method::POST, &path, &grpc, Vec::new()).await?;
        ensure!(reply.header("grpc-status") == Some("7"), "{reply:?}");
        ensure!(stack.upstreams.pricing.requests() == served, "a refusal went through");

        let encoded: String = EARLY.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for (path, headers) in
            [(format!("/of/{encoded}/reports"), &[][..]), ("/mine".to_owned(), &[(name, EARLY)])]
        {
            let mut all = vec![("authorization", bearer.as_str())];
            all.extend(headers);
            let echo = client.send(Method::GET, &format!("{base}{path}"), &all, Vec::new()).await?.echo()?;
            ensure!(echo.header("x-rampart-organisation") == Some(EARLY), "{echo:?}");
        }
        Ok(())
    });
}

#[test]
fn a_slow_module_has_its_routes_time_and_no_more() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        // It takes connections and never answers.
        let slow = TcpListener::bind("127.0.0.1:0")?;
        let manifest = json!({
            "id": "slow", "endpoints": [slow.local_addr()?.to_string()], "timeout_ms": 60_000,
            "routes": [{"path": "/report", "timeout_ms": 300}]
        });
        let path = "/api/v1/modules/v1/slow/report";
        registered(&stack, dir, &manifest, path, 504).await?;
        // Nor does a client that Envoy takes for internal get more.
        let bearer = format!("Bearer {}", stack.token(EARLY)?);
        let own = [
            ("authorization", bearer.as_str()),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-envoy-upstream-rq-timeout-ms", "60000"),
        ];
        let reply = stack.client()?.send(Method::GET, path, &own, Vec::new()).await?;
        ensure!(reply.status == 504, "{} {}", reply.status, reply.text());
        Ok(())
    });
}

#[test]
fn a_failed_try_is_repeated_as_the_route_says() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let manifest = json!({
            "id": "flaky", "endpoints": [stack.upstreams.pricing.address().to_string()],
            "retry": {"on": ["5xx", "reset"], "max_retries": 2, "per_try_timeout_ms": 5_000},
            "routes": [
                {"methods": ["GET"], "path": "/twice"},
                {"methods": ["GET"], "path": "/once", "retry": {"on": []}}
            ]
        });
        let base = "/api/v1/modules/v1/flaky";
        registered(&stack, dir, &manifest, &format!("{base}/twice"), 200).await?;
        let (client, token) = (stack.client()?, stack.token(EARLY)?);
        let retries = async || stack.envoy.stat("cluster.module/flaky/v1.upstream_rq_retry").await;
        for (path, failures, status, repeated) in
            [("/twice", 1, 200, 1), ("/once", 1, 503, 1), ("/twice", 2, 200, 3), ("/twice", 3, 503, 5)]
        {
            stack.upstreams.pricing.fail(failures);
            let reply = client.get(&format!("{base}{path}"), Some(&token)).await?;
            ensure!(reply.status == status, "{path} after {failures}: {}", reply.status);
            let seen = retries().await?;
            ensure!(seen == repeated, "{path} after {failures}: {seen} retries");
        }
        Ok(())
    });
}
