//! `rampart organisation …` and `rampart subject …`: one of them, across all flags.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, Failure};
use super::completion;
use super::flag::value;
use super::output::{items, table, text};

#[derive(Debug, Subcommand)]
pub(super) enum Person {
    /// What is on for one, and why, flag by flag
    Show {
        /// Whom it is about
        name: String,
        /// The other of the two: an organisation's subject, or a subject's organisation
        #[arg(long, value_name = "NAME")]
        with: Option<String>,
    },
    /// Name one in flags, whatever their percentages, as one change; other flags stay
    Name(Naming),
}

#[derive(Debug, Args)]
pub(super) struct Naming {
    /// Whom it is about
    name: String,
    #[command(flatten)]
    flags: Flags,
    /// When what is said ends, such as 2026-12-24T18:00:00Z; unset: never
    #[arg(long, value_name = "TIME", value_parser = second)]
    until: Option<u64>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Flags {
    /// Flags to be on
    #[arg(long, value_name = "FLAG", value_delimiter = ',', add = completion::flags())]
    on: Vec<String>,
    /// Flags to be off
    #[arg(long, value_name = "FLAG", value_delimiter = ',', add = completion::flags())]
    off: Vec<String>,
    /// Flags that are to say nothing of them any more
    #[arg(long, value_name = "FLAG", value_delimiter = ',', add = completion::flags())]
    forget: Vec<String>,
}

impl Person {
    /// `all` is what the API has them under.
    pub(super) async fn run(self, client: &Client, all: &str) -> Result<(), Failure> {
        match self {
            Self::Show { name, with } => {
                let with = with.as_deref().map(|with| ("with", with));
                let person = client.get(&[all, &name], with.as_slice()).await?;
                client.output.show(&person, |person| {
                    let rows = items(person, "flags").iter().map(|flag| {
                        [text(&flag["flag"]), value(flag), mention(&flag["named"]), text(&flag["why"])]
                    });
                    table(["FLAG", "VALUE", "NAMED", "WHY"], rows)
                })
            }
            Self::Name(naming) => {
                let body = json!({"flags": naming.said()?});
                client.change(Method::PATCH, &[all, &naming.name], Some(&body)).await
            }
        }
    }
}

impl Naming {
    /// By flag, what is to be said.
    fn said(&self) -> anyhow::Result<Map<String, Value>> {
        let said = |value: bool| match self.until {
            Some(until) => json!({"value": value, "until": until}),
            None => value.into(),
        };
        let mut flags = Map::new();
        for (keys, said) in
            [(&self.flags.on, said(true)), (&self.flags.off, said(false)), (&self.flags.forget, Value::Null)]
        {
            for key in keys {
                if flags.insert(key.clone(), said.clone()).is_some() {
                    anyhow::bail!("the flag `{key}` is there twice");
                }
            }
        }
        Ok(flags)
    }
}

/// How somebody is named: `on until 2026-12-24T18:00:00Z`.
fn mention(named: &Value) -> String {
    if named.is_null() {
        return String::new();
    }
    let word = if named["value"] == true { "on" } else { "off" };
    let until = named["until"].as_i64().and_then(|second| Timestamp::from_second(second).ok());
    until.map_or_else(|| word.to_owned(), |until| format!("{word} until {until}"))
}

/// A moment as the second that it is.
fn second(text: &str) -> Result<u64, String> {
    let moment: Option<Timestamp> = text.parse().ok();
    let second = moment.and_then(|moment| u64::try_from(moment.as_second()).ok());
    second.ok_or_else(|| "a time with its zone is expected, such as 2026-12-24T18:00:00Z".to_owned())
}
