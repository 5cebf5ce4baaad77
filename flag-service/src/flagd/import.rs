//! From a flagd definition to flags. What Rampart has written it reads back as it was; of what others have
//! written it takes what it has words for, and tells what is not as it was.

use std::collections::HashMap;

use rampart_engine::bucket::Generation;
use rampart_engine::flag::{Flags, Percentage};
use rampart_engine::policy::Problem;
use rampart_engine::policy::wire::{Exclusive, Prerequisite, Variant};
use serde_json::{Map, Value, json};

use super::export::export;
use super::metadata;
use super::rules::{Chain, Rules};
use crate::imported::{Import, Rebucketing};
use crate::model::Flag;

/// Reads a flagd definition; docs/openfeature.md says what of it is taken.
///
/// # Errors
///
/// What is no flagd definition, or makes flags that the engine refuses: everything about it.
pub fn import(definition: &Value, rebucketing: Rebucketing) -> Result<Import, Vec<Problem>> {
    let evaluators = definition.get("$evaluators").and_then(Value::as_object);
    let mut import = Import::default();
    let mut written = HashMap::new();
    for (key, sent) in flags(definition)? {
        let sent = resolved(sent, evaluators);
        match read(&key, &sent, rebucketing, &mut import) {
            Ok(flag) => import.flags.push(flag),
            Err(reason) => import.leave_out(&key, reason),
        }
        if is_ours(&sent) {
            written.insert(key, sent);
        }
    }
    Flags::new(&import.flags)?;
    // What Rampart has written says what Rampart would write of it, and nothing else.
    let again = export(&import.flags).document;
    for flag in import.flags.clone() {
        let Some(sent) = written.get(&flag.key) else { continue };
        if again.get("flags").and_then(|flags| flags.get(&flag.key)) != Some(sent) {
            let note =
                "its rules say something that was not taken over: compare `rampart flag explain` with them";
            import.note(&flag.key, note);
        }
    }
    Ok(import)
}

/// The definitions by key, in the file's order; the daemon also takes a list.
fn flags(definition: &Value) -> Result<Vec<(String, &Value)>, Vec<Problem>> {
    let refuse =
        |field: &str, problem: &str| vec![Problem { field: field.to_owned(), problem: problem.to_owned() }];
    match definition.get("flags") {
        Some(Value::Object(flags)) => Ok(flags.iter().map(|(key, flag)| (key.clone(), flag)).collect()),
        Some(Value::Array(flags)) => {
            let key = |flag: &Value| flag.get("key").and_then(Value::as_str).map(str::to_owned);
            let keyed = flags.iter().map(|flag| {
                key(flag)
                    .map(|key| (key, flag))
                    .ok_or_else(|| refuse("flags", "a flag of the list has no `key`"))
            });
            keyed.collect()
        }
        _ => Err(refuse("flags", "missing: a flagd definition has an object of flags here")),
    }
}

/// Puts shared rules where they are referred to; flagd does not nest them.
fn resolved(value: &Value, evaluators: Option<&Map<String, Value>>) -> Value {
    match value {
        Value::Object(members) => {
            let shared = members.get("$ref").and_then(Value::as_str);
            if let Some(rule) = shared.and_then(|name| evaluators?.get(name)) {
                return rule.clone();
            }
            let members = members.iter().map(|(name, value)| (name.clone(), resolved(value, evaluators)));
            Value::Object(members.collect())
        }
        Value::Array(items) => items.iter().map(|item| resolved(item, evaluators)).collect(),
        other => other.clone(),
    }
}

fn meta<'a>(sent: &'a Value, name: &str) -> Option<&'a Value> {
    sent.get("metadata")?.get(name)
}

fn is_ours(sent: &Value) -> bool {
    meta(sent, metadata::GENERATION).is_some()
}

fn read(key: &str, sent: &Value, rebucketing: Rebucketing, import: &mut Import) -> Result<Flag, String> {
    let variants = sent.get("variants").and_then(Value::as_object).ok_or("it has no `variants`")?;
    let mut flag = blank(key, sent)?;
    let default = match sent.get("defaultVariant") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.as_str()),
        Some(other) => return Err(format!("its `defaultVariant` is {other}, and no name")),
    };
    let of_texts = variants.values().all(Value::is_string) && is_ours(sent);
    if !of_texts && !variants.values().all(Value::is_boolean) {
        return Err("its values are not `true` and `false`: Rampart's flags are on or off".to_owned());
    }
    if default.is_none() {
        import.note(key, "its default is the application's own: here it is off where no rule applies");
    }
    let disabled = sent.get("state").and_then(Value::as_str) == Some("DISABLED");
    if disabled {
        flag.enabled = false;
        import.note(key, "it is disabled, which was the application's own default: here it is off");
    }
    let rules = Rules { key, variants, default, needs: flag.prerequisites.len(), ours: is_ours(sent) };
    let chain = match sent
        .get("targeting")
        .filter(|targeting| targeting.as_object().is_none_or(|rule| !rule.is_empty()))
    {
        Some(targeting) => rules.read(targeting)?,
        None => {
            if of_texts {
                let names = variants.keys().filter(|name| *name != "off" || variants.len() == 1);
                flag.variants = names.map(|name| Variant { name: name.clone(), weight: 1 }).collect();
            }
            if is_ours(sent) {
                import.note(key, "it is killed or disabled: what else it said is not in the definition");
            }
            rules.fixed()
        }
    };
    take(&mut flag, chain, import, rebucketing, is_ours(sent))?;
    Ok(flag)
}

/// A flag with what is said outside its rules.
fn blank(key: &str, sent: &Value) -> Result<Flag, String> {
    let text = |name| meta(sent, name).and_then(Value::as_str);
    let bucketing: Generation = match meta(sent, metadata::GENERATION) {
        Some(generation) => serde_json::from_value(generation.clone())
            .map_err(|_| format!("metadata.{}: {generation} is unknown", metadata::GENERATION))?,
        None => Generation::default(),
    };
    let mut flag: Flag = serde_json::from_value(json!({"key": key})).map_err(|error| error.to_string())?;
    flag.bucketing = bucketing;
    flag.description = text(metadata::DESCRIPTION).unwrap_or_default().to_owned();
    flag.killed = meta(sent, metadata::KILLED) == Some(&json!(true));
    flag.enabled = meta(sent, metadata::ENABLED) != Some(&json!(false));
    if is_ours(sent) {
        let needs = text(metadata::NEEDS).unwrap_or_default().split(',').filter(|need| !need.is_empty());
        flag.prerequisites = needs.map(prerequisite).collect();
        if let Some(name) = text(metadata::EXCLUSIVE_GROUP) {
            let to = meta(sent, metadata::EXCLUSIVE_TO).and_then(Value::as_f64).unwrap_or(100.0);
            let to = Percentage::from_percent(to)
                .map_err(|error| format!("metadata.{}: {error}", metadata::EXCLUSIVE_TO))?;
            flag.exclusive_group = Some(Exclusive { name: name.to_owned(), from: Percentage::ZERO, to });
        }
    }
    Ok(flag)
}

fn prerequisite(need: &str) -> Prerequisite {
    let (flag, variant) = need.split_once('=').map_or((need, None), |(flag, variant)| (flag, Some(variant)));
    let (flag, value) = flag.strip_prefix('!').map_or((flag, true), |flag| (flag, false));
    Prerequisite { flag: flag.to_owned(), value, variant: variant.map(str::to_owned) }
}

/// Takes what the rules say into the flag.
fn take(
    flag: &mut Flag,
    chain: Chain,
    import: &mut Import,
    rebucketing: Rebucketing,
    ours: bool,
) -> Result<(), String> {
    flag.subjects = chain.subjects;
    flag.organisations = chain.organisations;
    flag.no_organisation = chain.no_organisation;
    flag.by = chain.by;
    if !chain.variants.is_empty() {
        flag.variants = chain.variants;
    }
    let of_buckets = |thousandths: u32| {
        Percentage::from_percent(f64::from(thousandths) / 1000.0).map_err(|error| error.to_string())
    };
    flag.percentage = of_buckets(chain.on)?;
    match &mut flag.exclusive_group {
        Some(part) => part.from = of_buckets(chain.from)?,
        None if chain.hash_key.as_ref().is_some_and(|key| *key != flag.key) => {
            flag.rollout_group = chain.hash_key.clone();
        }
        None => {}
    }
    for note in &chain.notes {
        import.note(&flag.key, *note);
    }
    let why = match &chain.hash_key {
        _ if ours => None,
        None => Some("its bucketing expression is not `key:organisation`"),
        Some(_) if chain.from > 0 => Some("what is on does not come first"),
        Some(_) => Some("the definition does not say by which of flagd's generations it is hashed"),
    };
    if let Some(why) = why {
        import.rebucket(flag, why, rebucketing);
    }
    Ok(())
}
