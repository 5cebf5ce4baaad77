//! From flags to a flagd definition, whole and pure: what the rules say is what the engine decides, and
//! what they cannot say is left out with the reason. It knows nothing of who reads it.

use std::collections::BTreeMap;

use rampart_engine::flag::Percentage;
use rampart_engine::policy::wire::{By, Exclusive, Named, Prerequisite};
use serde_json::{Map, Value, json};

use super::{FLAG_SET, ORGANISATION, REQUEST, SUBJECT, metadata};
use crate::model::Flag;

/// A flagd definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// In the form of <https://flagd.dev/schema/v0/flags.json>.
    pub document: Value,
    /// Flags that are not in it.
    pub left_out: Vec<LeftOut>,
}

/// A flag that flagd's rules cannot express exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The flag's key.
    pub flag: String,
    /// Why.
    pub reason: String,
}

/// Defines flags that the engine has accepted: their prerequisites lead nowhere but to flags among them.
#[must_use]
pub fn export<'a>(flags: impl IntoIterator<Item = &'a Flag>) -> Definition {
    let exporter = Exporter { flags: flags.into_iter().map(|flag| (flag.key.as_str(), flag)).collect() };
    let mut set = Map::from_iter([("flagSetId".to_owned(), json!(FLAG_SET))]);
    let (mut defined, mut left_out) = (Map::new(), Vec::new());
    for flag in exporter.flags.values() {
        match exporter.define(flag) {
            Ok(definition) => {
                defined.insert(flag.key.clone(), definition);
            }
            Err(reason) => {
                set.insert(format!("{}{}", metadata::LEFT_OUT, flag.key), json!(reason));
                left_out.push(LeftOut { flag: flag.key.clone(), reason });
            }
        }
    }
    let document =
        json!({"$schema": "https://flagd.dev/schema/v0/flags.json", "flags": defined, "metadata": set});
    Definition { document, left_out }
}

struct Exporter<'a> {
    flags: BTreeMap<&'a str, &'a Flag>,
}

/// What a rule says of somebody who is on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tells {
    /// `on`.
    On,
    /// The variant, where there are any.
    Variant,
}

impl Exporter<'_> {
    fn define(&self, flag: &Flag) -> Result<Value, String> {
        let mut definition = json!({
            // Never DISABLED, which is the caller's default and may be on.
            "state": "ENABLED", "defaultVariant": "off",
            "variants": variants(flag), "metadata": metadata(flag),
        });
        if is_live(flag) {
            definition["targeting"] = self.rules(flag, Tells::Variant)?;
        }
        Ok(definition)
    }

    /// The engine's rules in the engine's order, as one chain of `if`.
    fn rules(&self, flag: &Flag, tells: Tells) -> Result<Value, String> {
        let off = || json!("off");
        if !is_live(flag) {
            return Ok(off());
        }
        let mut chain = Vec::new();
        for needed in &flag.prerequisites {
            chain.extend([self.unmet(flag, needed)?, off()]);
        }
        for (who, names) in [(SUBJECT, &flag.subjects), (ORGANISATION, &flag.organisations)] {
            for (names, then) in [(&names.off, off()), (&names.on, somebody(flag, tells))] {
                if let Some(named) = named(who, names) {
                    chain.extend([named, then]);
                }
            }
        }
        // Without a guard SDKs hash the missing name, and not all of them alike.
        let nobody = if flag.no_organisation { first(flag, tells) } else { off() };
        chain.extend([json!({"!": [hashed(flag)]}), nobody]);
        if let Some(promised) = self.promised(flag) {
            chain.extend([promised, off()]);
        }
        chain.push(split(flag, tells));
        Ok(json!({"if": chain}))
    }

    /// That a prerequisite is not met.
    fn unmet(&self, flag: &Flag, needed: &Prerequisite) -> Result<Value, String> {
        let key = &needed.flag;
        let other =
            self.flags.get(key.as_str()).ok_or_else(|| format!("it needs `{key}`, which is missing"))?;
        if is_live(other) && other.bucketing != flag.bucketing {
            return Err(format!(
                "it needs `{key}`, which is of another generation: no SDK knows two of them"
            ));
        }
        let (tells, wanted) = match &needed.variant {
            Some(variant) if variant == "off" => {
                return Err(format!("a variant `off` of `{key}` cannot be told from being off"));
            }
            Some(variant) => (Tells::Variant, variant.as_str()),
            None if needed.value => (Tells::On, "on"),
            // Off for a rule, and yet neither on nor off to the engine.
            None if self.can_fail(other) => {
                return Err(format!(
                    "it needs `{key}` to be off, which cannot be told where a request has no id"
                ));
            }
            None => (Tells::On, "off"),
        };
        let rules = self.rules(other, tells).map_err(|reason| format!("it needs `{key}`: {reason}"))?;
        Ok(json!({"!=": [rules, wanted]}))
    }

    /// Whether the flag cannot be evaluated for a request without an id.
    fn can_fail(&self, flag: &Flag) -> bool {
        let needs = || flag.prerequisites.iter().filter_map(|needed| self.flags.get(needed.flag.as_str()));
        is_live(flag) && (flag.by == By::Request || needs().any(|needed| self.can_fail(needed)))
    }

    /// That the organisation is named by another flag of the exclusive group, be that flag live or not.
    fn promised(&self, flag: &Flag) -> Option<Value> {
        let group = &flag.exclusive_group.as_ref()?.name;
        let is_member = |part: &Exclusive| part.name == *group;
        let others = self
            .flags
            .values()
            .filter(|other| other.key != flag.key && other.exclusive_group.as_ref().is_some_and(is_member));
        let names: Vec<Named> = others.flat_map(|other| other.organisations.on.iter().cloned()).collect();
        named(ORGANISATION, &names)
    }
}

pub(super) const fn is_live(flag: &Flag) -> bool {
    flag.enabled && !flag.killed
}

fn variants(flag: &Flag) -> Value {
    if flag.variants.is_empty() {
        return json!({"on": true, "off": false});
    }
    let names = flag.variants.iter().map(|variant| variant.name.as_str()).chain(["off"]);
    names.map(|name| (name.to_owned(), json!(name))).collect::<Map<_, _>>().into()
}

fn metadata(flag: &Flag) -> Value {
    // What tells how rules are to be read is nothing without them.
    let rules = Some(flag).filter(|flag| is_live(flag));
    let needs: Vec<String> = rules.iter().flat_map(|flag| &flag.prerequisites).map(need).collect();
    let part = rules.and_then(|flag| flag.exclusive_group.as_ref());
    let members = [
        (metadata::GENERATION, Some(json!(flag.bucketing))),
        (metadata::DESCRIPTION, (!flag.description.is_empty()).then(|| json!(flag.description))),
        (metadata::KILLED, flag.killed.then_some(Value::Bool(true))),
        (metadata::ENABLED, (!flag.enabled).then_some(Value::Bool(false))),
        (metadata::NEEDS, (!needs.is_empty()).then(|| json!(needs.join(",")))),
        (metadata::EXCLUSIVE_GROUP, part.map(|part| json!(part.name))),
        (metadata::EXCLUSIVE_TO, part.map(|part| json!(part.to))),
    ];
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    given.collect::<Map<_, _>>().into()
}

fn need(needed: &Prerequisite) -> String {
    match (&needed.variant, needed.value) {
        (Some(variant), _) => format!("{}={variant}", needed.flag),
        (None, true) => needed.flag.clone(),
        (None, false) => format!("!{}", needed.flag),
    }
}

fn var(name: &str) -> Value {
    json!({"var": name})
}

fn hashed(flag: &Flag) -> Value {
    var(match flag.by {
        By::Organisation => ORGANISATION,
        By::Request => REQUEST,
    })
}

/// That somebody is named now; `None` where nobody is. Names that follow each other and hold for the same
/// time are one list, so that the order of all of them can be read back.
fn named(who: &str, names: &[Named]) -> Option<Value> {
    let names: Vec<&Named> = names.iter().filter(|named| !named.name().is_empty()).collect();
    let same_term = |one: &&Named, other: &&Named| one.until() == other.until();
    let mut runs: Vec<Value> = names.chunk_by(same_term).map(|run| holds(who, run)).collect();
    if runs.len() > 1 { Some(json!({"or": runs})) } else { runs.pop() }
}

fn holds(who: &str, run: &[&Named]) -> Value {
    let names: Vec<&str> = run.iter().map(|named| named.name()).collect();
    let is_named = json!({"in": [var(who), names]});
    match run.first().map_or(u64::MAX, |named| named.until()) {
        u64::MAX => is_named,
        until => json!({"and": [{"<": [var("$flagd.timestamp"), until]}, is_named]}),
    }
}

/// flagd's `fractional` over the engine's expression: a key, a colon, and who is hashed.
fn fractional(key: &str, flag: &Flag, weights: impl IntoIterator<Item = Value>) -> Value {
    let expression = json!({"cat": [format!("{key}:"), hashed(flag)]});
    let operands: Vec<Value> = std::iter::once(expression).chain(weights).collect();
    json!({"fractional": operands})
}

/// The percentage. What is on comes first: only so does a larger percentage take nothing from anybody.
fn split(flag: &Flag, tells: Tells) -> Value {
    let part = flag.exclusive_group.as_ref();
    let key = part.map(|part| &part.name).or(flag.rollout_group.as_ref()).unwrap_or(&flag.key);
    let from = part.map_or(Percentage::ZERO, |part| part.from).thousandths();
    let on = flag.percentage.thousandths();
    let before = (from > 0).then(|| json!(["off", from]));
    let after = json!(["off", Percentage::TOTAL.saturating_sub(from + on)]);
    let share = fractional(key, flag, before.into_iter().chain([json!(["on", on]), after]));
    if flag.variants.is_empty() || tells == Tells::On {
        return share;
    }
    json!({"if": [{"==": [share, "on"]}, variant(flag), "off"]})
}

/// The variant of whoever is hashed.
fn variant(flag: &Flag) -> Value {
    let weights = flag.variants.iter().map(|variant| json!([variant.name, variant.weight]));
    fractional(&format!("{}/variant", flag.key), flag, weights)
}

/// What somebody is who is on by name, whether or not there is anything to hash.
fn somebody(flag: &Flag, tells: Tells) -> Value {
    if flag.variants.is_empty() || tells == Tells::On {
        return json!("on");
    }
    json!({"if": [hashed(flag), variant(flag), first(flag, tells)]})
}

/// What a flag that is on is where there is nothing to hash: its first variant that anybody has.
fn first(flag: &Flag, tells: Tells) -> Value {
    let mut weighty = flag.variants.iter().filter(|variant| variant.weight > 0);
    let variant = weighty.next().filter(|_| tells == Tells::Variant);
    json!(variant.map_or("on", |variant| variant.name.as_str()))
}
