//! Issuers' keys that are fetched, rotated under load: nobody who has a valid token notices, and who has
//! one of a withdrawn key is refused.

use anyhow::{Result, ensure};
use rampart_tests::{
    client::{Client, fan_out, tally},
    issuer::Key,
    seed::{EARLY, ROUTE},
    stack::Stack,
    wait::{SOON, eventually},
    workdir::system_test,
};
use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

/// Clients that ask without a pause.
const CLIENTS: usize = 8;
/// How soon a withdrawn key's tokens must be refused, once the service knows.
const WITHDRAWN: Duration = Duration::from_secs(1);

#[test]
fn keys_are_rotated_under_load_and_no_valid_token_is_refused() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let claims = stack.issuer.claims(EARLY, &["read_analytics", "view_dashboard"]);
        let (old, new) = (Key::p256("old")?, Key::p256("new")?);
        let (old_token, new_token) = (old.sign(&claims)?, new.sign(&claims)?);
        let client = stack.client()?;
        let status = async |token: &str| Ok(client.get(ROUTE, Some(token)).await?.status);
        let publish = async |keys: &[&Key]| {
            stack.issuer.publish(keys);
            let refreshed = stack.service.cli(&["provider", "refresh", "main"]).await?;
            refreshed.ok().map(drop)
        };
        publish(&[&old]).await?;
        stack.on_every_worker("the old key", 200, async || status(&old_token).await).await?;

        // Whoever has a token uses it; the issuer changes over, as issuers do: the new key is published
        // before anything is signed with it, and the old one withdrawn when its last token has ended.
        let (current, over) = (RefCell::new(old_token.clone()), Cell::new(false));
        let ask = async |_| {
            let client = stack.client()?;
            let mut seen = Vec::new();
            while !over.get() {
                let token = current.borrow().clone();
                seen.push(client.get(ROUTE, Some(&token)).await?.status);
            }
            Ok(seen)
        };
        let rotate = async {
            publish(&[&old, &new]).await?;
            stack.on_every_worker("the new key", 200, async || status(&new_token).await).await?;
            current.replace(new_token.clone());
            // Nobody is under way with an old one.
            served_since(&client, &new_token, 100).await?;
            publish(&[&new]).await?;
            let withdrawn = Instant::now();
            stack.on_every_worker("the withdrawal", 401, async || status(&old_token).await).await?;
            let took = withdrawn.elapsed();
            served_since(&client, &new_token, 100).await?;
            anyhow::Ok(took)
        };
        let rotate = async {
            let outcome = rotate.await;
            over.set(true);
            outcome
        };
        let (seen, took) = tokio::join!(fan_out(0..CLIENTS, CLIENTS, ask), rotate);
        let (seen, took) = (seen?.concat(), took?);
        let tallied = tally(&seen);
        ensure!(seen.len() > 200 && tallied.keys().eq(["200"]), "{tallied:?}");
        ensure!(took < WITHDRAWN, "{took:?}");
        Ok(())
    });
}

#[test]
fn a_key_that_nobody_has_told_of_is_fetched_when_a_token_names_it() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        // The issuer changes over without a word, and nobody asks for a refresh.
        let new = Key::p256("new")?;
        stack.issuer.publish(&[&new]);
        let token = new.sign(&stack.issuer.claims(EARLY, &["read_analytics", "view_dashboard"]))?;
        let client = stack.client()?;
        ensure!(client.get(ROUTE, Some(&token)).await?.status == 401, "it was known already");
        stack.served_by(&token, "analytics-core v1").await?;
        Ok(())
    });
}

#[test]
fn an_issuer_that_is_away_costs_nobody_anything() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let token = stack.token(EARLY)?;
        stack.served_by(&token, "analytics-core v1").await?;
        stack.issuer.break_down(true);
        let told = stack.service.cli(&["provider", "refresh", "main"]).await?.ok()?;
        ensure!(told.contains("answers 500") && told.contains("rsa-1"), "{told}");
        let told = stack.service.cli(&["status"]).await?.ok()?;
        ensure!(told.contains("keys of provider main cannot be fetched"), "{told}");
        stack.served_by(&token, "analytics-core v1").await?;
        Ok(())
    });
}

/// Waits until so many requests have been served.
async fn served_since(client: &Client, token: &str, requests: usize) -> Result<()> {
    let served = Cell::new(0);
    let ask = async || {
        ensure!(client.get(ROUTE, Some(token)).await?.status == 200);
        served.set(served.get() + 1);
        ensure!(served.get() >= requests, "{} requests", served.get());
        Ok(())
    };
    eventually(SOON, "requests to be served", ask).await
}
