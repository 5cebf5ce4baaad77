//! Many policies, one after another: nothing grows, and what is under way ends as it began.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    seed::{EARLY, FLAG, ROUTE},
    stack::Stack,
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use std::env;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Pushes per half of the run; `scripts/soak` makes it 2,000 in all.
const PUSHES: usize = 150;

/// What Envoy may grow by in the second half, in KiB: all of it, and what it has allocated outside the
/// VMs. A policy that stayed would cost each of four VMs some 100 KiB per push, and Envoy itself the
/// 40 KiB of its text: tens of MiB, and six.
const TOLERATED_KIB: u64 = 4 * 1024;

/// Pushes one policy and waits until Envoy has taken it.
async fn push(stack: &Stack, percentage: usize) -> Result<()> {
    let api = stack.service.client()?;
    let body = format!("{{\"percentage\": {percentage}}}").into_bytes();
    let path = format!("/api/v1/flags/{FLAG}");
    let written = api.send(Method::PATCH, &path, &[("if-match", "*")], body).await?.json()?;
    let revision = written["revision"].as_u64().with_context(|| written.to_string())?;
    let taken = async || {
        let status = api.get("/api/v1/status", None).await?.json()?;
        let acked = status.pointer("/envoys/0/types/ecds/acked/revision").cloned().unwrap_or_default();
        ensure!(acked.as_u64() == Some(revision), "revision {acked} instead of {revision}");
        Ok(())
    };
    eventually(SOON, "Envoy to take a policy", taken).await
}

#[test]
fn policy_after_policy_costs_no_memory() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let client = stack.client()?;
        let token = stack.token(EARLY)?;
        // Large enough for one that is kept to be seen.
        let named: Vec<String> = (0..2_000).map(|n| format!("organisation-{n}")).collect();
        let body = serde_json::json!({"organisations": {"on": named}}).to_string().into_bytes();
        let put = stack.service.client()?.send(Method::PUT, "/api/v1/flags/large", &[], body).await?;
        ensure!(put.status == 200, "{}", put.text());
        let half = if env::var_os("RAMPART_SOAK").is_some() { 1_000 } else { PUSHES };
        let mut seen = Vec::new();
        for _ in 0..2 {
            for n in 0..half {
                push(&stack, 50 + n % 2).await?;
                // Requests hold on to the configuration they began under.
                let reply = client.get(ROUTE, Some(&token)).await?;
                ensure!(reply.status == 200, "{}", reply.text());
                // A refusal under each, because counters that were defined anew would pile up.
                let refused = client.get(ROUTE, None).await?;
                ensure!(refused.status == 401, "{}", refused.text());
            }
            let stats = stack.envoy.stats().await?;
            let vms = stats.get("wasm.envoy.wasm.runtime.v8.active").copied();
            let reloads: Vec<u64> = ["success", "failure", "backoff"]
                .iter()
                .filter_map(|outcome| stats.get(&format!("wasm.rampart.vm_reload_{outcome}")).copied())
                .collect();
            ensure!(reloads == [0; 3], "a VM was lost: {reloads:?}");
            let heap = stats.get("server.memory_allocated").copied().unwrap_or_default() / 1024;
            seen.push((stack.envoy.resident_kib()?, heap, stats.len(), vms));
        }
        let [(middle, heap, names, vms), (end, heap_after, names_after, vms_after)] = seen[..] else {
            unreachable!()
        };
        println!(
            "{half} and {half} pushes: {middle} KiB, then {end} KiB; heap {heap} KiB, then {heap_after} KiB; \
             {names} stats; {vms:?} VMs"
        );
        ensure!(end <= middle + TOLERATED_KIB, "{middle} KiB grew to {end} KiB");
        ensure!(heap_after <= heap + TOLERATED_KIB, "a heap of {heap} KiB grew to {heap_after} KiB");
        ensure!(
            (names, vms) == (names_after, vms_after),
            "{names} {vms:?}, then {names_after} {vms_after:?}"
        );
        Ok(())
    });
}

#[test]
fn a_request_under_way_ends_as_it_began_whatever_is_pushed() {
    system_test(async |dir| {
        let mut stack = Stack::seeded(dir).await?;
        let token = stack.token(EARLY)?;
        // A change of policy replaces the configuration in a VM, another identity the VM itself.
        for vm_id in [None, Some("second")] {
            stack.roll_out("100").await?;
            stack.served_by(&token, "analytics-core v1").await?;
            let judged = stack.upstreams.analytics_v1.requests();
            let mut connection = TcpStream::connect(stack.service.listener_address()).await?;
            let head = format!(
                "GET {ROUTE} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
                 content-length: 10\r\n\r\nfirst"
            );
            connection.write_all(head.as_bytes()).await?;
            let arrived = async || {
                ensure!(stack.upstreams.analytics_v1.requests() == judged + 1, "not yet");
                Ok(())
            };
            eventually(SOON, "the request's head to arrive", arrived).await?;

            if let Some(vm_id) = vm_id {
                stack.service.kill()?;
                stack.service.set("--vm-id", vm_id);
                stack.service.start().await?;
            }
            stack.roll_out("0").await?;
            stack.served_by(&token, "legacy").await?;
            connection.write_all(b"-last").await?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{vm_id:?}: {answer}");
            ensure!(
                answer.contains("analytics-core v1") && answer.contains("\"body_length\":10"),
                "{answer}"
            );
        }
        Ok(())
    });
}
