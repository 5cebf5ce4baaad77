//! `rampart segment …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::completion;
use super::files::lines;
use super::output::{items, table, text};

#[derive(Debug, Subcommand)]
pub(super) enum Segment {
    /// All segments
    List,
    /// One segment
    Get {
        /// The segment's name
        #[arg(add = completion::segments())]
        name: String,
    },
    /// Make or change a segment; what is not named stays
    Set(Set),
    /// Remove a segment that no flag names
    Delete {
        /// The segment's name
        #[arg(add = completion::segments())]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// The segment's name
    #[arg(add = completion::segments())]
    name: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Who belongs to it, one organisation a line, `-` for stdin; replaces the list
    #[arg(long, value_name = "FILE")]
    organisations: Option<PathBuf>,
    /// Organisations that join it
    #[arg(long, value_name = "ORGANISATION", value_delimiter = ',')]
    add: Vec<String>,
    /// Organisations that leave it
    #[arg(long, value_name = "ORGANISATION", value_delimiter = ',')]
    remove: Vec<String>,
}

impl Segment {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List => {
                let answer = client.list(&["segments"], "segments").await?;
                client.output.show(&answer, |answer| {
                    let rows = items(answer, "segments").iter().map(|segment| {
                        let members = items(segment, "organisations").len().to_string();
                        [text(&segment["name"]), members, text(&segment["description"])]
                    });
                    table(["NAME", "ORGANISATIONS", "DESCRIPTION"], rows)
                })
            }
            Self::Get { name } => {
                let answer = client.get(&["segments", &name], &[]).await?;
                client.output.show(&answer, |answer| format!("{answer:#}"))
            }
            Self::Set(set) => set.run(client).await,
            Self::Delete { name } => {
                let path = ["segments", &name];
                client.change_seen(Method::DELETE, &path, &path, None).await
            }
        }
    }
}

impl Set {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = ["segments", &self.name];
        let found = client.find(&path).await?;
        let (mut segment, tag) = found.clone().unwrap_or_else(|| (json!({}), None));
        let mut members = match &self.organisations {
            Some(file) => lines(file)?.into_iter().map(Value::String).collect(),
            None => items(&segment, "organisations").to_vec(),
        };
        members.retain(|member| !self.remove.iter().any(|leaves| member == leaves));
        for joins in self.add {
            if !members.iter().any(|member| *member == joins) {
                members.push(joins.into());
            }
        }
        segment["organisations"] = members.into();
        if let Some(description) = self.description {
            segment["description"] = description.into();
        }
        match found {
            Some(_) => client.change_based_on(Method::PUT, &path, Some(&segment), tag.as_deref()).await,
            None => client.create(&path, &segment).await,
        }
    }
}
