//! `rampart provider …`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::completion;
use super::output::{complain, items, table, text};

#[derive(Debug, Subcommand)]
pub(super) enum Provider {
    /// All providers
    List,
    /// One provider
    Get {
        /// The provider's name
        #[arg(add = completion::providers())]
        name: String,
    },
    /// Create or replace a provider
    Set(Set),
    /// The keys of a provider, and what fetching them is like
    Keys {
        /// The provider's name
        #[arg(add = completion::providers())]
        name: String,
    },
    /// Fetch the keys of a provider now
    Refresh {
        /// The provider's name
        #[arg(add = completion::providers())]
        name: String,
    },
    /// Remove a provider: its tokens are refused from now on
    Remove {
        /// The provider's name
        #[arg(add = completion::providers())]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// The provider's name
    name: String,
    /// The exact `iss` of its tokens
    #[arg(long)]
    issuer: String,
    /// Who its tokens must be for; any of these. Unset: not looked at
    #[arg(long = "audience")]
    audiences: Vec<String>,
    /// Accepted signature algorithms [default: RS256 and ES256]
    #[arg(long = "algorithm")]
    algorithms: Vec<String>,
    /// The claim that names the organisation
    #[arg(long, value_name = "CLAIM", default_value = "org_id")]
    organisation_claim: String,
    #[command(flatten)]
    keys: Keys,
    /// After how many seconds keys are fetched again, at the latest [default: 300]
    #[arg(long, value_name = "SECONDS", conflicts_with = "jwks")]
    refresh_seconds: Option<u32>,
}

/// Where the public keys are from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Keys {
    /// The public keys: a file with a JSON Web Key Set, read now
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// The URL of the public keys: the flag service fetches them, again and again
    #[arg(long, value_name = "URL")]
    jwks_uri: Option<String>,
    /// The flag service fetches the public keys from where the issuer's discovery document says
    #[arg(long)]
    discover: bool,
}

impl Provider {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List => {
                let answer = client.list(&["providers"], "providers").await?;
                client.output.show(&answer, |answer| {
                    let rows = items(answer, "providers").iter().map(|provider| {
                        let keys = match &provider["jwks_from"] {
                            Value::Null => {
                                let keys = items(&provider["jwks"], "keys").iter();
                                keys.map(|key| text(&key["kid"])).collect::<Vec<_>>().join(",")
                            }
                            from if from["uri"].is_null() => "discovered".to_owned(),
                            from => format!("from {}", text(&from["uri"])),
                        };
                        [
                            text(&provider["name"]),
                            text(&provider["issuer"]),
                            text(&provider["algorithms"]),
                            keys,
                        ]
                    });
                    table(["NAME", "ISSUER", "ALGORITHMS", "KEYS"], rows)
                })
            }
            Self::Get { name } => {
                let answer = client.get(&["providers", &name], &[]).await?;
                client.output.show(&answer, |answer| format!("{answer:#}"))
            }
            Self::Keys { name } => {
                let answer = client.get(&["providers", &name, "keys"], &[]).await?;
                client.output.show(&answer, keys)
            }
            Self::Refresh { name } => {
                let answer = client.request(&["providers", &name, "keys", "refresh"]).await?;
                client.output.show(&answer, keys)
            }
            Self::Set(set) => {
                let mut provider = json!({
                    "issuer": set.issuer,
                    "audiences": set.audiences,
                    "claims": {"organisation": set.organisation_claim},
                });
                match &set.keys.jwks {
                    Some(file) => {
                        provider["jwks"] =
                            read_jwks(file).with_context(|| format!("--jwks {}", file.display()))?;
                    }
                    None => {
                        provider["jwks_from"] = json!({"uri": set.keys.jwks_uri});
                        if let Some(seconds) = set.refresh_seconds {
                            provider["jwks_from"]["refresh_seconds"] = json!(seconds);
                        }
                    }
                }
                if !set.algorithms.is_empty() {
                    provider["algorithms"] = json!(set.algorithms);
                }
                let path = ["providers", &set.name];
                client.change_seen(Method::PUT, &path, &path, Some(&provider)).await?;
                if set.keys.jwks.is_some() || client.dry_run {
                    return Ok(());
                }
                // Whether its keys can be had is known now, or when the first token is refused.
                let answer = client.request(&["providers", &set.name, "keys", "refresh"]).await?;
                for line in trouble(&answer["fetching"]) {
                    complain(format_args!("warning: {line}"));
                }
                Ok(())
            }
            Self::Remove { name } => {
                let path = ["providers", &name];
                client.change_seen(Method::DELETE, &path, &path, None).await
            }
        }
    }
}

fn read_jwks(file: &Path) -> anyhow::Result<Value> {
    serde_json::from_slice(&std::fs::read(file)?).context("this is no JSON")
}

/// Keys, and how fetching them goes.
fn keys(answer: &Value) -> String {
    let rows = items(answer, "keys").iter().map(|key| {
        let since = key["since"].as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let since = since.map_or_else(String::new, |since| since.to_string());
        [text(&key["kid"]), text(&key["kty"]), text(&key["alg"]), since]
    });
    let keys = table(["KID", "TYPE", "ALGORITHM", "SINCE"], rows);
    let told = trouble(&answer["fetching"]);
    if told.is_empty() { keys } else { format!("{keys}\n{}\n", told.join("\n")) }
}

/// What is wrong with fetched keys, a line each.
fn trouble(fetching: &Value) -> Vec<String> {
    let left_out = items(fetching, "left_out").iter().map(|key| format!("left out: {}", text(key)));
    let error = fetching["error"].as_str().map(|error| {
        let failures = &fetching["failures"];
        format!("the keys cannot be fetched (tried {failures} times), and stay as they are: {error}")
    });
    left_out.chain(error).collect()
}
