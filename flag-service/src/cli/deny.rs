//! `rampart deny …`

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::output::{items, table, text};

#[derive(Debug, Subcommand)]
pub(super) enum Deny {
    /// Who is refused
    List,
    /// Refuse somebody from now on, whatever their tokens say
    Add(Who),
    /// Let somebody in again
    Remove(Who),
}

/// Whom it is about; may name several.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct Who {
    /// Tokens, by `jti`
    #[arg(long = "token", value_name = "JTI")]
    tokens: Vec<String>,
    /// Subjects
    #[arg(long = "subject")]
    subjects: Vec<String>,
    /// Organisations
    #[arg(long = "organisation")]
    organisations: Vec<String>,
}

const KINDS: [&str; 3] = ["tokens", "subjects", "organisations"];

impl Deny {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (mut settings, tag) = client.get_tagged(&["settings"]).await?;
        let (who, add) = match self {
            Self::List => {
                return client.output.show(&settings["denied"], |denied| {
                    let rows = KINDS.iter().flat_map(|kind| {
                        items(denied, kind)
                            .iter()
                            .map(|name| [kind.trim_end_matches('s').to_owned(), text(name)])
                    });
                    table(["KIND", "NAME"], rows)
                });
            }
            Self::Add(who) => (who, true),
            Self::Remove(who) => (who, false),
        };
        for (kind, names) in KINDS.into_iter().zip([who.tokens, who.subjects, who.organisations]) {
            let known = items(&settings["denied"], kind).to_vec();
            let names: Vec<Value> = names.into_iter().map(Value::String).collect();
            let mut list: Vec<Value> = known.into_iter().filter(|name| !names.contains(name)).collect();
            list.extend(names.into_iter().filter(|_| add));
            settings["denied"][kind] = json!(list);
        }
        client.change_based_on(Method::PUT, &["settings"], Some(&settings), tag.as_deref()).await
    }
}
