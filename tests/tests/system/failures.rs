//! The ways in which Rampart can fail as it is shipped, and what each looks like from outside: the
//! status, the reason and the counter that `docs/monitoring.md` tells operators to watch.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    client::{Client, Reply, fan_out, tally},
    envoy::Envoy,
    issuer::AUDIENCE,
    modules::WORKER_REFUSING,
    paths,
    ports::Port,
    seed::{EARLY, FLAG, ROUTE},
    shipped::{StaticVariant, example_policy},
    stack::{Options, Stack},
    upstream::Upstream,
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;

const REQUESTS: usize = 20;

/// Refused by the guard that asks for the filter's attestation.
const NOT_ATTESTED: &str = "http.rampart.rbac.attestation.denied";

/// How often Envoy has refused a policy.
const REJECTED: &str = "extension_config_discovery.http_filter.rampart.update_rejected";

/// There is no module here.
const NOWHERE: &str = "/nowhere/rampart.wasm";

fn reason(reply: &Reply) -> Result<String> {
    ensure!(reply.header("content-type") == Some("application/problem+json"), "{reply:?}");
    let body: Value = reply.json()?;
    ensure!(body["status"] == reply.status, "{body}");
    body["reason"].as_str().map(str::to_owned).context("no reason")
}

/// Waits until the route is answered with this status and reason, and is again on more connections.
async fn refused_with(stack: &Stack, token: &str, status: u16, wanted: &str) -> Result<()> {
    let refused = async || {
        for _ in 0..REQUESTS {
            let reply = stack.client()?.get(ROUTE, Some(token)).await?;
            ensure!(
                (reply.status, &*reason(&reply)?) == (status, wanted),
                "{} {}",
                reply.status,
                reply.text()
            );
        }
        Ok(())
    };
    eventually(SOON, wanted, refused).await
}

#[test]
fn a_filter_that_fails_on_its_workers_is_counted_by_the_guard() {
    system_test(async |dir| {
        let (upstream, listener) = (Upstream::start("upstream").await?, Port::claim()?);
        let config = StaticVariant {
            listener: listener.address(),
            analytics: upstream.address(),
            legacy: upstream.address(),
            module: &WORKER_REFUSING.write_to(dir)?,
            policy: &example_policy()?,
        };
        let mut envoy = Envoy::start(dir, &config.render()?, 2).await?;
        envoy.ready().await?;
        let client = Client::new(listener.address())?;
        ensure!(envoy.stat(NOT_ATTESTED).await? == 0);
        let ask = async |_| Ok(client.get("/", None).await?.status);
        let answers = tally(&fan_out(0..REQUESTS, 8, ask).await?);
        ensure!(answers == [("403".to_owned(), REQUESTS)].into(), "{answers:?}");
        ensure!(upstream.requests() == 0, "a request passed");
        ensure!(envoy.stat(NOT_ATTESTED).await? == REQUESTS as u64);
        Ok(())
    });
}

#[test]
fn without_keys_nobody_can_be_judged_though_their_tokens_were_before() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let token = stack.token(EARLY)?;
        stack.served_by(&token, "analytics-core v1").await?;
        let served = stack.upstreams.analytics_v1.requests();

        let (issuer, jwks) = (stack.issuer.url(), dir.join("none.json").display().to_string());
        fs::write(&jwks, json!({"keys": []}).to_string())?;
        let set = ["provider", "set", "main", "--issuer", &issuer, "--audience", AUDIENCE, "--jwks", &jwks];
        stack.service.cli(&set).await?.ok()?;
        refused_with(&stack, &token, 503, "no_keys").await?;
        let counted = stack.envoy.stat("wasmcustom.rampart.refused.no_keys").await?;
        ensure!(counted >= REQUESTS as u64, "{counted}");
        let served = stack.upstreams.analytics_v1.requests() - served;
        ensure!(served < REQUESTS, "{served} passed after their keys had gone");
        let prometheus = stack.envoy.admin("/stats/prometheus").await?;
        let line = format!("rampart_refused{{reason=\"no_keys\"}} {counted}");
        ensure!(prometheus.lines().any(|other| other == line), "no `{line}` in {prometheus}");
        Ok(())
    });
}

#[test]
fn without_the_module_every_request_is_refused_until_it_is_there() {
    system_test(async |dir| {
        let mut stack = Stack::start(dir, Options { filter: Some(NOWHERE), ..Options::default() }).await?;
        let legacy = stack.upstreams.legacy.address().to_string();
        stack.service.cli(&["settings", "set", "--legacy", &legacy]).await?.ok()?;
        stack.ready().await?;
        for path in [ROUTE, "/outside"] {
            let reply = stack.client()?.get(path, None).await?;
            ensure!(
                (reply.status, &*reason(&reply)?) == (503, "no_policy"),
                "{} {}",
                reply.status,
                reply.text()
            );
        }
        let rejected = stack.envoy.stat(REJECTED).await?;
        ensure!(rejected > 0);
        ensure!(stack.upstreams.legacy.requests() == 0, "a request passed");
        let status = stack.service.cli(&["status", "--output", "json"]).await?.json()?;
        ensure!(status.pointer("/envoys/0/types/ecds/nacked/error").is_some(), "{status}");

        stack.service.kill()?;
        let filter = paths::filter()?;
        stack.service.set("--filter", &filter.display().to_string());
        stack.service.start().await?;
        let served = async || {
            let served_by = stack.client()?.get("/outside", None).await?.served_by();
            ensure!(served_by == "legacy", "{served_by}");
            Ok(())
        };
        eventually(SOON, "the module", served).await
    });
}

#[test]
fn a_module_that_cannot_be_loaded_leaves_the_one_that_runs() {
    system_test(async |dir| {
        let mut stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let token = stack.token(EARLY)?;
        stack.served_by(&token, "analytics-core v1").await?;
        let before = stack.envoy.stat(REJECTED).await?;
        stack.service.kill()?;
        stack.service.set("--filter", NOWHERE);
        stack.service.start().await?;
        let refused = async || {
            let after = stack.envoy.stat(REJECTED).await?;
            ensure!(after > before, "{after}");
            Ok(())
        };
        eventually(SOON, "the refusal", refused).await?;
        stack.served_by(&token, "analytics-core v1").await?;
        ensure!(stack.envoy.stat(NOT_ATTESTED).await? == 0);
        Ok(())
    });
}

#[test]
fn a_policy_that_envoy_refuses_is_shown_with_what_changed_and_who_did_it() {
    system_test(async |dir| {
        let mut stack = Stack::seeded(dir).await?;
        let module = dir.join("copy.wasm");
        fs::copy(paths::filter()?, &module)?;
        stack.service.kill()?;
        stack.service.set("--filter", &module.display().to_string());
        stack.service.start().await?;
        stack.roll_out("100").await?;
        let token = stack.token(EARLY)?;
        stack.served_by(&token, "analytics-core v1").await?;

        // Envoy reads the file again with each policy.
        fs::write(&module, "no module")?;
        let change = ["--actor", "alice", "flag", "set", FLAG, "--percentage", "0"];
        stack.service.cli(&change).await?.ok()?;
        let refused = async || {
            let shown = stack.service.cli(&["status"]).await?.ok()?;
            let about = format!("(flag {FLAG} by key/local for alice): Unable to create Wasm plugin rampart");
            ensure!(shown.contains("ecds of revision ") && shown.contains(&about), "{shown}");
            Ok(())
        };
        eventually(SOON, "the refusal", refused).await?;
        stack.served_by(&token, "analytics-core v1").await?;

        fs::copy(paths::filter()?, &module)?;
        stack.roll_out("50").await?;
        let log = fs::read_to_string(dir.join("service.log"))?;
        ensure!(log.matches("envoy refused a resource").count() == 1, "{log}");
        Ok(())
    });
}

#[test]
fn another_vm_id_starts_fresh_vms_and_nobody_notices() {
    system_test(async |dir| {
        let mut stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let token = stack.token(EARLY)?;
        stack.served_by(&token, "analytics-core v1").await?;
        let created = "wasm.envoy.wasm.runtime.v8.created";
        let before = stack.envoy.stat(created).await?;
        stack.service.kill()?;
        stack.service.set("--vm-id", "second");
        stack.service.start().await?;
        let fresh = async || {
            let reply = stack.client()?.get(ROUTE, Some(&token)).await?;
            ensure!(reply.status == 200, "{}", reply.text());
            let after = stack.envoy.stat(created).await?;
            ensure!(after > before, "{after}");
            Ok(())
        };
        eventually(SOON, "fresh VMs", fresh).await?;
        stack.served_by(&token, "analytics-core v1").await?;
        Ok(())
    });
}

#[test]
fn a_cluster_that_envoy_does_not_have_is_503_and_counted() {
    system_test(async |dir| {
        let (upstream, listener) = (Upstream::start("upstream").await?, Port::claim()?);
        let mut policy = example_policy()?;
        policy["modules"][0]["cluster"] = json!("nowhere");
        policy["modules"][0]["auth"] = json!({"level": "none"});
        policy["modules"][0]["gates"] = json!([]);
        let config = StaticVariant {
            listener: listener.address(),
            analytics: upstream.address(),
            legacy: upstream.address(),
            module: &paths::filter()?,
            policy: &policy,
        };
        let mut envoy = Envoy::start(dir, &config.render()?, 2).await?;
        envoy.ready().await?;
        let client = Client::new(listener.address())?;
        for _ in 0..REQUESTS {
            let reply = client.get("/api/v1/modules/v1/analytics/reports", None).await?;
            ensure!(reply.status == 503, "{} {}", reply.status, reply.text());
        }
        ensure!(envoy.stat("http.rampart.no_cluster").await? == REQUESTS as u64);
        ensure!(upstream.requests() == 0, "a request went elsewhere");
        ensure!(client.get("/outside", None).await?.status == 200);
        Ok(())
    });
}

#[test]
fn a_grpc_caller_is_refused_in_grpcs_terms() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let client = stack.client()?;
        let headers = [("content-type", "application/grpc")];
        for (path, status) in [
            ("/api/v1/modules/v1/pricing-intelligence/analyze/market", "16"),
            ("/api/v1/modules/v1/nowhere", "12"),
        ] {
            let reply = client.send(Method::POST, path, &headers, vec![]).await?;
            ensure!(reply.status == 200 && reply.header("grpc-status") == Some(status), "{path}: {reply:?}");
        }
        Ok(())
    });
}

#[test]
fn every_counter_that_operators_are_told_to_watch_is_there() {
    system_test(async |dir| {
        let text = fs::read_to_string(paths::repository().join("docs/monitoring.md"))?;
        let (envoys, _) = text.split_once("## What Envoys report").context("two parts")?;
        let rows = envoys.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        // Series of requests and refusals are there once they count; other tests see them do so.
        let names: Vec<&str> = rows.filter(|name| !name.contains("rampart_")).collect();
        ensure!(names.len() >= 6, "{names:?}");
        let stack = Stack::seeded(dir).await?;
        let stats = stack.envoy.stats().await?;
        for name in names {
            ensure!(stats.contains_key(name), "docs/monitoring.md names {name}, which Envoy does not have");
        }
        Ok(())
    });
}
