//! What flags and effects may say, and the sentence for what they may not.

use rampart_engine::policy::Policy;
use serde_json::{Value, json};

use crate::policy::{problems, set, sound};

#[test]
fn flags_that_contradict_themselves_or_each_other_are_refused() {
    let part = |from: u32, to: u32| json!({"name": "g", "from": from, "to": to});
    let member = |key: &str, from: u32, to: u32, percentage: u32| json!({"key": key, "percentage": percentage, "exclusive_group": part(from, to)});
    let needs = |key: &str, flag: &str| json!({"key": key, "prerequisites": [{"flag": flag}]});
    let with = |mut flag: Value, name: &str, value: Value| {
        flag[name] = value;
        flag
    };
    // Each flag asks the next twice: seven of them ask 127 flags.
    let doubling: Vec<Value> = (0..7)
        .map(|n| {
            let next = json!({"flag": format!("f{}", n + 1)});
            json!({"key": format!("f{n}"), "prerequisites": if n < 6 { json!([next, next]) } else { json!([]) }})
        })
        .collect();
    for (flags, expected) in [
        (json!([needs("a", "b")]), "flags[a].prerequisites[0].flag: there is no flag `b`"),
        (json!([needs("a", "a")]), "flags[a].prerequisites: they lead in a circle: a → a"),
        (
            json!([needs("a", "b"), needs("b", "a")]),
            "flags[a].prerequisites: they lead in a circle: a → b → a",
        ),
        (
            json!([needs("x", "a"), needs("a", "b"), needs("b", "c"), needs("c", "a")]),
            "flags[a].prerequisites: they lead in a circle: a → b → c → a",
        ),
        (json!(doubling), "flags[f0].prerequisites: they ask 127 flags in all: at most 64 are allowed"),
        (
            json!([{"key": "a"}, {"key": "b", "prerequisites": [{"flag": "a", "variant": "blue"}]}]),
            "flags[b].prerequisites[0].variant: flag `a` has no variant `blue`",
        ),
        (
            json!([{"key": "a", "variants": [{"name": "v", "weight": 1}]},
                   {"key": "b", "prerequisites": [{"flag": "a", "variant": "v", "value": false}]}]),
            "flags[b].prerequisites[0].value: a flag that is off has no variant",
        ),
        (
            json!([{"key": "a", "variants": [{"name": "v", "weight": 1}, {"name": "v", "weight": 1}]}]),
            "flags[a].variants[1].name: another variant has this name",
        ),
        (json!([{"key": "a", "variants": [{"name": "v w", "weight": 1}]}]), "variants[0].name: a name is"),
        (
            json!([{"key": "a", "variants": [{"name": "v", "weight": 0}]}]),
            "flags[a].variants: the weights add",
        ),
        (
            json!([{"key": "a", "variants": [{"name": "v", "weight": 2147483647}, {"name": "w", "weight": 1}]}]),
            "flags[a].variants: the weights add",
        ),
        (json!([{"key": "a", "variants": [{"name": "v", "weight": 0.5}]}]), "invalid type: floating point"),
        (
            json!([member("a", 0, 60, 10), member("b", 50, 100, 10)]),
            "flags[b].exclusive_group: its part overlaps that of flag `a`, 0 to 60 %",
        ),
        (
            json!([member("a", 0, 60, 60), member("b", 60, 100, 41)]),
            "flags[b].exclusive_group: 41 % do not fit the flag's part of the group, 60 to 100 %",
        ),
        (json!([member("a", 60, 60, 0)]), "flags[a].exclusive_group.to: a part ends after it begins"),
        (json!([with(member("a", 0, 60, 0), "by", json!("request"))]), "go by organisation"),
        (json!([with(member("a", 0, 60, 0), "rollout_group", json!("x"))]), "not both"),
        (json!([with(member("a", 0, 60, 0), "no_organisation", json!(true))]), "two flags of the group"),
        (json!([with(member("a", 0, 60, 0), "subjects", json!({"on": ["x"]}))]), "subjects cannot be named"),
        (
            json!([member("a", 0, 60, 0), with(member("b", 60, 90, 0), "bucketing", json!("flagd-v2"))]),
            "flags[b].exclusive_group: flag `a` of the same group has another `bucketing`",
        ),
        (
            json!([
                with(member("a", 0, 60, 0), "organisations", json!({"on": ["x"]})),
                with(member("b", 60, 90, 0), "organisations", json!({"on": ["x"]}))
            ]),
            "flags[b].exclusive_group: flag `a` of the same group names `x` as `on` too",
        ),
        (
            json!([{"key": "a", "by": "request", "no_organisation": true}]),
            "flags[a].no_organisation: a flag that goes by request does not look at it",
        ),
        (
            json!([{"key": "a", "organisations": {"on": [{"name": "x", "until": "2027"}]}}]),
            "flags[0].organisations.on[0]: expected a name, or an object of `name` and `until`",
        ),
    ] {
        let problems = problems(&json!({"schema": 1, "flags": flags}));
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{flags}: {problems:#?}");
    }
}

#[test]
fn effects_that_lead_nowhere_are_refused() {
    let sets =
        |name: &str, value: &str| json!({"flag": "new-checkout", "when_on": {"headers": {name: value}}});
    for (effect, expected) in [
        (json!({"flag": "x", "when_on": {"cluster": "c"}}), ".flag: there is no flag `x`"),
        (
            json!({"flag": "new-checkout", "variant": "v", "when_on": {"cluster": "c"}}),
            ".variant: flag `new-checkout` has no variant `v`",
        ),
        (json!({"flag": "new-checkout", "when_on": {}}), ".when_on: an effect says what changes"),
        (
            json!({"flag": "new-checkout", "when_on": {"cluster": "a b"}}),
            ".when_on.cluster: a cluster name is",
        ),
        (
            json!({"flag": "new-checkout", "when_on": {"mirror": {"cluster": ""}}}),
            ".when_on.mirror.cluster: a cluster name is",
        ),
        (
            sets("x-envoy-original-path", "/"),
            ".headers[x-envoy-original-path]: an effect sets no such header",
        ),
        (sets("X-Envoy-Retry-On", "5xx"), ".headers[X-Envoy-Retry-On]: an effect sets no such header"),
        (sets("x-rampart-cluster", "c"), "an effect sets no such header, but x-envoy-hedge-on"),
        (sets("x-envoy-max-retries", "many"), ".headers[x-envoy-max-retries]: its value is a number"),
        (sets("x-envoy-retry-on", "5xx\r\na: b"), ".headers[x-envoy-retry-on]: its value is words"),
    ] {
        for place in ["/modules/0/effects", "/modules/0/routes/0/effects"] {
            let mut policy = sound();
            set(&mut policy, place, json!([effect]));
            let at = place.replace("/modules/0", "modules[one]").replace("/routes/0/", ".routes[0].");
            let at = at.replace("]/", "].");
            let problems = problems(&policy);
            let told = |problem: &String| problem.starts_with(&at) && problem.contains(expected);
            assert!(problems.iter().any(told), "{at} {effect}: {problems:#?}");
        }
    }
}

#[test]
fn what_may_not_be_meant_is_a_warning() {
    let named = json!({"on": ["acme", "café"], "off": [{"name": "", "until": 5}]});
    let policy =
        json!({"schema": 1, "flags": [{"key": "f", "organisations": named, "subjects": {"on": ["é"]}}]});
    let policy = Policy::from_json(policy.to_string().as_bytes()).unwrap();
    let warnings: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
    let [first, second] = &warnings[..] else { panic!("{warnings:#?}") };
    assert!(first.starts_with("flags[f].organisations.on[1]: not ASCII"), "{first}");
    assert!(second.starts_with("flags[f].organisations.off[0]: nobody has an empty name"), "{second}");
}

#[test]
fn a_chain_of_any_length_is_answered() {
    let link = |n: u32| json!({"key": format!("f{n}"), "prerequisites": [{"flag": format!("f{}", n + 1)}]});
    let mut flags: Vec<Value> = (0..20_000).map(link).collect();
    flags.push(json!({"key": "f20000"}));
    let problems = problems(&json!({"schema": 1, "flags": flags}));
    assert_eq!(problems.len(), 20_001 - 64, "the last 64 are short enough");
}
