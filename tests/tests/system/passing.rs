//! What passes, passes as it is; what is written down holds no token.

use anyhow::{Context as _, ensure};
use rampart_tests::{
    seed::{EARLY, FLAG, PERMISSIONS, ROUTE},
    stack::Stack,
    upstream::sha256,
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::fs;

#[test]
fn bodies_pass_byte_for_byte_both_ways() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let bearer = format!("Bearer {}", stack.token(EARLY)?);
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        let client = stack.client()?;
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/octet-stream")];
        for size in [0, 1, 4_096, 5_000_000] {
            let body: Vec<u8> = (0..size).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            for (path, name) in
                [("/api/v1/modules/v1/analytics-core/reports", "analytics-core v1"), ("/any", "legacy")]
            {
                let echo = client.send(Method::POST, path, &headers, body.clone()).await?.echo()?;
                ensure!(echo.name == name && echo.body_length == body.len(), "{size}: {echo:?}");
                ensure!(echo.body_sha256 == sha256(&body), "{size}: {echo:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn no_token_is_ever_written_down() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let client = stack.client()?;
        let good = stack.token(EARLY)?;
        let bad = stack.issuer.p256().sign_with_header(
            &serde_json::json!({"alg": "ES256", "kid": "p256-1", "crit": ["x"]}),
            &stack.issuer.claims(EARLY, &PERMISSIONS),
        )?;
        for token in [&good, &bad] {
            client.get(ROUTE, Some(token)).await?;
            client.get(&format!("{ROUTE}?access_token={token}"), Some(token)).await?;
            client.get(&format!("/outside?token={token}"), None).await?;
        }
        // The access log is written behind; the last request's line is there when all are.
        let log = eventually(SOON, "the access log", async || {
            let log = stack.envoy.log()?;
            ensure!(log.matches("/outside").count() >= 2, "{}", log.len());
            Ok(log)
        })
        .await?;
        ensure!(log.contains("malformed_token") && log.contains("analytics_core"), "{log}");
        let dump = stack.envoy.config_dump().await?.to_string();
        let stats = format!("{:?}", stack.envoy.stats().await?);
        let mut written = vec![("config dump", dump), ("stats", stats), ("log", log)];
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_file() {
                written.push(("a file", String::from_utf8_lossy(&fs::read(&path)?).into_owned()));
            }
        }
        for token in [&good, &bad] {
            let signature = token.rsplit('.').next().unwrap_or_default();
            for (place, text) in &written {
                ensure!(!text.contains(signature), "a token stands in {place}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_log_line_tells_the_decision() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let token = stack.token(EARLY)?;
        stack.served_by(&token, "analytics-core v1").await?;
        let status = stack.service.client()?.get("/api/v1/status", None).await?.json()?;
        let revision = status["revision"].as_u64().context("no revision")?.to_string();
        let (client, bearer) = (stack.client()?, format!("Bearer {token}"));
        for (number, path, bearer, code, told) in [
            (
                1,
                ROUTE,
                Some(&bearer),
                200,
                json!({
                    "details": "via_upstream", "upstream_cluster": "module/analytics_core/v1",
                    "decision": "module", "module": "analytics_core", "route": "/dashboard/overview",
                    "organisation": EARLY, "flags_on": format!("{FLAG},analytics_core_enabled")
                }),
            ),
            (
                2,
                ROUTE,
                None,
                401,
                json!({
                    "details": "missing_token", "reason": "missing_token",
                    "module": "analytics_core", "route": "/dashboard/overview"
                }),
            ),
            (
                3,
                "/outside",
                None,
                200,
                json!({
                    "details": "via_upstream", "upstream_cluster": "legacy", "decision": "pass"
                }),
            ),
        ] {
            let id = format!("00000000-0000-4000-8000-00000000000{number}");
            let headers = bearer.map(|bearer| ("authorization", bearer.as_str()));
            let headers: Vec<_> = headers.into_iter().chain([("x-request-id", &*id)]).collect();
            let reply = client.send(Method::GET, &format!("{path}?n={number}"), &headers, vec![]).await?;
            ensure!(reply.status == code, "{path}: {}", reply.text());
            let mut line = eventually(SOON, "the request's line", async || {
                let log = stack.envoy.log()?;
                let line = log.lines().find(|line| line.starts_with('{') && line.contains(&id));
                Ok(serde_json::from_str::<Map<String, Value>>(line.context("not yet")?)?)
            })
            .await?;
            let (time, duration) = (line.remove("time"), line.remove("duration_ms"));
            let time = time.as_ref().and_then(Value::as_str).unwrap_or_default();
            ensure!(time.starts_with("20") && time.ends_with('Z'), "{time}");
            ensure!(duration.is_some_and(|milliseconds| milliseconds.is_u64()), "{line:?}");
            let mut expected = json!({
                "request_id": id, "method": "GET", "path": path, "protocol": "HTTP/1.1", "code": code,
                "flags": "-", "upstream_cluster": null, "decision": null, "module": null, "route": null,
                "organisation": null, "flags_on": null, "reason": null, "revision": revision
            });
            for (member, value) in told.as_object().context("no object")? {
                expected[member] = value.clone();
            }
            let line = Value::from(line);
            ensure!(line == expected, "{line:#}\ninstead of {expected:#}");
        }
        Ok(())
    });
}
