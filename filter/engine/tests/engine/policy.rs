//! What a policy may say, and the sentence for what it may not.

use rampart_engine::policy::{Policy, wire};
use serde_json::{Value, json};

/// A policy that makes sense, in which each case breaks one thing.
pub(crate) fn sound() -> Value {
    json!({
        "schema": 1,
        "revision": 7,
        "legacy_cluster": "legacy",
        "providers": [{
            "name": "main",
            "issuer": "https://issuer.test",
            // RFC 7515, appendix A.3.
            "jwks": {"keys": [{
                "kty": "EC", "crv": "P-256", "kid": "a", "alg": "ES256", "use": "sig",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
            }]}
        }],
        "flags": [{"key": "new-checkout", "percentage": 25}],
        "modules": [
            {"id": "one", "version": "v1", "namespace": "ns", "cluster": "module/one/v1",
             "gates": [{"flag": "new-checkout", "when_off": "legacy"}],
             "routes": [{"methods": ["GET"], "path": "/a/{id}"}]},
            {"id": "two", "version": "v1", "namespace": "ns", "cluster": "module/two/v1",
             "routes": [{"methods": ["POST"], "path": "/a/{id}"}]}
        ]
    })
}

/// What is refused about a policy.
pub(crate) fn problems(policy: &Value) -> Vec<String> {
    match Policy::from_json(policy.to_string().as_bytes()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_sound_policy_compiles() {
    assert_eq!(problems(&sound()), Vec::<String>::new());
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place_and_the_reason() {
    let private = json!({"kty": "RSA", "kid": "p", "n": "AQAB", "e": "AQAB", "d": "AQAB"});
    for (place, value, expected) in [
        ("/schema", json!(2), "schema: this filter reads schema 1, not 2"),
        (
            "/flags/0/percentage",
            json!(130),
            "flags[0].percentage: 130 is not a percentage: 0 to 100 is allowed at line",
        ),
        ("/flags/0/percentage", json!(-1), "flags[0].percentage: -1 is not a percentage"),
        ("/flags/0/percentage", json!(0.0005), "flags[0].percentage: 0.0005 has more than three decimals"),
        ("/flags/0/percentge", json!(5), "flags[0].percentge: unknown field `percentge`, expected one of"),
        ("/flags/0/key", json!("a b"), "flags[a b].key: a key is 1 to 128 letters"),
        ("/flags/0/key", json!("a/variant"), "flags[a/variant].key: a key is 1 to 128 letters"),
        ("/flags/0/key", json!("other"), "modules[one].gates[0].flag: there is no flag `new-checkout`"),
        ("/flags/1", json!({"key": "new-checkout"}), "flags[new-checkout].key: another flag has this key"),
        (
            "/legacy_cluster",
            Value::Null,
            "modules[one].routes[0].gates: `when_off: legacy` needs a `legacy_cluster`",
        ),
        ("/modules/1/id", json!("one"), "modules[one].id: another module has this id"),
        ("/modules/0/version", json!("1.0"), "modules[one].version: a version is `v` and a number"),
        ("/modules/0/namespace", json!("NS"), "modules[one].namespace: a namespace is"),
        ("/modules/0/cluster", json!(""), "modules[one].cluster: a cluster name is"),
        (
            "/modules/0/routes/0/path",
            json!("a"),
            "modules[one].routes[0].path: `a` is no route pattern: it must begin with `/`",
        ),
        (
            "/modules/0/routes/0/methods",
            json!(["get"]),
            "modules[one].routes[0].methods[0]: a method is upper-case",
        ),
        (
            "/modules/0/auth",
            json!({"level": "role"}),
            "modules[one].auth.roles: the level `role` needs at least one",
        ),
        (
            "/modules/0/auth",
            json!({"level": "permission"}),
            "modules[one].auth.permissions: the level `permission` needs",
        ),
        (
            "/modules/0/auth",
            json!({"level": "none", "permissions": ["x"]}),
            "the level `none` checks no permissions",
        ),
        (
            "/modules/0/auth",
            json!({"roles": ["x"]}),
            "modules[one].auth.roles: only the level `role` checks roles",
        ),
        ("/modules/0/flags", json!(["x"]), "modules[one].flags[0]: there is no flag `x`"),
        (
            "/modules/1/routes/0/methods",
            json!(["POST", "GET"]),
            "modules[two].routes[0].path: GET /api/v1/modules/v1/ns/a/{id} of module `two` is claimed already by module `one` (as `/a/{id}`)",
        ),
        (
            "/providers/1",
            sound()["providers"][0].clone(),
            "providers[main].issuer: another provider has this issuer",
        ),
        (
            "/providers/0/algorithms",
            json!([]),
            "providers[main].algorithms: at least one algorithm is required",
        ),
        ("/providers/0/algorithms", json!(["HS256"]), "providers[0].algorithms[0]: unknown variant `HS256`"),
        (
            "/providers/0/jwks/keys/0/x",
            json!("AAAA"),
            "providers[main].jwks.keys[a]: `x` has 3 bytes where this curve has 32",
        ),
        (
            "/providers/0/jwks/keys/0/y",
            sound()["providers"][0]["jwks"]["keys"][0]["x"].clone(),
            "are not a point of P-256",
        ),
        (
            "/providers/0/jwks/keys/0/alg",
            json!("RS256"),
            "providers[main].jwks.keys[a]: `alg` RS256 does not go with",
        ),
        (
            "/providers/0/jwks/keys/1",
            sound()["providers"][0]["jwks"]["keys"][0].clone(),
            "jwks.keys[a]: another key has this `kid`",
        ),
        ("/providers/0/jwks/keys/1", private, "providers[main].jwks.keys[p]: this is a private key"),
        (
            "/providers/0/jwks/keys/1",
            json!({"kty": "oct", "k": "AAAA"}),
            "jwks.keys[1]: this is a symmetric key",
        ),
        (
            "/providers/0/jwks/keys/1",
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            "not a usable RSA key: 24 bits",
        ),
    ] {
        let mut policy = sound();
        set(&mut policy, place, value.clone());
        let problems = problems(&policy);
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{place} = {value}: {problems:#?}"
        );
    }
}

#[test]
fn keys_that_are_none_of_ours_are_passed_over() {
    for key in [
        json!({"kty": "RSA", "use": "enc", "n": "x", "e": "x"}),
        json!({"kty": "EC", "crv": "secp256k1"}),
        json!({"kty": "quantum", "extra": 1}),
        json!({"kty": "RSA", "key_ops": ["encrypt"]}),
        json!({"kty": "RSA", "alg": "RSA-OAEP"}),
    ] {
        let mut policy = sound();
        set(&mut policy, "/providers/0/jwks/keys/1", key);
        assert_eq!(problems(&policy), Vec::<String>::new());
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let mut policy = sound();
    set(&mut policy, "/modules/0/version", json!("x"));
    set(&mut policy, "/modules/1/cluster", json!("x y"));
    assert_eq!(problems(&policy).len(), 2);
}

#[test]
fn what_is_no_json_is_refused() {
    for text in ["", "{", "[]", "null", "{\"schema\":1}x", "{\"schema\":1,\"schema\":1}"] {
        assert!(Policy::from_json(text.as_bytes()).is_err(), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(Policy::from_json(deep.as_bytes()).is_err());
    assert!(Policy::from_json(&[0xff, 0xfe]).is_err());
}

/// Sets a member or appends an element.
pub(crate) fn set(document: &mut Value, place: &str, value: Value) {
    let (parent, last) = place.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Array(items) => {
            let index: usize = last.parse().unwrap();
            items.truncate(index);
            items.push(value);
        }
        parent => parent[last] = value,
    }
}

/// The flag service writes what the engine reads.
#[test]
fn a_policy_is_written_as_it_is_read_and_without_what_was_not_said() {
    let mut full = sound();
    full["denied"] = json!({"tokens": ["a"], "subjects": [], "organisations": ["b"]});
    full["flags"] = json!([
        {"key": "b", "by": "request", "variants": [{"name": "v", "weight": 1}], "description": "d"},
        {"key": "a", "rollout_group": "g", "prerequisites": [{"flag": "b", "variant": "v"}, {"flag": "b", "value": false}],
         "subjects": {"on": ["x", {"name": "y", "until": 5}], "off": []}},
    ]);
    for sent in [sound(), full.clone()] {
        let read: wire::Policy = serde_json::from_value(sent).unwrap();
        let again: wire::Policy = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }
    let smallest: wire::Policy =
        serde_json::from_value(json!({"schema": 1, "flags": [{"key": "a"}]})).unwrap();
    let written = serde_json::to_value(&smallest).unwrap();
    assert_eq!(written.get("denied"), None);
    for unsaid in ["by", "description", "prerequisites", "rollout_group", "subjects", "variants"] {
        assert_eq!(written["flags"][0].get(unsaid), None, "{unsaid}");
    }
    let written = serde_json::to_value(serde_json::from_value::<wire::Policy>(full).unwrap()).unwrap();
    assert_eq!(
        written["flags"][1]["prerequisites"],
        json!([{"flag": "b", "variant": "v"}, {"flag": "b", "value": false}])
    );
    assert_eq!(written["denied"]["tokens"], json!(["a"]));
}
