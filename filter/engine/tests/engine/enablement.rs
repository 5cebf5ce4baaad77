//! For whom a module is enabled, and what it is told of them.

use crate::policy::{problems, set, sound};
use crate::world::{World, claims};
use serde_json::{Value, json};

/// A module that serves whom it lists, and one that serves everybody else.
fn world() -> World {
    let mut world = World::new();
    let said = json!([
        {"organisation": "globex"},
        {"organisation": "initech", "enabled": false},
        {"organisation": "caf\u{e9}", "configuration": {"plan": "caf\u{e9} \u{1f600}\u{7f}", "seats": 3}}
    ]);
    let secret = json!([
        {"path": "/open", "auth": {"level": "none"}},
        {"path": "/any"},
        {"path": "/secret", "auth": {"permissions": ["read"]}},
        {"path": "/legacy", "gates": [{"flag": "off", "when_off": "legacy"}]}
    ]);
    for (id, enabled_for) in [("listed", "listed"), ("all", "all")] {
        world.module(id, json!({"enabled_for": enabled_for, "organisations": said, "routes": secret}));
    }
    world
}

#[test]
fn a_module_serves_those_for_whom_it_is_enabled() {
    let mut world = world();
    let mut nobody = claims("globex");
    nobody.as_object_mut().unwrap().remove("org_id");
    let refused = "403 module_not_enabled";
    for (claims, listed, all) in [
        (claims("globex"), "module listed", "module all"),
        (claims("caf\u{e9}"), "module listed", "module all"),
        (claims("initech"), refused, refused),
        (claims("umbrella"), refused, "module all"),
        (claims("GLOBEX"), refused, "module all"),
        (claims(""), refused, "module all"),
        (nobody, refused, "module all"),
    ] {
        let token = world.token(&claims);
        assert_eq!(world.get("/v1/listed/any", &token), listed, "{claims}");
        assert_eq!(world.get("/v1/all/any", &token), all, "{claims}");
        // Also where another application serves.
        let legacy = |verdict: &'static str| if verdict == refused { refused } else { "legacy legacy" };
        assert_eq!(world.get("/v1/listed/legacy", &token), legacy(listed), "{claims}");
    }
}

#[test]
fn who_may_not_use_a_module_learns_nothing_of_permissions() {
    let mut world = world();
    let secret = "/v1/listed/secret";
    assert_eq!(
        world.decide(&[(":method", "GET"), (":path", "/api/v1/modules/v1/listed/secret")]),
        "401 missing_token"
    );
    for (organisation, expected) in
        [("umbrella", "403 module_not_enabled"), ("globex", "403 missing_permission")]
    {
        let token = world.token(&claims(organisation));
        assert_eq!(world.get(secret, &token), expected);
    }
}

#[test]
fn a_route_that_asks_for_no_token_serves_everyone() {
    let mut world = world();
    let token = world.token(&claims("initech"));
    assert_eq!(world.get("/v1/listed/open", &token), "module listed");
}

#[test]
fn a_module_is_told_what_was_said_of_the_callers_organisation() {
    let mut world = world();
    for (organisation, told) in [
        ("caf\u{e9}", "all config={\"plan\":\"caf\\u00e9 \\ud83d\\ude00\\u007f\",\"seats\":3}"),
        ("globex", "all"),
        ("umbrella", "all"),
    ] {
        let token = world.token(&claims(organisation));
        assert_eq!(world.effects("GET", "/v1/all/any", &token), told);
    }
}

#[test]
fn what_cannot_be_told_is_refused_by_name() {
    let compiled = |said: Value| {
        let mut policy = sound();
        set(&mut policy, "/modules/0/organisations", said);
        problems(&policy)
    };
    let place = "modules[one].organisations";
    // `{"text":"…"}` around it.
    let fits = "x".repeat(4_096 - 11);
    for (said, expected) in [
        (json!([{"organisation": "a"}, {"organisation": "a"}]), "[1].organisation: `a` is there already"),
        (json!([{"organisation": ""}]), "[0].organisation: an organisation has a name"),
        (
            json!([{"organisation": "a", "configuration": {"text": format!("{fits}x")}}]),
            "[0].configuration: it is too long for a header",
        ),
    ] {
        let problems = compiled(said.clone());
        let named = |problem: &String| problem.starts_with(&format!("{place}{expected}"));
        assert!(problems.iter().any(named), "{said}: {problems:#?}");
    }
    let longest = json!([{"organisation": "a", "configuration": {"text": fits}}]);
    assert_eq!(compiled(longest), Vec::<String>::new());
    let misspelt = compiled(json!([{"organisation": "a", "enable": false}]));
    assert!(misspelt[0].contains("unknown field `enable`"), "{misspelt:?}");
}
