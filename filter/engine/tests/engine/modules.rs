//! What a module says of itself besides who may call it: aliases, the path it sees, its pace.

use crate::policy::{problems, set, sound};
use crate::world::{World, claims};
use rampart_engine::policy::Policy;
use serde_json::{Value, json};

#[test]
fn an_alias_leads_where_the_namespace_leads() {
    let mut world = World::new();
    world.module("orders", json!({"aliases": ["bestellungen", "sales"], "routes": [{"path": "/{id}"}]}));
    let token = world.token(&claims("globex"));
    for (path, expected) in [
        ("/v1/orders/7", "module orders"),
        ("/v1/bestellungen/7", "module orders"),
        ("/v1/sales/7/", "module orders"),
        ("/v1/sales/7/8", "404 unknown_route"),
        ("/v2/sales/7", "404 unknown_version"),
        ("/v1/sale/7", "404 unknown_module"),
    ] {
        assert_eq!(world.get(path, &token), expected, "{path}");
    }
}

#[test]
fn a_conflict_by_alias_shows_both_sides() {
    let taken = |one: Value, two: Value| {
        let mut policy = sound();
        set(&mut policy, "/modules/0/aliases", one);
        set(&mut policy, "/modules/1/aliases", two);
        set(&mut policy, "/modules/1/namespace", json!("own"));
        set(&mut policy, "/modules/1/routes/0", json!({"methods": ["GET"], "path": "/a/{x}"}));
        problems(&policy)
    };
    let claim = "modules[two].routes[0].path: GET /api/v1/modules/v1";
    for (one, two, expected) in [
        (json!([]), json!(["other"]), vec![]),
        (
            json!([]),
            json!(["ns"]),
            vec![format!(
                "{claim}/ns/a/{{x}} of module `two` (alias `ns`) is claimed already by module `one` (as `/a/{{id}}`)"
            )],
        ),
        (
            json!(["own"]),
            json!([]),
            vec![format!(
                "{claim}/own/a/{{x}} of module `two` is claimed already by module `one` (as `/a/{{id}}`, alias `own`)"
            )],
        ),
        (
            json!(["shared"]),
            json!(["shared"]),
            vec![format!(
                "{claim}/shared/a/{{x}} of module `two` (alias `shared`) is claimed already by module `one` (as `/a/{{id}}`, alias `shared`)"
            )],
        ),
        (
            json!(["ns"]),
            json!([]),
            vec!["modules[one].aliases[0]: the module has the namespace `ns` already".into()],
        ),
        (
            json!(["a", "B", "a"]),
            json!([]),
            vec![
                "modules[one].aliases[1]: a namespace is 1 to 128 lower-case letters, digits and `-`".into(),
                "modules[one].aliases[2]: the module has the namespace `a` already".into(),
            ],
        ),
    ] {
        assert_eq!(taken(one.clone(), two.clone()), expected, "{one} {two}");
    }
}

#[test]
fn the_prefix_stands_for_what_leads_to_the_module_and_nothing_else_changes() {
    for (prefix, path, seen) in [
        ("/internal/orders", "/v1/orders/7", "/internal/orders/7"),
        ("/internal/orders", "/v1/orders", "/internal/orders"),
        ("/internal/orders", "/v1/orders/", "/internal/orders/"),
        ("/internal/orders", "/v1/orders?a=/b", "/internal/orders?a=/b"),
        ("/internal/orders", "/v1/sales/7", "/internal/orders/7"),
        (
            "/internal/orders",
            "/v1/%6frders/a%20b/%c3%A9?q=%2F&r=a/../b",
            "/internal/orders/a%20b/%c3%A9?q=%2F&r=a/../b",
        ),
        ("/", "/v1/orders", "/"),
        ("/", "/v1/orders/", "/"),
        ("/", "/v1/orders?a", "/?a"),
        ("/", "/v1/orders/7/8?a#b", "/7/8?a#b"),
        ("/x%20y", "/v1/orders/7", "/x%20y/7"),
    ] {
        let mut world = World::new();
        world.module("orders", json!({"rewrite": {"prefix": prefix}, "aliases": ["sales"]}));
        let token = world.token(&claims("globex"));
        assert_eq!(world.effects("GET", path, &token), format!("orders path={seen}"), "{prefix} {path}");
    }
}

#[test]
fn the_predecessor_keeps_the_public_path_and_its_own_pace() {
    let mut world = World::new();
    let gates = json!([{"flag": "off", "when_off": "legacy"}]);
    world.module("orders", json!({"rewrite": {"prefix": "/o"}, "timeout_ms": 5, "gates": gates}));
    let token = world.token(&claims("globex"));
    assert_eq!(world.effects("GET", "/v1/orders/7", &token), "legacy");
    world.flag("off", |flag| flag["percentage"] = 100.into());
    let served = "orders x-envoy-upstream-rq-timeout-ms=5 path=/o/7";
    assert_eq!(world.effects("GET", "/v1/orders/7", &token), served);
}

#[test]
fn a_prefix_is_a_path_with_one_reading() {
    for prefix in [
        "",
        "x",
        "/x/",
        "//",
        "//x",
        "/x//y",
        "/../x",
        "/./x",
        "/%2e%2e",
        "/x?y",
        "/x#y",
        "/x;y",
        "/x y",
        "/%00",
        "/%2fx",
        "/caf\u{e9}",
        "/x\r\ny",
        "http://x",
    ] {
        let mut policy = sound();
        set(&mut policy, "/modules/0/rewrite", json!({"prefix": prefix}));
        let problems = problems(&policy);
        let named =
            |problem: &String| problem.starts_with("modules[one].rewrite.prefix: a prefix is `/`, or");
        assert!(problems.len() == 1 && problems.iter().all(named), "{prefix:?}: {problems:#?}");
    }
}

/// What the router is told of a request to `/a` and to `/b`.
fn told(module: Value, route: Value) -> [String; 2] {
    let mut world = World::new();
    let mut module = module;
    module["routes"] = json!([{"path": "/a"}, {"path": "/b"}]);
    module["routes"][1].as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
    world.module("orders", module);
    let token = world.token(&claims("globex"));
    ["/v1/orders/a", "/v1/orders/b"].map(|path| world.effects("GET", path, &token))
}

#[test]
fn the_router_is_told_of_timeouts_and_retries() {
    let retry = json!({"on": ["5xx", "unavailable", "reset"], "max_retries": 2, "per_try_timeout_ms": 1000});
    let all = "orders x-envoy-upstream-rq-timeout-ms=5000 x-envoy-retry-on=5xx,reset x-envoy-retry-grpc-on=unavailable \
               x-envoy-max-retries=2 x-envoy-upstream-rq-per-try-timeout-ms=1000";
    let module = json!({"timeout_ms": 5000, "retry": retry});
    assert_eq!(told(module.clone(), json!({})), [all, all]);
    // A route replaces what it states, as a whole, and keeps the rest.
    let of_route =
        "orders x-envoy-upstream-rq-timeout-ms=5000 x-envoy-retry-on=connect-failure x-envoy-max-retries=1";
    assert_eq!(told(module.clone(), json!({"retry": {"on": ["connect-failure"]}})), [all, of_route]);
    let unlimited = all.replace("=5000", "=0");
    assert_eq!(told(module.clone(), json!({"timeout_ms": 0})), [all, &unlimited]);
    let never = "orders x-envoy-upstream-rq-timeout-ms=5000";
    assert_eq!(told(module, json!({"retry": {"on": []}})), [all, never]);
    assert_eq!(told(json!({}), json!({})), ["orders", "orders"]);
}

#[test]
fn what_may_be_carried_out_twice_is_tried_again_under_more_conditions() {
    let retry = json!({"on": ["connect-failure"], "idempotent_on": ["reset"]});
    let mut world = World::new();
    world.module(
        "orders",
        json!({"version": "v1", "namespace": "orders", "cluster": "orders", "retry": retry}),
    );
    let token = world.token(&claims("globex"));
    let mut told = |method: &str| world.effects(method, "/v1/orders/a", &token);
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let expected = "orders x-envoy-max-retries=1 x-envoy-retry-on=connect-failure,reset";
        assert_eq!(told(method), expected, "{method}");
    }
    for method in ["POST", "PATCH", "get"] {
        let expected = "orders x-envoy-retry-on=connect-failure x-envoy-max-retries=1";
        assert_eq!(told(method), expected, "{method}");
    }
}

#[test]
fn a_flags_effect_wins_over_the_modules_own_headers() {
    let effect = json!({"flag": "told", "when_on": {"headers": {"x-envoy-max-retries": "9"}}});
    let module = json!({"retry": {"on": ["reset"]}, "timeout_ms": 7, "effects": [effect]});
    let expected = "orders x-envoy-upstream-rq-timeout-ms=7 x-envoy-retry-on=reset x-envoy-max-retries=9";
    assert_eq!(told(module, json!({})), [expected, expected]);
}

#[test]
fn a_timeout_or_retry_that_envoy_would_ignore_is_refused() {
    for (place, value, expected) in [
        ("/modules/0/timeout_ms", json!(86_400_001), "modules[one].timeout_ms: a timeout is a day"),
        ("/modules/0/timeout_ms", json!(-1), "invalid value: integer `-1`"),
        (
            "/modules/0/retry",
            json!({"on": ["5xx", "5XX"]}),
            "modules[one].retry.on[1]: Envoy knows no condition `5XX`, but 5xx, gateway-error, reset,",
        ),
        ("/modules/0/retry", json!({"on": ["retriable-headers"]}), "no condition `retriable-headers`"),
        (
            "/modules/0/retry",
            json!({"on": ["5xx"], "max_retries": 0}),
            "retry.max_retries: a request is tried again 1 to 10",
        ),
        ("/modules/0/retry", json!({"on": ["5xx"], "max_retries": 11}), "retry.max_retries"),
        ("/modules/0/retry", json!({"on": [], "idempotent_on": ["unavailable"]}), "retry.idempotent_on[0]"),
        ("/modules/0/retry", json!({"on": ["5xx"], "per_try_timeout_ms": 0}), "a try needs some time"),
        ("/modules/0/routes/0/timeout_ms", json!(u32::MAX), "modules[one].routes[0].timeout_ms: a timeout"),
        (
            "/modules/0/routes/0/retry",
            json!({"on": ["x"]}),
            "modules[one].routes[0].retry.on[0]: Envoy knows",
        ),
    ] {
        let mut policy = sound();
        set(&mut policy, place, value.clone());
        let problems = problems(&policy);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{value}: {problems:#?}");
    }
    // Each is stated elsewhere; together they make no sense.
    let mut policy = sound();
    set(&mut policy, "/modules/0/retry", json!({"on": ["reset"], "per_try_timeout_ms": 1000}));
    assert_eq!(problems(&policy), Vec::<String>::new());
    set(&mut policy, "/modules/0/routes/0/timeout_ms", json!(1000));
    let place = "modules[one].routes[0].retry.per_try_timeout_ms: one try must end before";
    assert!(problems(&policy).iter().any(|problem| problem.starts_with(place)));
}

#[test]
fn who_may_repeat_what_must_not_be_repeated_is_warned() {
    let warned = |on: &str, methods: Value| {
        let mut policy = sound();
        set(&mut policy, "/modules/0/retry", json!({"on": [on]}));
        set(&mut policy, "/modules/0/routes/0/methods", methods);
        set(&mut policy, "/modules/1/namespace", json!("other"));
        let compiled = Policy::from_json(policy.to_string().as_bytes()).unwrap();
        compiled.warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let warning = "modules[one].routes[0].retry: after `5xx` a POST may be carried out twice";
    for methods in [json!(["POST"]), json!([]), json!(["GET", "PATCH"])] {
        let warnings = warned("5xx", methods.clone());
        assert!(warnings.len() == 1 && warnings[0].starts_with(warning), "{methods}: {warnings:?}");
        assert_eq!(warned("connect-failure", methods), Vec::<String>::new());
    }
    assert_eq!(warned("5xx", json!(["GET", "PUT", "DELETE"])), Vec::<String>::new());
}
