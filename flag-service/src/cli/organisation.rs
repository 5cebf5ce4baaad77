//! `rampart module enable`, `disable`, `reset` and `organisations`: who may use a module.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::completion;
use super::output::{items, table, text};
use super::registry;

/// Where modules are.
const MODULES: [&str; 2] = ["module-management", "modules"];

#[derive(Debug, Subcommand)]
pub(super) enum Organisation {
    /// Let an organisation use a module
    Enable {
        #[command(flatten)]
        pair: Pair,
        /// How the module is set up for it: an object, JSON or YAML. Unset: as it was
        #[arg(long, value_name = "FILE")]
        configuration: Option<PathBuf>,
    },
    /// Keep an organisation from using a module
    Disable {
        #[command(flatten)]
        pair: Pair,
    },
    /// Say nothing more of an organisation: whether it may use a module, the module's manifest decides
    Reset {
        #[command(flatten)]
        pair: Pair,
    },
    /// Organisations of which something is said, and how often they used the module
    Organisations {
        /// The module's id
        #[arg(add = completion::modules())]
        id: String,
    },
}

/// A module and an organisation.
#[derive(Debug, Args)]
pub(super) struct Pair {
    /// The module's id
    #[arg(add = completion::modules())]
    id: String,
    /// The organisation
    organisation: String,
}

impl Pair {
    fn path(&self) -> [&str; 5] {
        [MODULES[0], MODULES[1], &self.id, "organisations", &self.organisation]
    }

    /// Sets whether the organisation may use the module, and leaves the rest as it is.
    async fn set(&self, client: &Client, enabled: bool, configuration: Option<Value>) -> Result<(), Failure> {
        let found = client.find(&self.path()).await?;
        let (mut record, tag) = found.clone().unwrap_or_else(|| (json!({}), None));
        if let Some(record) = record.as_object_mut() {
            // What the service says of it is not ours to say.
            for member in ["access_count", "last_accessed_at"] {
                record.remove(member);
            }
        }
        record["enabled"] = json!(enabled);
        if let Some(configuration) = configuration {
            record["configuration"] = configuration;
        }
        match found {
            Some(_) => client.change_based_on(Method::PUT, &self.path(), Some(&record), tag.as_deref()).await,
            None => client.create(&self.path(), &record).await,
        }
    }
}

impl Organisation {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Enable { pair, configuration } => {
                let configuration = configuration.as_deref().map(registry::read).transpose()?;
                pair.set(client, true, configuration).await
            }
            Self::Disable { pair } => pair.set(client, false, None).await,
            Self::Reset { pair } => {
                client.change_seen(Method::DELETE, &pair.path(), &pair.path(), None).await
            }
            Self::Organisations { id } => {
                let path = [MODULES[0], MODULES[1], &id, "organisations"];
                let answer = client.list(&path, "organisations").await?;
                client.output.show(&answer, |answer| {
                    let rows = items(answer, "organisations").iter().map(|record| {
                        [
                            text(&record["organisation"]),
                            enabled(record).to_owned(),
                            text(&record["access_count"]),
                            text(&record["last_accessed_at"]),
                        ]
                    });
                    table(["ORGANISATION", "MODULE", "REQUESTS", "LAST"], rows)
                })
            }
        }
    }
}

/// The modules, as an organisation may use them.
pub(super) async fn modules_of(client: &Client, organisation: &str) -> Result<(), Failure> {
    let path = [MODULES[0], "organisations", organisation, MODULES[1]];
    let answer = client.get(&path, &[]).await?;
    client.output.show(&answer, |answer| {
        let rows = items(answer, "modules").iter().map(|module| {
            let by = if module["said"].is_null() { "manifest" } else { "organisation" };
            [
                text(&module["module"]),
                enabled(module).to_owned(),
                by.to_owned(),
                text(&module["said"]["access_count"]),
            ]
        });
        table(["ID", "MODULE", "SAID BY", "REQUESTS"], rows)
    })
}

fn enabled(record: &Value) -> &'static str {
    if record["enabled"] == true { "enabled" } else { "disabled" }
}
