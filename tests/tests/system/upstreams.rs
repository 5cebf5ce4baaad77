//! What a manifest says of a module's endpoints, as a real Envoy carries it out.

use anyhow::{Result, ensure};
use rampart_tests::{
    certificates::Authority,
    scripted::Scripted,
    seed::EARLY,
    stack::Stack,
    upstream::Upstream,
    wait::{SOON, eventually},
    workdir::system_test,
};
use serde_json::{Value, json};
use std::{fs, path::Path};
use tonic::service::Routes;
use tonic_health::ServingStatus;

const PATH: &str = "/api/v1/modules/v1/measured";

/// Registers the module at `PATH` with these members, and waits until every worker answers `status`.
async fn measured(stack: &Stack, dir: &Path, members: &Value, status: u16) -> Result<()> {
    stack.register(dir, &with_id(members.clone())).await?.ok()?;
    let token = stack.token(EARLY)?;
    let asked = async || Ok(stack.client()?.get(PATH, Some(&token)).await?.status);
    stack.on_every_worker(&members.to_string(), status, asked).await?;
    Ok(())
}

/// Waits until Envoy counts as many of the module's cluster.
async fn counted(stack: &Stack, name: &str, wanted: impl Fn(u64) -> bool) -> Result<()> {
    let name = format!("cluster.module/measured/v1.{name}");
    eventually(SOON, &name, async || {
        let value = stack.envoy.stat(&name).await?;
        ensure!(wanted(value), "{value}");
        Ok(())
    })
    .await
}

/// The statuses of some requests, each on a connection of its own.
async fn statuses(stack: &Stack, query: &str) -> Result<Vec<u16>> {
    let token = stack.token(EARLY)?;
    let mut statuses = Vec::new();
    for _ in 0..24 {
        let reply = stack.client()?.get(&format!("{PATH}{query}"), Some(&token)).await?;
        statuses.push(reply.status);
    }
    Ok(statuses)
}

/// Waits until an endpoint gets requests again that had as many as this.
async fn back(stack: &Stack, endpoint: &Scripted, before: usize) -> Result<()> {
    eventually(SOON, "an endpoint to get requests again", async || {
        ensure!(statuses(stack, "").await?.iter().all(|status| *status == 200));
        ensure!(endpoint.requests() > before, "none");
        Ok(())
    })
    .await
}

async fn two() -> Result<(Scripted, Scripted, Value)> {
    let (first, second) = (Scripted::start("first").await?, Scripted::start("second").await?);
    let endpoints = json!([first.address().to_string(), second.address().to_string()]);
    Ok((first, second, endpoints))
}

#[test]
fn an_endpoint_that_says_it_is_not_well_gets_no_requests() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let (first, second, endpoints) = two().await?;
        let check = json!({
            "http": {"path": "/health"}, "interval_ms": 100, "unhealthy_threshold": 1, "healthy_threshold": 1
        });
        measured(&stack, dir, &json!({"endpoints": endpoints, "health_check": check}), 200).await?;
        counted(&stack, "membership_healthy", |healthy| healthy == 2).await?;

        first.set_healthy(false);
        counted(&stack, "membership_healthy", |healthy| healthy == 1).await?;
        // Its workers hear of it within a second: Envoy brings them changes of health together.
        let left_out = async || {
            let before = (first.requests(), second.requests());
            ensure!(statuses(&stack, "").await?.iter().all(|status| *status == 200));
            let after = (first.requests(), second.requests());
            ensure!(after == (before.0, before.1 + 24), "{before:?} {after:?}");
            Ok(())
        };
        eventually(SOON, "the first to be left out", left_out).await?;

        let before = first.requests();
        first.set_healthy(true);
        back(&stack, &first, before).await
    });
}

#[test]
fn an_endpoint_that_answers_with_errors_is_left_out_for_a_while() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let (first, _second, endpoints) = two().await?;
        let detection = json!({"consecutive_5xx": 3, "interval_ms": 100, "base_ejection_ms": 3000});
        let members = json!({"endpoints": endpoints, "outlier_detection": detection});
        measured(&stack, dir, &members, 200).await?;
        let failing = "?fail=first&status=500";
        ensure!(statuses(&stack, failing).await?.contains(&500));
        counted(&stack, "outlier_detection.ejections_active", |ejected| ejected == 1).await?;
        let left_out = async || {
            let statuses = statuses(&stack, failing).await?;
            ensure!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
            Ok(())
        };
        eventually(SOON, "the first to be left out", left_out).await?;
        back(&stack, &first, first.requests()).await
    });
}

#[test]
fn what_is_beyond_a_circuit_breaker_is_refused_at_once() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let only = Scripted::start("only").await?;
        let members = json!({
            "endpoints": [only.address().to_string()], "circuit_breakers": {"max_requests": 1}
        });
        measured(&stack, dir, &members, 200).await?;
        let (before, token) = (only.requests(), stack.token(EARLY)?);
        let client = stack.client()?;
        let long = format!("{PATH}?slow=only&milliseconds=3000");
        let first = client.get(&long, Some(&token));
        let second = async {
            eventually(SOON, "the first request", async || {
                ensure!(only.requests() > before, "none");
                Ok(())
            })
            .await?;
            stack.client()?.get(PATH, Some(&token)).await
        };
        let (first, second) = tokio::try_join!(first, second)?;
        ensure!((first.status, second.status) == (200, 503), "{first:?} {second:?}");
        ensure!(only.requests() == before + 1, "the second went through");
        counted(&stack, "upstream_rq_active_overflow", |refused| refused == 1).await
    });
}

#[test]
fn only_the_endpoint_that_the_manifest_means_is_talked_to() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let (authority, stranger) = (Authority::new()?, Authority::new()?);
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        authority.issue("measured.test", &cert, &key)?;
        let (ca, wrong) = (dir.join("ca.pem"), dir.join("wrong.pem"));
        authority.write(&ca)?;
        stranger.write(&wrong)?;
        let upstream = Upstream::start_encrypted("encrypted", &cert, &key, None).await?;
        let inline = |file: &Path| Ok::<_, anyhow::Error>(fs::read_to_string(file)?);
        let said = |protocol: &str, tls: Value| json!({"endpoints": [upstream.address().to_string()], "protocol": protocol, "tls": tls});
        let token = stack.token(EARLY)?;
        for (protocol, spoken) in [("http1", "HTTP/1.1"), ("http2", "HTTP/2.0"), ("auto", "HTTP/2.0")] {
            let tls = json!({"server_name": "measured.test", "ca": inline(&ca)?});
            stack.register(dir, &with_id(said(protocol, tls))).await?.ok()?;
            let asked = async || Ok(stack.client()?.get(PATH, Some(&token)).await?.echo()?.version);
            stack.on_every_worker(protocol, spoken.to_owned(), asked).await?;
        }
        let served = upstream.requests();
        let another = json!({"server_name": "another.test", "ca_file": ca.display().to_string()});
        measured(&stack, dir, &said("http1", another), 503).await?;
        counted(&stack, "ssl.fail_verify_san", |failed| failed > 0).await?;
        let wrong = json!({"server_name": "measured.test", "ca": inline(&wrong)?});
        measured(&stack, dir, &said("http1", wrong), 503).await?;
        counted(&stack, "ssl.fail_verify_error", |failed| failed > 0).await?;
        ensure!(upstream.requests() == served, "a request went to whom it was not meant for");

        // What only Envoy can know is Envoy's to refuse: then it goes on as before, and whose it is, is told.
        let missing = json!({"server_name": "measured.test", "ca_file": "/nowhere/ca.pem"});
        stack.register(dir, &with_id(said("http1", missing))).await?.ok()?;
        eventually(SOON, "the refusal", async || {
            let status = stack.service.cli(&["status", "--output", "json"]).await?.json()?;
            let refused = status.pointer("/envoys/0/types/cds/nacked/caused_by/0/name");
            ensure!(refused == Some(&json!("measured")), "{status:#}");
            Ok(())
        })
        .await
    });
}

fn with_id(mut members: Value) -> Value {
    members["id"] = "measured".into();
    members
}

#[test]
fn http2_is_spoken_without_encryption_where_the_manifest_says_so() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let endpoints = json!([stack.upstreams.pricing.address().to_string()]);
        measured(&stack, dir, &json!({"endpoints": endpoints, "protocol": "http2"}), 200).await?;
        let echo = stack.client()?.get(PATH, Some(&stack.token(EARLY)?)).await?.echo()?;
        ensure!(echo.version == "HTTP/2.0", "{echo:?}");
        Ok(())
    });
}

#[test]
fn an_endpoint_is_shown_who_asks_and_shows_an_identity_that_is_no_host() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let authority = Authority::new()?;
        let file = |name: &str| dir.join(name);
        let (ca, identity) = (file("ca.pem"), "spiffe://rampart.test/measured");
        authority.write(&ca)?;
        authority.issue(identity, &file("cert.pem"), &file("key.pem"))?;
        authority.issue("spiffe://rampart.test/envoy", &file("envoy.pem"), &file("envoy-key.pem"))?;
        let upstream =
            Upstream::start_encrypted("mutual", &file("cert.pem"), &file("key.pem"), Some(&ca)).await?;
        let shown = json!({
            "chain_file": file("envoy.pem").display().to_string(), "key_file": file("envoy-key.pem").display().to_string()
        });
        let said = |identity: &str, shown: &Value| {
            let ca = ca.display().to_string();
            let mut tls = json!({"subject_alt_names": [identity], "ca_file": ca});
            if shown.is_object() {
                tls["certificate"] = shown.clone();
            }
            json!({"endpoints": [upstream.address().to_string()], "tls": tls})
        };
        measured(&stack, dir, &said(identity, &shown), 200).await?;
        let served = upstream.requests();
        measured(&stack, dir, &said(identity, &Value::Null), 503).await?;
        measured(&stack, dir, &said("spiffe://rampart.test/another", &shown), 503).await?;
        ensure!(upstream.requests() == served, "a request went to whom it was not meant for, or from nobody");
        measured(&stack, dir, &said(identity, &shown), 200).await
    });
}

#[test]
fn an_endpoint_is_asked_by_grpc_whether_it_is_well() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let (reporter, service) = tonic_health::server::health_reporter();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = listener.local_addr()?.to_string();
        let router = Routes::new(service).into_axum_router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        reporter.set_service_status("measured", ServingStatus::Serving).await;
        let check = json!({
            "grpc": {"service": "measured"}, "interval_ms": 100, "unhealthy_threshold": 1, "healthy_threshold": 1
        });
        let members = json!({"endpoints": [endpoint], "protocol": "http2", "health_check": check});
        measured(&stack, dir, &members, 200).await?;
        counted(&stack, "membership_healthy", |healthy| healthy == 1).await?;
        reporter.set_service_status("measured", ServingStatus::NotServing).await;
        counted(&stack, "membership_healthy", |healthy| healthy == 0).await?;
        reporter.set_service_status("measured", ServingStatus::Serving).await;
        counted(&stack, "membership_healthy", |healthy| healthy == 1).await
    });
}
