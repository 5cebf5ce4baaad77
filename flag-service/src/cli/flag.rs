//! `rampart flag …`

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, Failure};
use super::completion;
use super::history::{Changes, listed};
use super::output::{items, table, text};
use super::preview::Preview;

#[derive(Debug, Subcommand)]
pub(super) enum Flag {
    /// All flags
    List,
    /// One flag
    Get {
        /// The flag's key
        #[arg(add = completion::flags())]
        key: String,
    },
    /// Make a flag; what is not named has its default, the percentage 0
    Create(Members),
    /// Change a flag; what is not named stays
    Set(Members),
    /// Switch a flag off for everyone, now; its settings are kept
    Kill {
        /// The flag's key
        #[arg(add = completion::flags())]
        key: String,
    },
    /// Take a kill back
    Restore {
        /// The flag's key
        #[arg(add = completion::flags())]
        key: String,
    },
    /// Remove a flag that nothing asks for
    Delete {
        /// The flag's key
        #[arg(add = completion::flags())]
        key: String,
    },
    /// What was changed about a flag, newest first
    History {
        /// The flag's key
        #[arg(add = completion::flags())]
        key: String,
        /// How many changes
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Take one flag back to what it was, its kill included
    Revert {
        /// The flag's key
        #[arg(add = completion::flags())]
        key: String,
        /// The revision to go back to; unset: the one before the flag's last change
        revision: Option<u64>,
    },
    /// What a change of a flag would mean: who joins it, and who leaves
    Preview(Preview),
    /// What somebody gets, and why
    Explain {
        /// The flag's key
        #[arg(add = completion::flags())]
        key: String,
        /// The organisation
        #[arg(long)]
        organisation: Option<String>,
        /// The subject
        #[arg(long)]
        subject: Option<String>,
        /// The request's `x-request-id`, for a flag that goes by request
        #[arg(long)]
        request_id: Option<String>,
    },
}

/// Members of a flag. The service judges the values: it is the same engine that decides.
#[derive(Debug, Args)]
pub(super) struct Members {
    /// The flag's key
    #[arg(add = completion::flags())]
    key: String,
    /// Share of organisations that are on, 0 to 100 in steps of 0.001
    #[arg(long, allow_negative_numbers = true)]
    percentage: Option<serde_json::Number>,
    /// Whether it is on at all
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Flags of one group enrol the same organisations
    #[arg(long, value_name = "GROUP")]
    rollout_group: Option<String>,
    /// Its value for requests without an organisation
    #[arg(long, value_name = "BOOL")]
    no_organisation: Option<bool>,
    /// Organisations that are on whatever the percentage; replaces the list, empty to clear
    #[arg(long, value_name = "ORGANISATION", value_delimiter = ',')]
    on: Option<Vec<String>>,
    /// Organisations that are off whatever the percentage; replaces the list, empty to clear
    #[arg(long, value_name = "ORGANISATION", value_delimiter = ',')]
    off: Option<Vec<String>>,
}

impl Flag {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List => {
                let answer = client.list(&["flags"], "flags").await?;
                client.output.show(&answer, |answer| {
                    let rows = items(answer, "flags").iter().map(|flag| {
                        [
                            text(&flag["key"]),
                            state(flag).to_owned(),
                            text(&flag["percentage"]),
                            text(&flag["description"]),
                        ]
                    });
                    table(["KEY", "STATE", "PERCENTAGE", "DESCRIPTION"], rows)
                })
            }
            Self::Get { key } => {
                let answer = client.get(&["flags", &key], &[]).await?;
                client.output.show(&answer, |answer| format!("{answer:#}"))
            }
            Self::Create(members) => {
                let (key, flag) = members.json();
                client.create(&["flags", &key], &flag).await
            }
            Self::Set(members) => {
                let (key, patch) = members.json();
                let flag = ["flags", &key];
                client.change_seen(Method::PATCH, &flag, &flag, Some(&patch)).await
            }
            Self::Kill { key } => client.change(Method::POST, &["flags", &key, "kill"], None).await,
            Self::Restore { key } => {
                let flag = ["flags", &key];
                client.change_seen(Method::POST, &["flags", &key, "restore"], &flag, None).await
            }
            Self::Delete { key } => {
                let flag = ["flags", &key];
                client.change_seen(Method::DELETE, &flag, &flag, None).await
            }
            Self::History { key, limit } => {
                let mut all = Changes::before(client, None);
                let mut changes = Vec::new();
                while changes.len() < limit
                    && let Some(change) = all.next_of_flag(&key).await?
                {
                    changes.push(change);
                }
                if changes.is_empty() {
                    client.get(&["flags", &key], &[]).await?;
                }
                client.output.show(&json!({"changes": changes}), |_| listed(&changes))
            }
            Self::Revert { key, revision } => {
                let revision = match revision {
                    Some(revision) => revision,
                    None => match Changes::before(client, None).next_of_flag(&key).await? {
                        Some(last) => last["revision"].as_u64().unwrap_or_default().saturating_sub(1),
                        None => 0,
                    },
                };
                let path = ["flags", &key, "revert", &revision.to_string()];
                client.change_seen(Method::POST, &path, &["flags", &key], None).await
            }
            Self::Preview(preview) => preview.run(client).await,
            Self::Explain { key, organisation, subject, request_id } => {
                let who = [("organisation", organisation), ("subject", subject), ("request_id", request_id)];
                let who: Vec<(&str, &str)> =
                    who.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
                let answer = client.get(&["flags", &key, "explain"], &who).await?;
                client.output.show(&answer, explanation)
            }
        }
    }
}

impl Members {
    pub(super) fn json(self) -> (String, Value) {
        let mut patch = Map::new();
        let members = [
            ("percentage", self.percentage.map(Value::Number)),
            ("enabled", self.enabled.map(Value::Bool)),
            ("description", self.description.map(Value::String)),
            ("rollout_group", self.rollout_group.map(Value::String)),
            ("no_organisation", self.no_organisation.map(Value::Bool)),
        ];
        for (name, value) in members {
            patch.extend(value.map(|value| (name.to_owned(), value)));
        }
        let named =
            |names: Vec<String>| json!(names.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>());
        let lists = [("on", self.on.map(named)), ("off", self.off.map(named))];
        let lists: Map<String, Value> =
            lists.into_iter().filter_map(|(name, list)| Some((name.to_owned(), list?))).collect();
        if !lists.is_empty() {
            patch.insert("organisations".to_owned(), Value::Object(lists));
        }
        (self.key, Value::Object(patch))
    }
}

/// A flag's state in a word.
pub(super) fn state(flag: &Value) -> &'static str {
    match (flag["killed"] == true, flag["enabled"] == false) {
        (true, _) => "killed",
        (_, true) => "disabled",
        _ => "live",
    }
}

fn explanation(answer: &Value) -> String {
    format!("{}: {} (revision {})", value(answer), text(&answer["why"]), answer["revision"])
}

/// What somebody gets, in words: `on (blue)`.
pub(super) fn value(explanation: &Value) -> String {
    let value = if explanation["value"] == true { "on" } else { "off" };
    match &explanation["variant"] {
        Value::Null => value.to_owned(),
        variant => format!("{value} ({})", text(variant)),
    }
}
