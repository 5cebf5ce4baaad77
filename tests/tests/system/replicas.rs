//! Several flag services on one PostgreSQL database, and services that are killed in the midst of changes.

use anyhow::{Context as _, Result, bail, ensure};
use rampart_tests::{
    client::{Client, fan_out},
    postgres::{PASSWORD, Postgres},
    seed::{EARLY, FLAG},
    service::{Service, ServicePorts},
    stack::{Options, Stack},
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Changes that are under way when a service is killed, and how many at once.
const EDITS: usize = 1_000;
const AT_ONCE: usize = 4;

/// A seeded stack whose service is on a server, and that server.
async fn stack_on_a_server(dir: &Path) -> Result<(Stack, Postgres, String)> {
    let server = Postgres::start()?;
    let url = server.database()?;
    let mut stack = Stack::start(dir, Options::default()).await?;
    stack.service.kill()?;
    stack.service.set("--database", &url);
    stack.service.start().await?;
    stack.seed(dir).await?;
    Ok((stack, server, url))
}

/// Another service on a database, with its files in a folder of its own.
async fn replica(dir: &Path, url: &str) -> Result<Service> {
    let dir = dir.join("replica");
    fs::create_dir_all(&dir)?;
    let mut service = Service::new(&dir, ServicePorts::free()?);
    service.set("--database", url);
    service.start().await?;
    Ok(service)
}

#[test]
fn an_edit_on_one_replica_reaches_an_envoy_on_the_other_within_a_second() {
    system_test(async |dir| {
        let (stack, _server, url) = stack_on_a_server(dir).await?;
        let other = replica(dir, &url).await?;
        let token = stack.token(EARLY)?;
        let mut took = Vec::new();
        for round in 0..7 {
            let (percentage, name) =
                if round % 2 == 0 { ("100", "analytics-core v1") } else { ("0", "legacy") };
            other.cli(&["flag", "set", FLAG, "--percentage", percentage]).await?.ok()?;
            took.push(stack.served_by(&token, name).await?);
        }
        took.sort_unstable();
        println!("from an edit on one replica to an answer behind the other: {took:?}");
        // What is told takes moments; one that was polled for may have taken a second.
        ensure!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
        Ok(())
    });
}

#[test]
fn while_the_database_is_away_envoy_serves_and_it_is_told_once() {
    system_test(async |dir| {
        let (stack, mut server, _url) = stack_on_a_server(dir).await?;
        stack.roll_out("100").await?;
        let token = stack.token(EARLY)?;
        stack.served_by(&token, "analytics-core v1").await?;
        let log = || fs::read_to_string(dir.join("service.log")).context("service.log");
        let says = async |what: &str| {
            let said = async || {
                ensure!(log()?.contains(what), "not yet");
                Ok(())
            };
            eventually(SOON, what, said).await
        };

        server.stop()?;
        says("changes of other processes cannot be taken up").await?;
        let refused = stack.service.cli(&["flag", "set", FLAG, "--percentage", "0"]).await?.refused()?;
        ensure!(refused.contains("the database does not answer"), "{refused}");
        // Longer than it takes to ask the database again.
        let refused = stack.service.cli(&["flag", "kill", FLAG]).await?.refused()?;
        ensure!(refused.contains("the database"), "{refused}");
        stack.service.cli(&["flag", "get", FLAG]).await?.ok()?;
        stack.served_by(&token, "analytics-core v1").await?;

        server.restart()?;
        says("changes are taken up again").await?;
        stack.roll_out("0").await?;
        stack.served_by(&token, "legacy").await?;
        let log = log()?;
        let told = log.matches("changes of other processes cannot be taken up").count();
        ensure!(told == 1, "told {told} times:\n{log}");
        ensure!(!log.contains(PASSWORD), "a password in the log");
        Ok(())
    });
}

#[test]
fn a_replica_killed_among_a_thousand_edits_loses_nothing_and_nothing_is_made_twice() {
    system_test(async |dir| {
        let server = Postgres::start()?;
        let url = server.database()?;
        let mut killed = Service::new(dir, ServicePorts::free()?);
        killed.set("--database", &url);
        killed.start().await?;
        let other = replica(dir, &url).await?;
        let apis = [killed.client()?, other.client()?];
        create(&apis[1]).await?;
        let acknowledged = AtomicUsize::new(0);
        let edits = edits(&apis, &acknowledged);
        let kill = async {
            among(&acknowledged).await?;
            killed.kill()
        };
        let (answered, ()) = tokio::try_join!(edits, kill)?;
        each_once(&apis[1], &answered, EDITS + 1).await
    });
}

#[test]
fn a_service_killed_among_a_thousand_edits_loses_nothing_and_nothing_is_made_twice() {
    system_test(async |dir| {
        let mut service = Service::new(dir, ServicePorts::free()?);
        service.start().await?;
        // The local key is another after each start.
        let key = service.cli(&["key", "create", "editor", "--role", "operator"]).await?.ok()?;
        let apis = [Client::new(service.api_address())?.with_token(key.trim().to_owned())];
        create(&apis[0]).await?;
        let acknowledged = AtomicUsize::new(0);
        let edits = edits(&apis, &acknowledged);
        let kill = async {
            among(&acknowledged).await?;
            service.kill()?;
            service.start().await
        };
        let (answered, ()) = tokio::try_join!(edits, kill)?;
        each_once(&apis[0], &answered, EDITS + 2).await
    });
}

async fn create(api: &Client) -> Result<()> {
    let made = api.send(Method::PUT, "/api/v1/flags/f", &[], b"{}".to_vec()).await?;
    ensure!(made.status == 200, "{}", made.text());
    Ok(())
}

/// Waits until a third of the edits are made.
async fn among(acknowledged: &AtomicUsize) -> Result<()> {
    let third = async || {
        ensure!(acknowledged.load(Ordering::Relaxed) > EDITS / 3, "not yet");
        Ok(())
    };
    eventually(SOON * 6, "a third of the edits", third).await
}

/// Makes edits of one flag, so that one that was made twice would show, each under a key of its own. What
/// is not answered is sent again, to the next of the services. The revision of each.
async fn edits(apis: &[Client], acknowledged: &AtomicUsize) -> Result<Vec<u64>> {
    let edit = async |number: usize| {
        let key = format!("edit-{number}");
        let body = json!({ "description": key }).to_string().into_bytes();
        let mut turn = 0;
        let sent = async || {
            let api = &apis[turn % apis.len()];
            turn += 1;
            let reply = api
                .send(
                    Method::PATCH,
                    "/api/v1/flags/f",
                    &[("if-match", "*"), ("idempotency-key", &key)],
                    body.clone(),
                )
                .await?;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
            reply.json()?["revision"].as_u64().context("no revision")
        };
        let revision = eventually(SOON * 2, "an answer", sent).await?;
        acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(revision)
    };
    fan_out(0..EDITS, AT_ONCE, edit).await
}

/// Every edit is in the history once, as the revision that was answered, and the history proves itself to
/// have this many rows.
async fn each_once(api: &Client, answered: &[u64], rows: usize) -> Result<()> {
    let mut made: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut page = "/api/v1/history".to_owned();
    loop {
        let changes = api.get(&page, None).await?.json()?;
        for change in changes["changes"].as_array().context("no changes")? {
            let revision = change["revision"].as_u64().context("no revision")?;
            if let Some(edit) = change.pointer("/edits/0/after/description").and_then(Value::as_str) {
                made.entry(edit.to_owned()).or_default().push(revision);
            }
        }
        match changes["next"].as_u64() {
            Some(before) => page = format!("/api/v1/history?before={before}"),
            None => break,
        }
    }
    for (number, revision) in answered.iter().enumerate() {
        match made.get(&format!("edit-{number}")).map(Vec::as_slice) {
            Some([only]) if only == revision => {}
            other => bail!("edit {number} was answered as revision {revision}, and made as {other:?}"),
        }
    }
    let proof = api.get("/api/v1/history/verify", None).await?.json()?;
    ensure!(proof["rows"] == rows, "{proof}");
    Ok(())
}
