//! What an asker has seen of what they change, and what stands against the change where that is no longer
//! what is there: both sides, the difference in words, and who made it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::head::Head;
use crate::model::{Change, Edit, Kind, tag};
use crate::store::{Entry, Store, StoreError};

/// Most changes that are told of a conflict.
const TOLD: usize = 20;
/// How far back the history is searched for what an asker has seen: so many pages of so many changes.
const PAGES: u32 = 10;
const PAGE: u32 = 100;

/// What an asker has seen of what they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Basis {
    /// They do not say: they may make what is new, switch off, and try.
    #[default]
    Unsaid,
    /// Whatever is there, as long as something is.
    Existing,
    /// What has one of these entity tags.
    Tags(Vec<String>),
}

/// What stands against a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Conflict {
    /// What is to be changed: its kind and name; none where it is everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Subject>,
    /// What the change is based on; none where that is too long ago, or was never there.
    based_on: Option<Value>,
    /// What it would have made of that.
    yours: Option<Value>,
    /// What is there now; none where it is gone.
    now: Option<Value>,
    /// From what the change is based on to what is there, in words.
    difference: String,
    /// The changes in between, newest first.
    changes: Vec<Made>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
struct Subject {
    kind: Kind,
    name: String,
}

/// A change that was made: who, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
struct Made {
    revision: u64,
    /// When, in milliseconds since the Unix epoch
    at_ms: i64,
    actor: String,
    reason: String,
    summary: String,
}

impl Conflict {
    /// Finds out what happened since the asker has read what has one of these tags.
    ///
    /// # Errors
    ///
    /// When the history cannot be read.
    pub(crate) async fn find(
        store: &Store,
        now: &Head,
        change: &Change,
        tags: &[String],
    ) -> Result<Self, StoreError> {
        let Some((kind, name)) = change.subject() else {
            return Self::of_everything(store, now, tags).await;
        };
        let there = now.state.value(kind, name);
        let (mut changes, mut based_on, mut before) = (Vec::new(), None, i64::MAX.unsigned_abs());
        'search: for _ in 0..PAGES {
            let page = store.history(before, PAGE).await?;
            for entry in &page {
                before = entry.revision;
                let its = |edit: &&Edit| edit.kind == kind && edit.name == name;
                let Some(edit) = entry.edits.iter().find(its) else { continue };
                changes.push(Made::from(entry));
                if tags.contains(&tag(&edit.before)) {
                    based_on.clone_from(&edit.before);
                    break 'search;
                }
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        changes.truncate(TOLD);
        let edit = Edit { kind, name: name.to_owned(), before: based_on.clone(), after: there.clone() };
        // What it would go back to does not follow from what was seen.
        let seen = based_on.as_ref().filter(|_| change.back_to().is_none());
        let yours = seen.and_then(|based_on| {
            let mut state = now.state.clone();
            state.set(kind, name, Some(based_on)).ok()?;
            change.apply(&state, &[]).ok()?.value(kind, name)
        });
        let difference = match (&based_on, &there) {
            (None, Some(_)) => "what it was based on is not in the history's last changes".to_owned(),
            _ => edit.to_string(),
        };
        let subject = Some(Subject { kind, name: name.to_owned() });
        Ok(Self { subject, based_on, yours, now: there, difference, changes })
    }

    async fn of_everything(store: &Store, now: &Head, tags: &[String]) -> Result<Self, StoreError> {
        let seen = tags.iter().filter_map(|tag| tag.parse().ok()).max().unwrap_or(0);
        let newest = store.history(i64::MAX.unsigned_abs(), PAGE).await?;
        let since = newest.iter().filter(|entry| entry.revision > seen);
        let changes = since.take(TOLD).map(Made::from).collect();
        let difference = format!("revision {seen} → {}", now.revision);
        Ok(Self { subject: None, based_on: None, yours: None, now: None, difference, changes })
    }
}

/// The sentence that people read.
impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this change is based on something else than what is there now: {}", self.difference)?;
        if let Some(Made { revision, at_ms, actor, .. }) = self.changes.first() {
            let at = jiff::Timestamp::from_millisecond(*at_ms).unwrap_or_default();
            let at = at.strftime("%Y-%m-%d %H:%M:%S");
            write!(f, " (last changed by {actor} at {at} UTC, revision {revision})")?;
        }
        f.write_str("; look at it again, then ask again")
    }
}

impl From<&Entry> for Made {
    fn from(entry: &Entry) -> Self {
        let Entry { revision, at_ms, actor, reason, summary, .. } = entry;
        let [actor, reason, summary] = [actor, reason, summary].map(Clone::clone);
        Self { revision: *revision, at_ms: *at_ms, actor, reason, summary }
    }
}
