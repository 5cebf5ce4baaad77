//! The messaging preset's flags, with what the environment gives them as first values. It knows nothing of
//! what the flags do, and changes none that is there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::access::Role;
use crate::conflict::Basis;
use crate::model::{Apply, Change, State};
use crate::writer::{Submission, WriteError, Writer};

/// The preset: what each flag is, and its value where the environment says none.
const PRESET: &str = include_str!("../../envoy/presets/messaging/policy.json");
/// What the names of the variables begin with: `MESSAGING_RETRY_LOGIC` is `RETRY_LOGIC_ENABLED`.
const PREFIX: &str = "MESSAGING_";
/// What the keys of the flags end with.
const SUFFIX: &str = "_ENABLED";

/// Switches, by the key of their flag.
type Values = BTreeMap<String, bool>;

/// Makes those of the preset's flags that are not there, where the environment names any of them.
///
/// # Errors
///
/// When the database does not take them.
pub(crate) async fn seed(
    writer: &Arc<Writer>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(), WriteError> {
    let preset = preset();
    let values = values(&preset, environment);
    let Some(apply) = missing(&writer.head().state, preset, &values) else { return Ok(()) };
    let submission = Submission {
        change: Change::Apply(apply),
        based_on: Basis::Unsaid,
        only_new: true,
        actor: "rampart".to_owned(),
        role: Role::Admin,
        source: "environment",
        address: None,
        reason: format!("first values of {PREFIX}* in the environment"),
        dry_run: false,
        key: None,
    };
    match writer.submit(submission).await {
        // Another process on the same database has made them just now.
        Ok(_) | Err(WriteError::Exists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The preset's flags, as it has them.
fn preset() -> Vec<Map<String, Value>> {
    #[derive(Deserialize)]
    struct Preset {
        flags: Vec<Map<String, Value>>,
    }
    // It is part of the program, and a test reads it.
    serde_json::from_str::<Preset>(PRESET).map(|preset| preset.flags).unwrap_or_default()
}

fn key(flag: &Map<String, Value>) -> &str {
    flag.get("key").and_then(Value::as_str).unwrap_or_default()
}

/// What the environment says. On is `true`, in any case, and nothing else; whatever else is meant to be
/// something is told.
fn values(preset: &[Map<String, Value>], environment: impl Iterator<Item = (OsString, OsString)>) -> Values {
    let mut values = Values::new();
    for (name, value) in environment {
        let Some(switch) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let flag = format!("{switch}{SUFFIX}");
        let value = value.to_string_lossy();
        if !preset.iter().any(|known| key(known) == flag) {
            tracing::warn!("{PREFIX}{switch} in the environment names no flag: docs/presets.md has them all");
            continue;
        }
        let on = value.eq_ignore_ascii_case("true");
        if !on && !value.eq_ignore_ascii_case("false") {
            tracing::warn!(
                "{PREFIX}{switch} in the environment is neither `true` nor `false`: it counts as `false`"
            );
        }
        values.insert(flag, on);
    }
    values
}

/// The flags to make: all of the preset, since some ask for others; none where the environment names none.
fn missing(state: &State, preset: Vec<Map<String, Value>>, values: &Values) -> Option<Apply> {
    if values.is_empty() {
        return None;
    }
    let (there, missing): (Vec<_>, Vec<_>) =
        preset.into_iter().partition(|flag| state.flags.contains_key(key(flag)));
    for flag in there.iter().map(key).filter(|flag| values.contains_key(*flag)) {
        tracing::info!(flag, "the flag is there, and the environment gives first values only");
    }
    let resources = missing.into_iter().map(|mut flag| {
        if let Some(on) = values.get(key(&flag)) {
            flag.insert("percentage".to_owned(), if *on { 100 } else { 0 }.into());
            // Who has no organisation is treated as any other.
            flag.insert("no_organisation".to_owned(), (*on).into());
        }
        flag.insert("kind".to_owned(), "flag".into());
        flag
    });
    let resources: Vec<_> = resources.collect();
    (!resources.is_empty()).then_some(Apply { resources, set: None, prune: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(variables: &[(&str, &str)]) -> Values {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        values(&preset(), variables)
    }

    #[test]
    fn each_of_the_22_switches_is_read_and_only_true_is_on() {
        let preset = preset();
        assert_eq!(preset.len(), 22);
        for flag in preset.iter().map(key) {
            let name = format!("{PREFIX}{}", flag.strip_suffix(SUFFIX).unwrap());
            for (value, on) in [("true", true), ("TRUE", true), ("1", false), ("yes", false), ("", false)] {
                assert_eq!(said(&[(&name, value)]), Values::from([(flag.to_owned(), on)]), "{name}={value}");
            }
        }
    }

    #[test]
    fn other_variables_are_none_of_its_business() {
        let others = [("HOME", "true"), ("MESSAGING_RETRY_LOGIC_ENABLED", "true"), ("MESSAGING_", "true")];
        assert_eq!(said(&others), Values::new());
    }
}
