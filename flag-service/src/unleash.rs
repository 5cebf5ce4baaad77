//! From Unleash's flags to Rampart's: what there are words for is taken, the rest is told. Unleash hashes
//! otherwise, so that a percentage is of others than before; it knows nothing of where flags go.

use rampart_engine::flag::{Flags, Percentage};
use rampart_engine::policy::Problem;
use rampart_engine::policy::wire::{Named, Overrides, Prerequisite, Variant};
use serde_json::{Value, json};

use crate::imported::{Import, Rebucketing};
use crate::model::Flag;

/// The field of Unleash's context that is the subject.
const USER: &str = "userId";

/// Reads an export, or what clients are sent (`/api/client/features`); docs/openfeature.md says what of it
/// is taken. `organisation` is the field of Unleash's context that names the organisation.
///
/// # Errors
///
/// What is neither, or makes flags that the engine refuses: everything about it.
pub fn import(file: &Value, organisation: &str, rebucketing: Rebucketing) -> Result<Import, Vec<Problem>> {
    let Some(features) = file.get("features").and_then(Value::as_array) else {
        let problem = "missing: an export of Unleash, or what its clients are sent, has a list of flags here";
        return Err(vec![Problem { field: "features".to_owned(), problem: problem.to_owned() }]);
    };
    let mut import = Import::default();
    for feature in features {
        let Some(key) = feature.get("name").and_then(Value::as_str) else { continue };
        let source = Feature::of(file, feature, key);
        match source.read(organisation, rebucketing, &mut import) {
            Ok(flag) => import.flags.push(flag),
            Err(reason) => import.leave_out(key, reason),
        }
    }
    without_orphans(&mut import);
    Flags::new(&import.flags)?;
    Ok(import)
}

/// Leaves out flags that need one that was left out, and in turn those that need them.
fn without_orphans(import: &mut Import) {
    loop {
        let known: Vec<String> = import.flags.iter().map(|flag| flag.key.clone()).collect();
        let missing = |needed: &&Prerequisite| !known.contains(&needed.flag);
        let orphan = import.flags.iter().enumerate().find_map(|(at, flag)| {
            flag.prerequisites.iter().find(missing).map(|needed| (at, needed.flag.clone()))
        });
        let Some((at, needed)) = orphan else { return };
        let flag = import.flags.remove(at);
        import.leave_out(&flag.key, format!("it depends on `{needed}`, which is not among the flags"));
    }
}

/// A flag and what belongs to it, wherever in the file that stands.
struct Feature<'v> {
    key: &'v str,
    description: &'v str,
    enabled: bool,
    strategies: Vec<&'v Value>,
    variants: Vec<&'v Value>,
    dependencies: Vec<&'v Value>,
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn items<'v>(value: &'v Value, member: &str) -> &'v [Value] {
    value.get(member).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl<'v> Feature<'v> {
    /// An export keeps strategies, environments and dependencies beside the flags.
    fn of(file: &'v Value, feature: &'v Value, key: &'v str) -> Self {
        let of_flag = |item: &&Value| text(item, "featureName") == key;
        let environment = items(file, "featureEnvironments").iter().find(of_flag);
        let beside = items(file, "featureStrategies").iter().filter(of_flag);
        let depending = items(file, "dependencies").iter().filter(|item| text(item, "feature") == key);
        let variants = items(feature, "variants").iter();
        Self {
            key,
            description: text(feature, "description"),
            enabled: environment.unwrap_or(feature).get("enabled") == Some(&json!(true)),
            strategies: items(feature, "strategies").iter().chain(beside).collect(),
            variants: variants
                .chain(environment.into_iter().flat_map(|own| items(own, "variants")))
                .collect(),
            dependencies: items(feature, "dependencies")
                .iter()
                .chain(depending.flat_map(|item| items(item, "dependencies")))
                .collect(),
        }
    }

    fn read(
        &self,
        organisation: &str,
        rebucketing: Rebucketing,
        import: &mut Import,
    ) -> Result<Flag, String> {
        let mut flag: Flag =
            serde_json::from_value(json!({"key": self.key})).map_err(|error| error.to_string())?;
        flag.description = self.description.to_owned();
        flag.enabled = self.enabled;
        let strategies: Vec<&Value> =
            self.strategies.iter().copied().filter(|own| own.get("disabled") != Some(&json!(true))).collect();
        if self.strategies.is_empty() {
            flag.percentage = Percentage::FULL;
        }
        let mut shares = 0;
        for strategy in &strategies {
            let share = strategy_of(strategy, organisation, &mut flag, strategies.len() == 1)?;
            if share.is_some_and(|share| share > Percentage::ZERO) {
                shares += 1;
            }
            flag.percentage = flag.percentage.max(share.unwrap_or_default());
        }
        if shares > 1 && flag.percentage != Percentage::FULL {
            return Err("several of its strategies have a percentage".to_owned());
        }
        self.take_variants(&strategies, &mut flag, import)?;
        flag.prerequisites =
            self.dependencies.iter().map(|needed| prerequisite(needed)).collect::<Result<_, _>>()?;
        if flag.percentage == Percentage::FULL {
            import.note(self.key, "callers without an organisation had it; here they do not");
        }
        import.rebucket(&mut flag, "Unleash hashes otherwise, and perhaps users", rebucketing);
        Ok(flag)
    }

    /// Variants of the flag, or else of its strategies; those are one list, or there is no telling.
    fn take_variants(
        &self,
        strategies: &[&Value],
        flag: &mut Flag,
        import: &mut Import,
    ) -> Result<(), String> {
        let mut lists =
            strategies.iter().map(|strategy| items(strategy, "variants")).filter(|list| !list.is_empty());
        let of_strategy = lists.next().unwrap_or_default();
        if lists.next().is_some() {
            return Err("several of its strategies have variants".to_owned());
        }
        let all: Vec<&Value> = self.variants.iter().copied().chain(of_strategy).collect();
        if all.iter().any(|variant| !items(variant, "overrides").is_empty()) {
            return Err("its variants are overridden for some".to_owned());
        }
        let read = |variant: &&Value| {
            let weight = variant.get("weight").and_then(Value::as_u64).unwrap_or(0);
            Variant {
                name: text(variant, "name").to_owned(),
                weight: u32::try_from(weight).unwrap_or(u32::MAX),
            }
        };
        flag.variants = all.iter().map(read).collect();
        if !all.is_empty() {
            import.note(self.key, "its variants are dealt anew, with the weights they had");
        }
        if all.iter().any(|variant| variant.get("payload").is_some_and(|payload| !payload.is_null())) {
            import.note(self.key, "the payloads of its variants are dropped: a variant is its name");
        }
        Ok(())
    }
}

fn prerequisite(needed: &Value) -> Result<Prerequisite, String> {
    let variant = match items(needed, "variants") {
        [] => None,
        [one] => one.as_str().map(str::to_owned),
        _ => return Err(format!("it depends on one of several variants of `{}`", text(needed, "feature"))),
    };
    let value = needed.get("enabled") != Some(&json!(false));
    Ok(Prerequisite { flag: text(needed, "feature").to_owned(), value, variant })
}

/// Takes a strategy into the flag: whom it names, and the share that it gives of all others. `alone`: no
/// other strategy can switch the flag on for those whom this one keeps out.
fn strategy_of(
    strategy: &Value,
    organisation: &str,
    flag: &mut Flag,
    alone: bool,
) -> Result<Option<Percentage>, String> {
    let parameter = |name: &str| strategy.get("parameters").map(|all| text(all, name)).unwrap_or_default();
    let name = text(strategy, "name");
    if !items(strategy, "segments").is_empty() {
        return Err(format!("its strategy `{name}` has segments"));
    }
    let share = match name {
        "default" => Percentage::FULL,
        "flexibleRollout" => share(parameter("rollout"))?,
        "gradualRolloutUserId" | "gradualRolloutSessionId" | "gradualRolloutRandom" => {
            share(parameter("percentage"))?
        }
        "userWithId" => {
            let users = parameter("userIds").split(',').map(str::trim).filter(|user| !user.is_empty());
            let users: Vec<Named> = users.map(|user| Named::Always(user.to_owned())).collect();
            if !items(strategy, "constraints").is_empty() {
                return Err("its strategy `userWithId` has constraints".to_owned());
            }
            flag.subjects.on.extend(users);
            return Ok(None);
        }
        other => return Err(format!("it has a strategy `{other}`")),
    };
    let constraint = match items(strategy, "constraints") {
        [] => return Ok(Some(share)),
        [one] => one,
        _ => return Err(format!("its strategy `{name}` has several constraints")),
    };
    let (field, operator) = (text(constraint, "contextName"), text(constraint, "operator"));
    let inverted = constraint.get("inverted") == Some(&json!(true));
    let no_word =
        || format!("its strategy `{name}` has a constraint for which Rampart has no word: {constraint}");
    let overrides: &mut Overrides = match field {
        USER => &mut flag.subjects,
        field if field == organisation => &mut flag.organisations,
        _ => return Err(no_word()),
    };
    if constraint.get("caseInsensitive") == Some(&json!(true)) {
        return Err(no_word());
    }
    let values = items(constraint, "values").iter().filter_map(Value::as_str);
    let values = values.map(|value| Named::Always(value.to_owned()));
    match (operator, inverted) {
        // A share of those who are named is nobody's name.
        ("IN", false) | ("NOT_IN", true) if share == Percentage::FULL => {
            overrides.on.extend(values);
            Ok(None)
        }
        ("NOT_IN", false) | ("IN", true) if alone => {
            overrides.off.extend(values);
            Ok(Some(share))
        }
        _ => Err(no_word()),
    }
}

fn share(percent: &str) -> Result<Percentage, String> {
    let number = percent.parse().map_err(|_| format!("its percentage `{percent}` is no number"))?;
    Percentage::from_percent(number).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an Unleash flag with these strategies becomes, and the notes about it.
    fn read(strategies: Value, rebucketing: Rebucketing) -> (Option<Flag>, Vec<String>) {
        let file =
            json!({"version": 2, "features": [{"name": "f", "enabled": true, "strategies": strategies}]});
        let mut import = import(&file, "tenant", rebucketing).unwrap();
        (import.flags.pop(), import.notes.into_iter().map(|note| note.note).collect())
    }

    fn rollout(percent: &str, constraints: Value) -> Value {
        let parameters = json!({"rollout": percent, "stickiness": "tenant", "groupId": "f"});
        json!({"name": "flexibleRollout", "parameters": parameters, "constraints": constraints})
    }

    fn on(flag: Option<Flag>) -> (f64, Vec<String>, Vec<String>) {
        let flag = flag.unwrap();
        let names = |names: &[Named]| names.iter().map(|named| named.name().to_owned()).collect();
        let percentage = f64::from(flag.percentage.thousandths()) / 1000.0;
        (percentage, names(&flag.organisations.on), names(&flag.organisations.off))
    }

    #[test]
    fn a_percentage_begins_at_zero_unless_rebucketing_is_accepted() {
        let (flag, notes) = read(json!([rollout("25", json!([]))]), Rebucketing::FromZero);
        assert_eq!(on(flag).0, 0.0);
        assert!(notes[0].contains("at 0 % instead of 25 %"), "{notes:?}");
        let (flag, notes) = read(json!([rollout("25", json!([]))]), Rebucketing::Accept);
        assert_eq!(on(flag).0, 25.0);
        assert!(notes[0].contains("25 % are other organisations"), "{notes:?}");
        assert_eq!(on(read(json!([rollout("100", json!([]))]), Rebucketing::FromZero).0).0, 100.0);
    }

    #[test]
    fn names_are_taken_where_they_mean_the_same() {
        let tenants =
            |operator| json!([{"contextName": "tenant", "operator": operator, "values": ["acme", "wayne"]}]);
        let both = vec!["acme".to_owned(), "wayne".to_owned()];
        let (flag, notes) =
            read(json!([rollout("100", tenants("IN")), rollout("0", json!([]))]), Rebucketing::FromZero);
        assert_eq!((on(flag), notes), ((0.0, both.clone(), vec![]), vec![]));
        let (flag, _) = read(json!([rollout("100", tenants("NOT_IN"))]), Rebucketing::FromZero);
        assert_eq!(on(flag), (100.0, vec![], both));
        let users = json!({"name": "userWithId", "parameters": {"userIds": "alice, bob"}});
        let subjects = read(json!([users]), Rebucketing::FromZero).0.unwrap().subjects;
        assert_eq!(serde_json::to_value(subjects).unwrap(), json!({"on": ["alice", "bob"], "off": []}));
    }

    #[test]
    fn what_there_are_no_words_for_is_left_out() {
        let constraint =
            |field, operator| json!([{"contextName": field, "operator": operator, "values": ["1"]}]);
        let everyone = rollout("100", json!([]));
        for (strategies, reason) in [
            (json!([{"name": "remoteAddress"}]), "strategy `remoteAddress`"),
            (json!([rollout("25", constraint("tenant", "IN"))]), "no word"),
            (json!([rollout("100", constraint("region", "IN"))]), "no word"),
            (json!([rollout("100", constraint("tenant", "STR_STARTS_WITH"))]), "no word"),
            (json!([rollout("50", constraint("tenant", "NOT_IN")), everyone]), "no word"),
            (
                json!([rollout("25", json!([])), rollout("50", json!([]))]),
                "several of its strategies have a percentage",
            ),
            (json!([rollout("50.0005", json!([]))]), "three decimals"),
        ] {
            let (flag, notes) = read(strategies, Rebucketing::Accept);
            assert_eq!(flag, None);
            assert!(notes[0].contains(reason), "{notes:?}");
        }
    }

    #[test]
    fn an_export_keeps_its_parts_apart() {
        let variants =
            json!([{"name": "blue", "weight": 1000, "payload": {"type": "string", "value": "#00f"}}]);
        let file = json!({
            "features": [{"name": "base", "description": "What it is for."}, {"name": "top"}, {"name": "over"}, {"name": "lost"}],
            "featureStrategies": [
                {"name": "default", "featureName": "base", "parameters": {}, "constraints": []},
                {"name": "flexibleRollout", "featureName": "top", "parameters": {"rollout": "0"}},
                {"name": "remoteAddress", "featureName": "lost", "parameters": {}},
            ],
            "featureEnvironments": [
                {"featureName": "base", "environment": "production", "enabled": true, "variants": variants},
                {"featureName": "top", "environment": "production", "enabled": false},
            ],
            "dependencies": [
                {"feature": "top", "dependencies": [{"feature": "base", "variants": ["blue"]}]},
                {"feature": "over", "dependencies": [{"feature": "lost", "enabled": false}]},
            ],
        });
        let import = import(&file, "tenant", Rebucketing::FromZero).unwrap();
        let flags: Vec<_> = import
            .flags
            .iter()
            .map(|flag| (flag.key.as_str(), flag.enabled, flag.percentage.thousandths()))
            .collect();
        assert_eq!(flags, [("base", true, 100_000), ("top", false, 0)]);
        assert_eq!(import.flags[0].description, "What it is for.");
        let needed = Prerequisite { flag: "base".to_owned(), value: true, variant: Some("blue".to_owned()) };
        assert_eq!(import.flags[1].prerequisites, [needed]);
        let left_out: Vec<_> = import
            .notes
            .iter()
            .filter(|note| note.left_out)
            .map(|note| (note.flag.as_str(), note.note.as_str()))
            .collect();
        assert_eq!(
            left_out,
            [
                ("lost", "it has a strategy `remoteAddress`"),
                ("over", "it depends on `lost`, which is not among the flags")
            ]
        );
        assert!(import.notes.iter().any(|note| note.note.contains("payloads")));
        assert_eq!(
            super::import(&json!({}), "tenant", Rebucketing::Accept).unwrap_err()[0].field,
            "features"
        );
    }
}
