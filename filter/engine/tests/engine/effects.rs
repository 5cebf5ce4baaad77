//! What flags change about a request.

use serde_json::{Value, json};

use crate::world::{World, claims};

/// A world whose module `effects` has these effects, and those on its one route.
fn world(flags: Value, module: Value, route: Value) -> World {
    let mut world = World::new();
    world.policy["flags"].as_array_mut().unwrap().extend(flags.as_array().unwrap().iter().cloned());
    world.policy["modules"].as_array_mut().unwrap().push(json!({
        "id": "effects", "version": "v1", "namespace": "effects", "cluster": "own", "effects": module,
        "routes": [{"path": "/here", "effects": route}, {"path": "/elsewhere"},
                   {"path": "/gated", "gates": [{"flag": "off", "when_off": "legacy"}]}]
    }));
    world
}

fn on(key: &str) -> Value {
    json!({"key": key, "percentage": 100})
}

#[test]
fn the_effects_of_flags_that_are_on_apply_the_routes_after_the_modules() {
    let cluster = |flag: &str, cluster: &str| json!({"flag": flag, "when_on": {"cluster": cluster}});
    let sets = |flag: &str, value: &str| json!({"flag": flag, "when_on": {"headers": {"x-envoy-max-retries": value}}});
    let flags = json!([on("a"), on("b"), {"key": "never"}]);
    for (module, route, here, elsewhere) in [
        (json!([]), json!([]), "own", "own"),
        (json!([cluster("a", "x")]), json!([]), "x", "x"),
        (json!([cluster("never", "x")]), json!([]), "own", "own"),
        (json!([]), json!([cluster("a", "x")]), "x", "own"),
        (json!([cluster("a", "x")]), json!([cluster("b", "y")]), "y", "x"),
        (json!([cluster("b", "x")]), json!([cluster("never", "y")]), "x", "x"),
        // In the order they are written, though flag `b` is asked before.
        (json!([cluster("b", "x"), cluster("a", "y"), cluster("b", "z")]), json!([]), "z", "z"),
        // An effect leaves what it does not name.
        (
            json!([{"flag": "a", "when_on": {"mirror": {"cluster": "m"}}}]),
            json!([cluster("b", "y")]),
            "y mirror=m",
            "own mirror=m",
        ),
        (json!([sets("a", "1")]), json!([]), "own x-envoy-max-retries=1", "own x-envoy-max-retries=1"),
        (
            json!([sets("a", "1")]),
            json!([sets("b", "2")]),
            "own x-envoy-max-retries=2",
            "own x-envoy-max-retries=1",
        ),
    ] {
        let mut world = world(flags.clone(), module.clone(), route.clone());
        let token = world.token(&claims("globex"));
        let found =
            ["here", "elsewhere"].map(|route| world.effects("GET", &format!("/v1/effects/{route}"), &token));
        assert_eq!(found, [here, elsewhere], "{module} {route}");
    }
}

#[test]
fn an_effect_of_a_variant_is_for_that_variant() {
    let flags = json!([{"key": "arms", "percentage": 100, "variants": [
        {"name": "blue", "weight": 1}, {"name": "green", "weight": 1}
    ]}]);
    let arm = |name: &str| json!({"flag": "arms", "variant": name, "when_on": {"cluster": name}});
    let mut world = world(flags, json!([arm("blue"), arm("green")]), json!([]));
    let mut seen = [0, 0];
    for n in 0..40 {
        let token = world.token(&claims(&format!("organisation-{n}")));
        let cluster = world.effects("GET", "/v1/effects/here", &token);
        let told = world.flags_told("/v1/effects/here", &token);
        assert_eq!(told, [format!("arms={cluster}")]);
        seen[usize::from(cluster == "green")] += 1;
    }
    assert!(seen.iter().all(|count| *count > 8), "{seen:?}");
}

#[test]
fn what_a_gate_keeps_from_the_module_stays_where_it_is_and_is_mirrored() {
    let changes =
        json!({"cluster": "x", "mirror": {"cluster": "shadow"}, "headers": {"x-envoy-retry-on": "5xx"}});
    let effects = json!([{"flag": "a", "when_on": changes}]);
    let mut world = world(json!([on("a")]), effects, json!([]));
    let token = world.token(&claims("globex"));
    assert_eq!(
        world.effects("GET", "/v1/effects/gated", &token),
        "legacy x-envoy-retry-on=5xx mirror=shadow"
    );
    world.flag("off", |flag| flag["percentage"] = 100.into());
    assert_eq!(world.effects("GET", "/v1/effects/gated", &token), "x x-envoy-retry-on=5xx mirror=shadow");
}

#[test]
fn only_safe_methods_are_mirrored_unless_the_module_says_so() {
    let effects = json!([{"flag": "a", "when_on": {"mirror": {"cluster": "shadow"}}}]);
    let mut world = world(json!([on("a")]), effects, json!([]));
    let token = world.token(&claims("globex"));
    for (method, safe) in
        [("GET", true), ("HEAD", true), ("OPTIONS", true), ("POST", false), ("DELETE", false), ("get", false)]
    {
        for opted_in in [false, true] {
            let modules = world.policy["modules"].as_array_mut().unwrap();
            modules.last_mut().unwrap()["mirror_unsafe"] = opted_in.into();
            let expected = if safe || opted_in { "own mirror=shadow" } else { "own" };
            assert_eq!(world.effects(method, "/v1/effects/here", &token), expected, "{method} {opted_in}");
        }
    }
}

#[test]
fn flags_by_request_go_by_the_requests_id() {
    let flags = json!([{"key": "a", "by": "request", "percentage": 50}]);
    let effects = json!([{"flag": "a", "when_on": {"cluster": "x"}}]);
    let mut world = world(flags, effects, json!([]));
    let token = format!("Bearer {}", world.token(&claims("globex")));
    let mut ask = |id: Option<&str>| {
        let mut headers = vec![
            (":method", "GET"),
            (":path", "/api/v1/modules/v1/effects/here"),
            ("authorization", &*token),
        ];
        headers.extend(id.map(|id| ("x-request-id", id)));
        world.decide(&headers)
    };
    let on = (0..200).filter(|n| ask(Some(&format!("request-{n}"))) == "module x").count();
    assert!((70..130).contains(&on), "{on} of 200");
    assert_eq!(ask(None), "module own", "a flag that cannot be evaluated is off and fails nothing");
}
