//! Endpoints that are killed under load, and who serves in their place.

use anyhow::{Result, ensure};
use rampart_tests::{
    client::Client,
    mortal::Mortal,
    seed::EARLY,
    stack::Stack,
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

const PATH: &str = "/api/v1/modules/v1/mortal";

/// Clients at a time, each with connections of its own that it keeps.
const CLIENTS: usize = 16;

/// What the clients of a while were answered by.
type Answers = BTreeMap<String, usize>;

/// Registers a module with these endpoints that falls back to the legacy application, once Envoy finds out.
async fn registered(stack: &Stack, dir: &Path, endpoints: &[&Mortal], finds_out: Value) -> Result<()> {
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| endpoint.address().to_string()).collect();
    let mut manifest = json!({
        "id": "mortal", "endpoints": endpoints, "fallback": "legacy", "protocol": "http2",
    });
    let members = finds_out.as_object().into_iter().flatten();
    members.for_each(|(member, value)| manifest[member] = value.clone());
    stack.register(dir, &manifest).await?.ok()?;
    let token = stack.token(EARLY)?;
    let asked = async || Ok(stack.client()?.get(PATH, Some(&token)).await?.served_by());
    stack.on_every_worker("the module", "mortal".to_owned(), asked).await?;
    Ok(())
}

/// By asking.
fn by_asking() -> Value {
    json!({"health_check": {"tcp": {}, "interval_ms": 200, "unhealthy_threshold": 1}})
}

/// Waits until the flag service tells this of the module's health.
async fn fares(stack: &Stack, status: &str, endpoints: [u64; 2]) -> Result<()> {
    let api = stack.service.client()?;
    eventually(SOON, status, async || {
        let health = api.get("/api/v1/status", None).await?.json()?["health"]["mortal"].take();
        let told = json!([health["status"], health["healthy_endpoints"], health["endpoints"]]);
        ensure!(told == json!([status, endpoints[0], endpoints[1]]), "{health}");
        Ok(())
    })
    .await
}

/// Asks until told to stop; who answered how often.
async fn ask(client: Client, stop: &AtomicBool) -> Result<Answers> {
    let mut answers = Answers::new();
    while !stop.load(Ordering::SeqCst) {
        let reply = client.get(PATH, None).await?;
        *answers.entry(reply.served_by()).or_default() += 1;
    }
    Ok(answers)
}

/// Whoever asks while `work` is done: what all of them were answered by.
async fn under_load(stack: &Stack, work: impl Future<Output = Result<()>>) -> Result<Answers> {
    let (stop, token) = (AtomicBool::new(false), stack.token(EARLY)?);
    let clients = (0..CLIENTS).map(|_| Ok(ask(stack.client()?.with_token(token.clone()), &stop)));
    let clients = futures::future::try_join_all(clients.collect::<Result<Vec<_>>>()?);
    let work = async {
        let worked = work.await;
        stop.store(true, Ordering::SeqCst);
        worked
    };
    let (each, ()) = tokio::try_join!(clients, work)?;
    let mut all = Answers::new();
    for (who, times) in each.into_iter().flatten() {
        *all.entry(who).or_default() += times;
    }
    Ok(all)
}

/// Waits until the endpoint or application has been asked as often again.
async fn asked(what: &str, times: usize, requests: impl Fn() -> usize) -> Result<()> {
    let enough = requests() + times;
    eventually(SOON, what, async || {
        ensure!(requests() >= enough, "{} of {enough}", requests());
        Ok(())
    })
    .await
}

#[test]
fn no_request_fails_when_all_endpoints_are_killed_under_load() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let (mut first, mut second) = (Mortal::start("mortal")?, Mortal::start("mortal")?);
        registered(&stack, dir, &[&first, &second], by_asking()).await?;
        let legacy = || stack.upstreams.legacy.requests();
        let answers = under_load(&stack, async {
            for _ in 0..3 {
                asked("the module", 200, || first.requests() + second.requests()).await?;
                first.kill();
                // The other is enough.
                asked("the other endpoint", 200, || second.requests()).await?;
                second.kill();
                asked("the legacy application", 500, legacy).await?;
                first.revive()?;
                asked("the endpoint that is back", 200, || first.requests()).await?;
                second.revive()?;
                asked("both", 200, || second.requests()).await?;
            }
            Ok(())
        })
        .await?;
        println!("{answers:?}");
        let who: Vec<&str> = answers.keys().map(String::as_str).collect();
        ensure!(who == ["legacy", "mortal"], "{answers:?}");

        // While the module is well, all of it is the module's.
        let well = async || {
            let before = legacy();
            for _ in 0..24 {
                let reply = stack.client()?.get(PATH, Some(&stack.token(EARLY)?)).await?;
                ensure!(reply.served_by() == "mortal", "{}", reply.text());
            }
            ensure!(legacy() == before, "{before}");
            Ok(())
        };
        eventually(SOON, "the module alone", well).await
    });
}

#[test]
fn what_a_dead_endpoint_has_not_seen_is_not_lost_whatever_the_method() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let mut only = Mortal::start("mortal")?;
        registered(&stack, dir, &[&only], by_asking()).await?;
        // Whoever serves in its place, the module is what it is.
        fares(&stack, "healthy", [1, 1]).await?;
        let bearer = format!("Bearer {}", stack.token(EARLY)?);
        only.kill();
        for number in 0..50 {
            let headers = [("authorization", bearer.as_str())];
            let reply = stack.client()?.send(Method::POST, PATH, &headers, b"body".to_vec()).await?;
            ensure!(reply.served_by() == "legacy", "{number}: {} {}", reply.status, reply.text());
            let echo = reply.echo()?;
            ensure!(echo.path == PATH && echo.body_length == 4 && echo.version == "HTTP/1.1", "{echo:?}");
        }
        fares(&stack, "unhealthy", [0, 1]).await
    });
}

#[test]
fn no_request_fails_where_envoy_finds_out_by_failures_alone() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let mut only = Mortal::start("mortal")?;
        let detection = json!({"consecutive_5xx": 1, "interval_ms": 100, "base_ejection_ms": 500});
        registered(&stack, dir, &[&only], json!({"outlier_detection": detection})).await?;
        let answers = under_load(&stack, async {
            asked("the module", 200, || only.requests()).await?;
            only.kill();
            asked("the legacy application", 500, || stack.upstreams.legacy.requests()).await?;
            only.revive()?;
            asked("the endpoint that is back", 200, || only.requests()).await
        })
        .await?;
        let who: Vec<&str> = answers.keys().map(String::as_str).collect();
        ensure!(who == ["legacy", "mortal"], "{answers:?}");
        Ok(())
    });
}
