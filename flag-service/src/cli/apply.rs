//! `rampart apply` and `rampart diff`: files, or an older revision, against what is there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Answer, Client, Failure, warn};
use super::files::{Documents, Files};
use super::history;
use super::output::{Paint, items, paint};
use crate::model::Edit;

#[derive(Debug, Args)]
pub(super) struct Apply {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// Keep what is applied under this name, so that --prune can tell later what is gone
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    /// Remove what was applied under the set's name before and is in no file now
    #[arg(long, requires = "set")]
    prune: bool,
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, args = ["files", "from"])]
pub(super) struct Diff {
    /// Files as for `rampart apply`: what it would change
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// A revision: what was changed since
    #[arg(value_name = "FROM", conflicts_with_all = ["files", "set"])]
    from: Option<u64>,
    /// Only up to this revision
    #[arg(value_name = "TO")]
    to: Option<u64>,
}

impl Apply {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (tried, documents) = attempt(client, &self.files.files, &self.options).await?;
        if client.dry_run {
            return differences(client, &tried);
        }
        if items(&tried, "edits").is_empty() {
            return made(client, &tried).await;
        }
        // What is applied is what was compared: somebody else's change in between is a conflict.
        let tag = format!("\"{}\"", tried["revision"]);
        let body = body(&documents, &self.options);
        let answer = client.ask(Method::POST, &["apply"], &[], Some(&body), Some(("if-match", &tag))).await?;
        made(client, &taken(answer, &documents)?).await
    }
}

impl Diff {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let Some(from) = self.from else {
            let (tried, _) = attempt(client, &self.files, &self.options).await?;
            return differences(client, &tried);
        };
        let edits = since(client, from, self.to).await?;
        let answer = json!({"edits": edits});
        client
            .output
            .show(&answer, |_| if edits.is_empty() { "no difference".to_owned() } else { told(&edits) })?;
        if edits.is_empty() { Ok(()) } else { Err(Failure::Different) }
    }
}

/// What applying would change.
async fn attempt(
    client: &Client,
    files: &[PathBuf],
    options: &Options,
) -> Result<(Value, Documents), Failure> {
    let documents = Documents::read(files)?;
    let body = body(&documents, options);
    let answer = client.ask(Method::POST, &["apply"], &[("dry_run", "true")], Some(&body), None).await?;
    let tried = taken(answer, &documents)?;
    warn(&tried);
    Ok((tried, documents))
}

fn body(documents: &Documents, options: &Options) -> Value {
    json!({"resources": documents.resources(), "set": options.set, "prune": options.prune})
}

fn taken(answer: Answer, documents: &Documents) -> Result<Value, Failure> {
    match answer.status {
        status if status.is_success() => Ok(answer.body),
        StatusCode::UNPROCESSABLE_ENTITY if !items(&answer.body, "errors").is_empty() => {
            Err(documents.explain(&answer.body))
        }
        _ => Err(answer.refusal()),
    }
}

/// Shows what has changed.
pub(super) async fn made(client: &Client, answer: &Value) -> Result<(), Failure> {
    let edits = edits(answer);
    client.output.show(answer, |answer| match edits.len() {
        0 => format!("revision {}: nothing to change", answer["revision"]),
        many => format!("{}\nrevision {}: {}", told(&edits), answer["revision"], counted(many)),
    })?;
    client.settled(answer).await
}

/// Shows what would change, and says by the exit code whether anything would.
pub(super) fn differences(client: &Client, tried: &Value) -> Result<(), Failure> {
    let edits = edits(tried);
    client.output.show(tried, |tried| match edits.len() {
        0 => format!("no difference to revision {}", tried["revision"]),
        many => format!(
            "{}\nnot applied, tried at revision {}: {}",
            told(&edits),
            tried["revision"],
            counted(many)
        ),
    })?;
    if edits.is_empty() { Ok(()) } else { Err(Failure::Different) }
}

/// What the changes after `from`, and up to `to` where it is given, come to, resource by resource.
async fn since(client: &Client, from: u64, to: Option<u64>) -> Result<Vec<Edit>, Failure> {
    let mut all: BTreeMap<_, Edit> = BTreeMap::new();
    let mut changes = history::Changes::before(client, to.map(|to| to.saturating_add(1)));
    while let Some(change) = changes.next().await? {
        if change["revision"].as_u64().is_none_or(|revision| revision <= from) {
            break;
        }
        for edit in edits(&change) {
            let (kind, name, before) = (edit.kind, edit.name.clone(), edit.before.clone());
            // The newest comes first: it says what holds, and the oldest what held.
            all.entry((kind, name)).or_insert(edit).before = before;
        }
    }
    Ok(all.into_values().filter(|edit| edit.before != edit.after).collect())
}

fn edits(answer: &Value) -> Vec<Edit> {
    serde_json::from_value(answer["edits"].clone()).unwrap_or_default()
}

/// A line for each resource; the sign says what the colour does.
fn told(edits: &[Edit]) -> String {
    let lines = edits.iter().map(|edit| match (&edit.before, &edit.after) {
        (None, _) => paint(Paint::Good, &format!("+ {edit}")),
        (_, None) => paint(Paint::Bad, &format!("- {edit}")),
        _ => paint(Paint::Odd, &format!("~ {edit}")),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn counted(changes: usize) -> String {
    if changes == 1 { "1 change".to_owned() } else { format!("{changes} changes") }
}
