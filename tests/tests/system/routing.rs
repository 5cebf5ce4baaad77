//! Where requests go: by who calls, what is on for them, and the path.

use anyhow::ensure;
use rampart_tests::{
    seed::{EARLY, FLAG, LATE, PERMISSIONS, ROUTE},
    stack::Stack,
    workdir::system_test,
};
use reqwest::Method;
use std::time::Duration;

/// By when a denial is in force, from the moment that its command returns.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn organisations_on_either_side_of_the_percentage_are_served_apart() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("50").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        let client = stack.client()?;
        for (organisation, served_by) in [(EARLY, "analytics-core v1"), (LATE, "legacy")] {
            let reply = client.get(ROUTE, Some(&stack.token(organisation)?)).await?;
            let echo = reply.echo()?;
            ensure!((reply.status, echo.name.as_str()) == (200, served_by), "{organisation}: {echo:?}");
            ensure!(echo.path == ROUTE, "the path is the client's: {}", echo.path);
            for (name, value) in [
                ("x-rampart-organisation", organisation),
                ("x-rampart-subject", &format!("user@{organisation}")),
                ("x-rampart-permissions", &PERMISSIONS.join(",")),
                ("x-rampart-module", "analytics_core"),
            ] {
                ensure!(echo.header(name) == Some(value), "{name}: {:?}", echo.header(name));
            }
            let told = if organisation == EARLY {
                "module_routing_enabled,analytics_core_enabled"
            } else {
                "analytics_core_enabled"
            };
            ensure!(echo.header("x-rampart-flags") == Some(told), "{:?}", echo.header("x-rampart-flags"));
            ensure!(echo.header("x-rampart-cluster").is_none(), "routing is nobody's business but Envoy's");
        }
        Ok(())
    });
}

#[test]
fn each_way_of_not_being_let_in_has_its_answer() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let client = stack.client()?;
        let token = stack.token(EARLY)?;
        let poor = stack.issuer.token(EARLY, &["read_analytics"])?;
        let mut stranger = stack.issuer.claims(EARLY, &PERMISSIONS);
        stranger["iss"] = "https://stranger.test".into();
        let stranger = stack.issuer.rsa().sign(&stranger)?;
        let es256 = stack.issuer.p256().sign(&stack.issuer.claims(EARLY, &PERMISSIONS))?;
        let forged = stack.issuer.token(EARLY, &PERMISSIONS)?.replace('.', ".e");
        let module = "/api/v1/modules";
        for (method, path, token, status, reason) in [
            (Method::GET, ROUTE.to_owned(), None, 401, "missing_token"),
            (Method::GET, ROUTE.to_owned(), Some(&forged), 401, "malformed_token"),
            (Method::GET, ROUTE.to_owned(), Some(&stranger), 401, "unknown_issuer"),
            (Method::GET, ROUTE.to_owned(), Some(&poor), 403, "missing_permission"),
            (
                Method::POST,
                format!("{module}/v1/pricing-intelligence/analyze/market"),
                Some(&token),
                403,
                "missing_role",
            ),
            (Method::GET, format!("{module}/v1/nobody/x"), Some(&token), 404, "unknown_module"),
            (Method::GET, format!("{module}/v3/analytics-core/x"), Some(&token), 404, "unknown_version"),
            (Method::GET, format!("{module}/v1/analytics-core/x"), Some(&token), 404, "unknown_route"),
            (Method::DELETE, ROUTE.to_owned(), Some(&token), 405, "method_not_allowed"),
            (Method::GET, format!("{ROUTE};x=1"), Some(&token), 400, "malformed_path"),
        ] {
            let bearer = token.map(|token| format!("Bearer {token}"));
            let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
            let reply = client.send(method.clone(), &path, &headers, Vec::new()).await?;
            ensure!(reply.status == status, "{method} {path}: {} {}", reply.status, reply.text());
            ensure!(reply.header("content-type") == Some("application/problem+json"), "{:?}", reply.headers);
            ensure!(reply.json()?["reason"] == reason, "{method} {path}: {}", reply.text());
        }
        // The last word: with everything right, an ES256 token gets in, and so does v2 beside v1.
        let reply = client.get(&format!("{module}/v2/analytics-core/any/thing"), Some(&es256)).await?;
        ensure!(reply.served_by() == "analytics-core v2", "{}", reply.text());
        Ok(())
    });
}

#[test]
fn a_path_outside_the_modules_passes_untouched() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let headers = [("authorization", "Bearer not-a-token"), ("x-custom", "1"), ("cookie", "a=b")];
        let body = b"name=value".to_vec();
        let reply = stack.client()?.send(Method::PUT, "/app/page?q=1%202", &headers, body.clone()).await?;
        let echo = reply.echo()?;
        ensure!(reply.status == 200 && echo.name == "legacy", "{echo:?}");
        ensure!(
            echo.method == "PUT" && echo.path == "/app/page" && echo.query.as_deref() == Some("q=1%202"),
            "{echo:?}"
        );
        for (name, value) in headers {
            ensure!(echo.header(name) == Some(value), "{name}: {echo:?}");
        }
        ensure!(echo.names("x-rampart-").is_empty(), "{echo:?}");
        ensure!(echo.body_sha256 == rampart_tests::upstream::sha256(&body), "{echo:?}");
        Ok(())
    });
}

#[test]
fn a_killed_flag_serves_nobody_and_a_restored_one_whom_it_served() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let token = stack.token(LATE)?;
        stack.served_by(&token, "analytics-core v1").await?;
        stack.service.cli(&["flag", "kill", FLAG, "--reason", "it hurts"]).await?.ok()?;
        stack.served_by(&token, "legacy").await?;
        stack.service.cli(&["flag", "restore", FLAG]).await?.ok()?;
        stack.served_by(&token, "analytics-core v1").await?;
        Ok(())
    });
}

#[test]
fn whom_the_operator_denies_is_refused_though_the_token_is_good() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let mut claims = stack.issuer.claims(EARLY, &PERMISSIONS);
        claims["jti"] = "once".into();
        let (denied, other) = (stack.issuer.rsa().sign(&claims)?, stack.token(LATE)?);
        let subject = format!("user@{EARLY}");
        for (what, name) in [("organisation", EARLY), ("subject", &subject), ("token", "once")] {
            // On every worker, each of which has verified the token then and keeps it.
            stack.served_by(&denied, "analytics-core v1").await?;
            let option = format!("--{what}");
            stack.service.cli(&["deny", "add", &option, name]).await?.ok()?;
            stack.served_within(AT_ONCE, &denied, "401").await?;
            let reply = stack.client()?.get(ROUTE, Some(&denied)).await?;
            ensure!(reply.json()?["reason"] == "denied_token", "{what}: {}", reply.text());
            stack.served_by(&other, "analytics-core v1").await?;
            let list = stack.service.cli(&["deny", "list"]).await?.ok()?;
            let listed = list.lines().any(|line| line.split_whitespace().eq([what, name]));
            ensure!(listed, "{what}: {list}");
            stack.service.cli(&["deny", "remove", &option, name]).await?.ok()?;
        }
        stack.served_by(&denied, "analytics-core v1").await?;
        Ok(())
    });
}

#[test]
fn a_token_that_is_not_forwarded_does_not_reach_the_upstream() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        let mut provider = stack.service.client()?.get("/api/v1/providers/main", None).await?.json()?;
        provider["forward"] = false.into();
        provider["token_from"] = serde_json::json!(["bearer", {"cookie": "session"}]);
        let body = provider.to_string().into_bytes();
        let (api, known) = (stack.service.client()?, [("if-match", "*")]);
        let put = api.send(Method::PUT, "/api/v1/providers/main", &known, body).await?;
        ensure!(put.status == 200, "{}", put.text());
        let token = stack.token(EARLY)?;
        let cookie = format!("a=1; session={token}; b=2");
        // The cookie is a source under the new provider only: being let in means that it is in force.
        let client = stack.client()?;
        let echo = rampart_tests::wait::eventually(rampart_tests::wait::SOON, "the cookie", async || {
            client.send(Method::GET, ROUTE, &[("cookie", &cookie)], Vec::new()).await?.echo()
        })
        .await?;
        ensure!(echo.header("cookie") == Some("a=1; b=2"), "{echo:?}");
        let echo = client.get(ROUTE, Some(&token)).await?.echo()?;
        ensure!(
            echo.header("authorization").is_none() && echo.header("x-rampart-organisation") == Some(EARLY),
            "{echo:?}"
        );
        Ok(())
    });
}
