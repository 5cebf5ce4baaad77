//! `rampart provider …`

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::completion;
use super::output::{items, table, text};

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
    /// The public keys: a file or an http:// URL with a JSON Web Key Set, read now
    #[arg(long, value_name = "FILE|URL")]
    jwks: String,
}

impl Provider {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List => {
                let answer = client.list(&["providers"], "providers").await?;
                client.output.show(&answer, |answer| {
                    let rows = items(answer, "providers").iter().map(|provider| {
                        let keys = items(&provider["jwks"], "keys").iter().map(|key| text(&key["kid"]));
                        let keys = keys.collect::<Vec<_>>().join(",");
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
            Self::Set(set) => {
                let jwks = read_jwks(&set.jwks).await.with_context(|| format!("--jwks {}", set.jwks))?;
                let mut provider = json!({
                    "issuer": set.issuer,
                    "audiences": set.audiences,
                    "claims": {"organisation": set.organisation_claim},
                    "jwks": jwks,
                });
                if !set.algorithms.is_empty() {
                    provider["algorithms"] = json!(set.algorithms);
                }
                let path = ["providers", &set.name];
                client.change_seen(Method::PUT, &path, &path, Some(&provider)).await
            }
            Self::Remove { name } => {
                let path = ["providers", &name];
                client.change_seen(Method::DELETE, &path, &path, None).await
            }
        }
    }
}

async fn read_jwks(place: &str) -> anyhow::Result<Value> {
    let text = if place.starts_with("http://") {
        let answer = reqwest::get(place).await?.error_for_status()?;
        answer.bytes().await?.to_vec()
    } else {
        std::fs::read(place)?
    };
    serde_json::from_slice(&text).context("this is no JSON")
}
