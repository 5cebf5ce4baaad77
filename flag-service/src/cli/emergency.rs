//! `rampart disable-all` and `rampart restore-all`: everything off at once, and back.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::output::{items, named};

/// Kills every flag that is not there for safety.
pub(super) async fn disable(client: &Client) -> Result<(), Failure> {
    switch(client, "disable-all", None, |answer| {
        let kept = items(answer, "kept");
        let kept = match kept.len() {
            0 => String::new(),
            many => format!("\nleft alone, for safety: {}", named(kept, many as u64)),
        };
        format!("{}{kept}", counted(answer, "killed"))
    })
    .await
}

/// Takes that back.
pub(super) async fn restore(client: &Client) -> Result<(), Failure> {
    // What is switched on again is what was there when this was asked for.
    let (_, seen) = client.get_tagged(&["status"]).await?;
    switch(client, "restore", seen.as_deref(), |answer| counted(answer, "restored")).await
}

async fn switch(
    client: &Client,
    path: &str,
    seen: Option<&str>,
    words: impl FnOnce(&Value) -> String,
) -> Result<(), Failure> {
    let why = json!({"reason": client.reason});
    let condition = seen.map(|tag| ("if-match", tag));
    let answer = client.submit(Method::POST, &[path], Some(&why), condition).await?;
    client.output.show(&answer, |answer| {
        let revision = &answer["revision"];
        let words = words(answer);
        if answer["applied"] == false {
            format!("not applied, tried at revision {revision}: {words}")
        } else {
            format!("revision {revision}: {words}")
        }
    })?;
    client.settled(&answer).await
}

fn counted(answer: &Value, what: &str) -> String {
    let flags = items(answer, "flags");
    match flags.len() {
        0 => format!("no flag is {what}"),
        1 => format!("1 flag is {what}: {}", named(flags, 1)),
        many => format!("{many} flags are {what}: {}", named(flags, many as u64)),
    }
}
