//! Reads the targeting of a flagd definition as the rules that Rampart has: names, a guard, a percentage.
//! Anything else is refused in words; what a rule means for the flag is not its concern.

use rampart_engine::flag::Percentage;
use rampart_engine::policy::wire::{By, Named, Overrides, Term, Variant};
use serde_json::{Map, Value, json};

use super::{ORGANISATION, REQUEST, SUBJECT};

/// How a flag's targeting is to be read.
pub(super) struct Rules<'a> {
    pub(super) key: &'a str,
    pub(super) variants: &'a Map<String, Value>,
    pub(super) default: Option<&'a str>,
    /// How many prerequisites the targeting begins with.
    pub(super) needs: usize,
    /// Whether Rampart has written it.
    pub(super) ours: bool,
}

/// What a targeting says.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) subjects: Overrides,
    pub(super) organisations: Overrides,
    pub(super) no_organisation: bool,
    pub(super) by: By,
    /// Where the buckets begin that are on, and how many they are, in thousandths of a percent.
    pub(super) from: u32,
    pub(super) on: u32,
    /// What is hashed before the colon; none where it is hashed in another way.
    pub(super) hash_key: Option<String>,
    pub(super) variants: Vec<Variant>,
    pub(super) notes: Vec<&'static str>,
}

/// The operands of a rule, always as a list: JsonLogic takes a single one without its brackets.
fn operands<'v>(rule: &'v Value, operator: &str) -> Option<&'v [Value]> {
    let members = rule.as_object().filter(|members| members.len() == 1)?;
    let operands = members.get(operator)?;
    Some(operands.as_array().map_or(std::slice::from_ref(operands), Vec::as_slice))
}

fn var(rule: &Value) -> Option<&str> {
    operands(rule, "var")?.first()?.as_str()
}

impl Rules<'_> {
    /// Reads a targeting.
    pub(super) fn read(&self, targeting: &Value) -> Result<Chain, String> {
        let mut chain = Chain::default();
        let mut guarded = false;
        // Subjects before organisations, off before on: what comes earlier wins.
        let mut rank = 0;
        let mut rest = targeting;
        let mut passed = 0;
        while let Some(branches) = operands(rest, "if").filter(|_| self.share(rest).is_none()) {
            let mut branches = branches;
            while let [condition, then, others @ ..] = branches {
                branches = others;
                passed += 1;
                if passed <= self.needs {
                    continue;
                }
                if let Some(hashed) = absent(condition) {
                    chain.no_organisation = hashed == ORGANISATION && self.value(then)?;
                    guarded = true;
                } else if var(condition) == Some(ORGANISATION) && !guarded {
                    let otherwise = if let [otherwise] = branches {
                        self.value(otherwise)?
                    } else {
                        self.is_on(self.default)
                    };
                    chain.no_organisation = otherwise;
                    guarded = true;
                    branches = std::slice::from_ref(then);
                    break;
                } else if guarded && self.ours {
                    // What others of the exclusive group were promised: it is in their own names.
                } else {
                    let (who, mut names) = named(condition)
                        .ok_or_else(|| format!("a rule for which Rampart has no word: {condition}"))?;
                    let on = self.value(then)?;
                    let place = 2 * usize::from(who == ORGANISATION) + usize::from(on);
                    if place < rank || guarded {
                        return Err("its rules are in an order that Rampart does not have: subjects come before organisations, off before on".to_owned());
                    }
                    rank = place;
                    let overrides =
                        if who == SUBJECT { &mut chain.subjects } else { &mut chain.organisations };
                    if on { &mut overrides.on } else { &mut overrides.off }.append(&mut names);
                }
            }
            rest = branches.first().unwrap_or(&Value::Null);
        }
        self.split(rest, &mut chain, guarded)?;
        Ok(chain)
    }

    /// What a flag without targeting says.
    pub(super) fn fixed(&self) -> Chain {
        let on = self.is_on(self.default);
        let hash_key = Some(self.key.to_owned());
        Chain {
            no_organisation: on,
            on: if on { Percentage::TOTAL } else { 0 },
            hash_key,
            ..Chain::default()
        }
    }

    fn is_on(&self, variant: Option<&str>) -> bool {
        variant.and_then(|name| self.variants.get(name)).is_some_and(|value| match value {
            Value::String(name) => name != "off",
            other => *other == true,
        })
    }

    /// Whether a result is on: a variant's name, `true` and `false` by their names, nothing for the default.
    fn value(&self, result: &Value) -> Result<bool, String> {
        let name = match result {
            Value::Null => return Ok(self.is_on(self.default)),
            Value::Bool(value) => value.to_string(),
            Value::String(name) => name.clone(),
            // Who is on by name, as one of several variants.
            _ if self.ours => return Ok(true),
            other => return Err(format!("a result for which Rampart has no word: {other}")),
        };
        if !self.variants.contains_key(&name) {
            return Err(format!("a result that is none of its variants: `{name}`"));
        }
        Ok(self.is_on(Some(&name)))
    }

    /// The percentage of a rule that says who is on, and then which variant they are.
    fn share<'v>(&self, rule: &'v Value) -> Option<(&'v Value, &'v Value)> {
        let [condition, variant, _] = operands(rule, "if")? else { return None };
        let [share, on] = operands(condition, "==")? else { return None };
        (on == "on" && self.ours).then_some((share, variant))
    }

    /// What decides about those whom no name decides about.
    fn split(&self, rule: &Value, chain: &mut Chain, guarded: bool) -> Result<(), String> {
        let (share, variant) =
            self.share(rule).map_or((rule, None), |(share, variant)| (share, Some(variant)));
        let Some(buckets) = operands(share, "fractional") else {
            let on = self.value(share)?;
            chain.on = if on { Percentage::TOTAL } else { 0 };
            chain.no_organisation |= on && !guarded;
            chain.hash_key = Some(self.key.to_owned());
            return Ok(());
        };
        let explicit = buckets.first().filter(|first| !first.is_array());
        let weights =
            weights(if explicit.is_some() { buckets.get(1..).unwrap_or_default() } else { buckets })?;
        if let Some((hash_key, by)) = explicit.and_then(|expression| self.expression(expression)) {
            chain.hash_key = Some(hash_key);
            chain.by = by;
        }
        if !guarded {
            chain.no_organisation = self.is_on(self.default);
        }
        if !guarded && explicit.is_some() {
            chain.notes.push("it has no rule for callers without an organisation: here they get its default");
        }
        let is_on = |name: &Value| if variant.is_some() { Ok(*name == "on") } else { self.value(name) };
        let range = range(&weights, is_on)?;
        (chain.from, chain.on) = (range.from, range.on);
        if range.cut {
            chain.notes.push("its share is finer than 0.001 %: it was cut to that");
        }
        if let Some(variant) = variant {
            let weighted =
                operands(variant, "fractional").and_then(|buckets| buckets.get(1..)).unwrap_or_default();
            for (name, weight) in self::weights(weighted)? {
                let name = name.as_str().unwrap_or_default().to_owned();
                chain.variants.push(Variant { name, weight: u32::try_from(weight).unwrap_or(u32::MAX) });
            }
        }
        Ok(())
    }

    /// What `key:organisation` has before the colon, and who stands after it.
    fn expression(&self, expression: &Value) -> Option<(String, By)> {
        let (hashed, prefix) = operands(expression, "cat")?.split_last()?;
        let by = match var(hashed)? {
            ORGANISATION => By::Organisation,
            REQUEST => By::Request,
            _ => return None,
        };
        let text = |part: &Value| match var(part) {
            Some("$flagd.flagKey") => Some(self.key.to_owned()),
            _ => part.as_str().map(str::to_owned),
        };
        let prefix: String = prefix.iter().map(text).collect::<Option<_>>()?;
        Some((prefix.strip_suffix(':')?.to_owned(), by))
    }
}

/// Variants and their weights. One that is left out is 1.
fn weights(buckets: &[Value]) -> Result<Vec<(&Value, u64)>, String> {
    let one = json!(1);
    let weight =
        |bucket: &Value| bucket.get(1).unwrap_or(&one).as_u64().filter(|weight| *weight <= i32::MAX as u64);
    let buckets = buckets.iter().map(|bucket| Some((bucket.get(0)?, weight(bucket)?)));
    buckets.collect::<Option<_>>().ok_or_else(|| "its weights are not all whole numbers".to_owned())
}

/// The buckets that are on, in thousandths of a percent.
struct Range {
    from: u32,
    on: u32,
    /// Whether they are more than that can say.
    cut: bool,
}

fn range(weights: &[(&Value, u64)], is_on: impl Fn(&Value) -> Result<bool, String>) -> Result<Range, String> {
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    if !(1..=i32::MAX as u64).contains(&total) {
        return Err("its weights do not add up to 1 at least and 2147483647 at most".to_owned());
    }
    let (mut before, mut on, mut begun, mut ended) = (0, 0, false, false);
    for (name, weight) in weights {
        match (is_on(name)?, begun) {
            (true, _) if ended => return Err("it is on in several ranges of buckets".to_owned()),
            (true, _) => (on, begun) = (on + weight, true),
            (false, true) => ended = true,
            (false, false) => before += weight,
        }
    }
    let total_thousandths = u64::from(Percentage::TOTAL);
    let thousandths = |weight: u64| u32::try_from(weight * total_thousandths / total).unwrap_or(0);
    let from = if begun { thousandths(before) } else { 0 };
    Ok(Range { from, on: thousandths(on), cut: on * total_thousandths % total != 0 })
}

/// Who is not there, of a rule that asks for that.
fn absent(condition: &Value) -> Option<&str> {
    let hashed = operands(condition, "!").and_then(|operands| var(operands.first()?))?;
    [ORGANISATION, REQUEST].contains(&hashed).then_some(hashed)
}

/// Who is named by a rule, and for how long.
fn named(condition: &Value) -> Option<(&str, Vec<Named>)> {
    if let Some(alternatives) = operands(condition, "or") {
        let mut all = alternatives.iter().map(named).collect::<Option<Vec<_>>>()?.into_iter();
        let (who, mut names) = all.next()?;
        for (other, more) in all {
            names.extend((other == who).then_some(more)?);
        }
        return Some((who, names));
    }
    if let Some([before, is_named]) = operands(condition, "and") {
        let [timestamp, until] = operands(before, "<")? else { return None };
        let until = (var(timestamp)? == "$flagd.timestamp").then(|| until.as_u64())??;
        let (who, names) = named(is_named)?;
        let terms = names.into_iter().map(|named| match named {
            Named::Always(name) => Some(Named::Until(Term { name, until })),
            Named::Until(_) => None,
        });
        return Some((who, terms.collect::<Option<_>>()?));
    }
    let (who, names) = match (operands(condition, "in"), operands(condition, "==")) {
        (Some([who, Value::Array(names)]), _) => (who, names.as_slice()),
        (_, Some([who, name])) => (who, std::slice::from_ref(name)),
        _ => return None,
    };
    let who = var(who).filter(|who| [SUBJECT, ORGANISATION].contains(who))?;
    let names = names.iter().map(|name| Some(Named::Always(name.as_str()?.to_owned())));
    Some((who, names.collect::<Option<_>>()?))
}
