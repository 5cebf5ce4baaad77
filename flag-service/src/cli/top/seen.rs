//! What `rampart top` shows, as tables of text: taken from the service's answers, and from nothing else.

use std::collections::HashMap;

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::super::client::{Client, Failure};
use super::super::envoys;
use super::super::flag::state;
use super::super::history::when;
use super::super::module::place;
use super::super::output::{items, table, text};
use crate::model::Edit;

/// What the service answered last.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    status: Value,
    flags: Value,
    modules: Value,
    history: Value,
}

/// What there is a table of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Panel {
    Envoys,
    #[default]
    Flags,
    Modules,
    Changes,
}

/// Looks: at the status always, at the rest only where the revision is another.
pub(super) async fn look(client: &Client, seen: &mut Seen) -> Result<(), Failure> {
    let status = client.get(&["status"], &[]).await?;
    if seen.status["revision"] != status["revision"] {
        seen.flags = client.list(&["flags"], "flags").await?;
        seen.modules = client.list(&["module-management", "modules"], "modules").await?;
        seen.history = client.get(&["history"], &[]).await?;
    }
    seen.status = status;
    Ok(())
}

impl Panel {
    /// In the order in which they stand.
    pub(super) const ALL: [Self; 4] = [Self::Envoys, Self::Flags, Self::Modules, Self::Changes];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Envoys => "Envoys",
            Self::Flags => "Flags",
            Self::Modules => "Modules",
            Self::Changes => "Changes",
        }
    }

    pub(super) const fn header(self) -> [&'static str; 5] {
        match self {
            Self::Envoys => ["ENVOY", "STATE", "REVISION", "BEHIND", "REFUSED"],
            Self::Flags => ["KEY", "STATE", "PERCENTAGE", "CHANGED (UTC)", "WHAT"],
            Self::Modules => ["ID", "VERSION", "NAMESPACE", "AUTH", "ENDPOINTS"],
            Self::Changes => ["REVISION", "WHEN (UTC)", "WHO", "WHAT", "WHY"],
        }
    }
}

impl Seen {
    /// Everything in a line.
    pub(super) fn headline(&self) -> String {
        let status = &self.status;
        if status.is_null() {
            return "nothing was seen yet".to_owned();
        }
        let counts =
            ["flags", "modules", "providers", "warnings"].map(|kind| format!("{} {kind}", status[kind]));
        format!("revision {}, {}", status["revision"], counts.join(", "))
    }

    /// The rows of a table.
    pub(super) fn rows(&self, panel: Panel) -> Vec<[String; 5]> {
        match panel {
            Panel::Envoys => items(&self.status, "envoys").iter().map(|envoy| self.envoy(envoy)).collect(),
            Panel::Flags => {
                let changes = self.last_changes();
                let flags = items(&self.flags, "flags").iter();
                let row = |flag: &Value| {
                    let key = text(&flag["key"]);
                    let (at, what) = changes.get(&key).cloned().unwrap_or_default();
                    [key, state(flag).to_owned(), text(&flag["percentage"]), at, what]
                };
                flags.map(row).collect()
            }
            Panel::Modules => {
                let row = |module: &Value| {
                    let [id, version, namespace] =
                        ["id", "version", "namespace"].map(|member| text(&module[member]));
                    [id, version, namespace, text(&module["auth"]["level"]), place(module)]
                };
                items(&self.modules, "modules").iter().map(row).collect()
            }
            Panel::Changes => {
                let row = |change: &Value| {
                    let [revision, who, what, why] =
                        ["revision", "actor", "summary", "reason"].map(|member| text(&change[member]));
                    [revision, when(&change["at_ms"]), who, what, why]
                };
                items(&self.history, "changes").iter().map(row).collect()
            }
        }
    }

    fn envoy(&self, envoy: &Value) -> [String; 5] {
        let policy = &envoy["types"]["ecds"];
        let newest = self.status["revision"].as_u64();
        let behind =
            newest.zip(policy["acked"]["revision"].as_u64()).map(|(newest, has)| newest.saturating_sub(has));
        let behind = behind.map(|behind| behind.to_string()).unwrap_or_default();
        [
            text(&envoy["id"]),
            envoys::state(envoy).to_owned(),
            text(&policy["acked"]["revision"]),
            behind,
            envoys::refusals(&envoy["types"]),
        ]
    }

    /// By flag: when and how it was changed last, as far as the newest changes tell.
    fn last_changes(&self) -> HashMap<String, (String, String)> {
        let mut last = HashMap::new();
        for change in items(&self.history, "changes") {
            for edit in items(change, "edits").iter().filter(|edit| edit["kind"] == "flag") {
                let words = || {
                    let words = Edit::deserialize(edit).map(|edit| edit.to_string()).unwrap_or_default();
                    let key = format!("flag {}", text(&edit["name"]));
                    words.strip_prefix(&key).unwrap_or(&words).trim_start_matches([':', ' ']).to_owned()
                };
                last.entry(text(&edit["name"])).or_insert_with(|| (when(&change["at_ms"]), words()));
            }
        }
        last
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "status": self.status,
            "flags": self.flags["flags"],
            "modules": self.modules["modules"],
            "changes": self.history["changes"],
        })
    }

    /// For people without a terminal.
    pub(super) fn lines(&self) -> String {
        let tables = Panel::ALL.map(|panel| format!("{}\n", table(panel.header(), self.rows(panel))));
        format!("{}\n\n{}", self.headline(), tables.join("\n"))
    }
}

#[cfg(test)]
impl Seen {
    pub(super) fn of(status: Value, flags: Value, history: Value) -> Self {
        Self {
            status,
            flags: json!({"flags": flags}),
            modules: Value::Null,
            history: json!({"changes": history}),
        }
    }
}
