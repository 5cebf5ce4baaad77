//! `rampart key …`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use jiff::{SpanRelativeTo, Unit};
use reqwest::Method;
use serde_json::{Value, json};

use super::backup::DatabaseOption;
use super::client::{Client, Failure, done};
use super::output::{complain, items, print, table, text};
use crate::access::key::Secret;
use crate::access::{Role, local};
use crate::conflict::Basis;
use crate::model::{Change, Key as Stored};
use crate::store::{Database, Store};
use crate::writer::{Submission, Writer};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// All API keys; no secrets
    List,
    /// Make an API key and print its secret, this once
    Create(Create),
    /// Give an API key another secret and print it, this once
    Rotate {
        /// The key's name
        name: String,
        /// How long the secret so far still counts, such as 1h
        #[arg(long, value_name = "DURATION", value_parser = seconds, default_value = "0s")]
        overlap: u64,
        /// Write the secret to this file, of mode 0600, and do not print it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Remove an API key: it opens nothing from now on
    Revoke {
        /// The key's name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The key's name: who its bearer is, in the history
    name: String,
    /// What its bearer may do
    #[arg(long, value_enum)]
    role: Role,
    /// For role `envoy`: the id of the node that comes with it, or what ids begin with and then `*`
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// How long it counts, such as 90d; without, until it is revoked
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    expires_in: Option<u64>,
    /// Write the secret to this file, of mode 0600, and do not print it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write into the database itself, for whoever has no key left: a flag service takes it up
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    database: DatabaseOption,
}

impl Key {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List => {
                let answer = client.list(&["keys"], "keys").await?;
                client.output.show(&answer, |answer| {
                    let rows = items(answer, "keys").iter().map(|key| {
                        let ids = items(key, "secrets").iter().map(|secret| text(&secret["id"]));
                        let ids = ids.collect::<Vec<_>>().join(",");
                        let expires = key["expires_at"].as_i64().map(moment).unwrap_or_default();
                        [text(&key["name"]), text(&key["role"]), text(&key["node"]), ids, expires]
                    });
                    table(["NAME", "ROLE", "NODE", "SECRETS", "EXPIRES (UTC)"], rows)
                })
            }
            Self::Create(create) if create.offline => create.offline(client).await,
            Self::Create(Create { name, role, node, expires_in, out, .. }) => {
                let expires_at = expires_in.map(|seconds| now() + seconds);
                let body = json!({"role": role, "node": node, "expires_at": expires_at});
                let answer = client.submit(Method::PUT, &["keys", &name], Some(&body), None).await?;
                show(client, &answer, out.as_deref())?;
                client.settled(&answer).await
            }
            Self::Rotate { name, overlap, out } => {
                let body = json!({ "overlap": overlap });
                let answer =
                    client.submit(Method::POST, &["keys", &name, "rotate"], Some(&body), None).await?;
                show(client, &answer, out.as_deref())?;
                client.settled(&answer).await
            }
            Self::Revoke { name } => client.change(Method::DELETE, &["keys", &name], None).await,
        }
    }
}

impl Create {
    /// The way back for whoever has no key left: who can write the database may do everything anyway.
    /// The change goes through the write path as any other.
    async fn offline(self, client: &Client) -> Result<(), Failure> {
        let Self { name, role, node, expires_in, out, database, .. } = self;
        let database = database.database;
        let place = || database.to_string();
        let exists = || match &database {
            Database::File(file) => {
                ensure!(file.exists(), "there is no such database: name it with --database");
                anyhow::Ok(())
            }
            Database::Server(_) => Ok(()),
        };
        exists().with_context(place)?;
        let writer = Writer::start(Store::open(&database).await.with_context(place)?).await;
        let writer = Arc::new(writer.map_err(anyhow::Error::from).with_context(place)?);
        let secret = Secret::generate().map_err(anyhow::Error::from)?;
        let expires_at = expires_in.map(|seconds| now() + seconds);
        let key = Stored { name, role, node, expires_at, secrets: vec![secret.hashed()] };
        let submission = Submission {
            change: Change::PutKey(key),
            based_on: Basis::Unsaid,
            only_new: true,
            actor: format!("offline for {}", client.actor).trim_end_matches(" for ").to_owned(),
            role: Role::Admin,
            source: "cli",
            address: None,
            reason: client.reason.clone(),
            dry_run: client.dry_run,
            key: None,
        };
        let accepted = writer.submit(submission).await;
        let accepted = accepted.map_err(|error| Failure::Refused(error.to_string()))?;
        let resource = if accepted.applied { json!({"secret": secret.text()}) } else { Value::Null };
        let answer = json!({
            "applied": accepted.applied,
            "revision": accepted.head.revision,
            "summary": accepted.summary,
            "resource": resource,
        });
        show(client, &answer, out.as_deref())
    }
}

/// What was done goes to stderr, so that stdout holds the secret and nothing else.
fn show(client: &Client, answer: &Value, out: Option<&std::path::Path>) -> Result<(), Failure> {
    let secret = answer["resource"]["secret"].as_str();
    let said = done(answer);
    match (secret, out) {
        (Some(secret), Some(file)) => {
            local::write(file, secret).with_context(|| {
                format!("the key is there, and its secret cannot be written to {}; rotate it", file.display())
            })?;
            print(&format!("{said}\n{}: the secret", file.display()))
        }
        (Some(secret), None) if client.output.is_for_people() => {
            complain(format_args!("{said}\nThe secret is shown this once:"));
            print(secret)
        }
        _ => client.output.show(answer, |_| said),
    }
}

/// A moment as `2026-11-21 08:30:00`.
fn moment(seconds: i64) -> String {
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A duration such as `90d` or `1h 30m`, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is no duration: write 90d, 12h or 1h 30m");
    let span: jiff::Span = text.parse().map_err(|_| refuse())?;
    let seconds = span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())).map_err(|_| refuse())?;
    if (0.0..1e10).contains(&seconds) { Ok(seconds as u64) } else { Err(refuse()) }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
