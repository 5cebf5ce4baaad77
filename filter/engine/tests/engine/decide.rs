//! The main path on whole requests: the verdict for every way in.

use rampart_engine::decision::{Decision, Reason};

use crate::world::{World, claims, set};

#[test]
fn a_request_is_routed_by_who_calls_and_what_is_on_for_them() {
    let mut world = World::new();
    for (organisation, percentage, expected) in [
        ("globex", 10.0, "module module/analytics/v1"), // bucket 6.0763 %
        ("globex", 6.0, "legacy legacy"),
        ("initech", 61.521, "legacy legacy"), // bucket 61.521 %, and the threshold is exclusive
        ("initech", 61.522, "module module/analytics/v1"),
        ("initech", 0.0, "legacy legacy"),
        ("initech", 100.0, "module module/analytics/v1"),
    ] {
        world.flag("rollout", |flag| flag["percentage"] = percentage.into());
        let token = world.token(&claims(organisation));
        assert_eq!(world.get("/v1/analytics/data", &token), expected, "{organisation} at {percentage} %");
    }
}

#[test]
fn paths_lead_to_modules_or_are_refused() {
    let mut world = World::new();
    let token = world.token(&claims("globex"));
    for (path, expected) in [
        ("/v1/analytics/data", "module module/analytics/v1"),
        ("/v1/analytics/data/?x=1", "module module/analytics/v1"),
        ("/v1/analytics/dat%61", "module module/analytics/v1"),
        ("/v2/analytics/anything/else", "module module/analytics/v2"),
        ("/v1/analytics/nothing", "404 unknown_route"),
        ("/v3/analytics/data", "404 unknown_version"),
        ("/v1/nobody/data", "404 unknown_module"),
        ("/v1/analytics/../data", "400 malformed_path"),
        ("/v1/analytics/data;x", "400 malformed_path"),
        ("/v1/analytics/%2fdata", "400 malformed_path"),
        ("/v1/analytics/%c0%ae%c0%ae/data", "400 malformed_path"),
        ("/v1//data", "400 malformed_path"),
    ] {
        assert_eq!(world.get(path, &token), expected, "{path}");
    }
    assert_eq!(
        world.decide(&[(":method", "DELETE"), (":path", "/api/v1/modules/v1/analytics/data")]),
        "405 method_not_allowed"
    );
    assert_eq!(
        world.decide(&[(":method", "GET"), (":path", "/elsewhere"), ("authorization", "Bearer junk")]),
        "pass"
    );
    assert_eq!(world.decide(&[]), "pass");
    set(&mut world.policy, "/default", "deny".into());
    assert_eq!(world.decide(&[(":method", "GET"), (":path", "/elsewhere")]), "404 unknown_path");
}

#[test]
fn levels_and_lists_are_all_asked() {
    let mut world = World::new();
    let granted = |member: &str, value: serde_json::Value| {
        let mut claims = claims("globex");
        claims[member] = value;
        claims
    };
    for (path, claims, expected) in [
        ("/v1/levels/none", claims("globex"), "module levels"),
        ("/v1/levels/basic", claims("globex"), "module levels"),
        ("/v1/levels/permission", claims("globex"), "403 missing_permission"),
        ("/v1/levels/permission", granted("permissions", "read write".into()), "module levels"),
        ("/v1/levels/permission", granted("permissions", ["read", "write"].into()), "module levels"),
        ("/v1/levels/permission", granted("permissions", ["read"].into()), "403 missing_permission"),
        ("/v1/levels/permission", granted("permissions", ["read,write"].into()), "403 missing_permission"),
        ("/v1/levels/role", claims("globex"), "403 missing_role"),
        ("/v1/levels/role", granted("roles", "auditor".into()), "module levels"),
        ("/v1/levels/admin", granted("roles", "auditor".into()), "403 missing_role"),
        ("/v1/levels/admin", granted("roles", ["x", "root"].into()), "module levels"),
        ("/v1/levels/basic-with-list", claims("globex"), "403 missing_permission"),
    ] {
        let token = world.token(&claims);
        assert_eq!(world.get(path, &token), expected, "{path} {claims}");
    }
    for path in ["basic", "permission", "role", "admin", "basic-with-list"] {
        let path = format!("/api/v1/modules/v1/levels/{path}");
        assert_eq!(world.decide(&[(":method", "GET"), (":path", &path)]), "401 missing_token");
    }
    assert_eq!(
        world.decide(&[(":method", "GET"), (":path", "/api/v1/modules/v1/levels/none")]),
        "module levels"
    );
}

#[test]
fn gates_that_are_off_answer_as_they_say() {
    let mut world = World::new();
    let token = world.token(&claims("globex"));
    for (path, expected) in [
        ("/v1/gates/legacy", "legacy legacy"),
        ("/v1/gates/not-found", "404 unknown_route"),
        ("/v1/gates/forbidden", "403 flag_off"),
    ] {
        assert_eq!(world.get(path, &token), expected);
    }
    world.flag("off", |flag| flag["percentage"] = 100.into());
    for path in ["legacy", "not-found", "forbidden"] {
        assert_eq!(world.get(&format!("/v1/gates/{path}"), &token), "module gates");
    }
    world.flag("off", |flag| flag["killed"] = true.into());
    assert_eq!(world.get("/v1/gates/forbidden", &token), "403 flag_off");
}

#[test]
fn names_beat_the_percentage_and_the_kill_beats_names() {
    let mut world = World::new();
    let token = world.token(&claims("globex"));
    let on = "module gates";
    let off = "403 flag_off";
    for (flag, expected) in [
        (serde_json::json!({"percentage": 0, "organisations": {"on": ["globex"]}}), on),
        (serde_json::json!({"percentage": 100, "organisations": {"off": ["globex"]}}), off),
        (serde_json::json!({"organisations": {"on": ["globex"], "off": ["globex"]}}), off),
        (serde_json::json!({"organisations": {"off": ["globex"]}, "subjects": {"on": ["alice"]}}), on),
        (serde_json::json!({"organisations": {"on": ["globex"]}, "subjects": {"off": ["alice"]}}), off),
        (serde_json::json!({"percentage": 100, "enabled": false}), off),
        (serde_json::json!({"subjects": {"on": ["alice"]}, "killed": true}), off),
        (serde_json::json!({"percentage": 100, "no_organisation": false}), on),
    ] {
        world.flag("off", |old| {
            *old = flag.clone();
            old["key"] = "off".into();
        });
        assert_eq!(world.get("/v1/gates/forbidden", &token), expected, "{flag}");
    }
}

#[test]
fn a_caller_without_an_organisation_gets_the_flags_own_value() {
    let mut world = World::new();
    let mut nobody = claims("globex");
    for value in [serde_json::Value::Null, "".into()] {
        nobody["org_id"] = value;
        let token = world.token(&nobody);
        world.flag("off", |flag| *flag = serde_json::json!({"key": "off", "percentage": 100}));
        assert_eq!(world.get("/v1/gates/forbidden", &token), "403 flag_off");
        world.flag("off", |flag| flag["no_organisation"] = true.into());
        assert_eq!(world.get("/v1/gates/forbidden", &token), "module gates");
    }
}

#[test]
fn the_module_is_told_which_of_its_flags_are_on() {
    let mut world = World::new();
    let token = world.token(&claims("globex"));
    world.flag("rollout", |flag| flag["percentage"] = 100.into());
    assert_eq!(world.flags_told("/v1/analytics/data", &token), ["rollout", "told"]);
    world.flag("told", |flag| flag["killed"] = true.into());
    assert_eq!(world.flags_told("/v1/analytics/data", &token), ["rollout"]);
}

#[test]
fn grpc_callers_are_told_the_same() {
    for (reason, status, grpc) in [
        (Reason::MalformedPath, 400, 3),
        (Reason::ExpiredToken, 401, 16),
        (Reason::FlagOff, 403, 7),
        (Reason::UnknownModule, 404, 12),
        (Reason::MethodNotAllowed, 405, 12),
        (Reason::NoKeys, 503, 14),
        (Reason::NoPolicy, 503, 14),
    ] {
        assert_eq!((reason.status(), reason.grpc_status()), (status, grpc), "{reason:?}");
    }
}

#[test]
fn a_flag_that_cannot_be_evaluated_is_told_with_the_decision() {
    let mut world = World::new();
    world.flag("rollout", |flag| flag["by"] = "request".into());
    let bearer = format!("Bearer {}", world.token(&claims("globex")));
    let request = |id: Option<&str>| {
        let path = "/api/v1/modules/v1/analytics/data";
        let headers = [(":method", "GET"), (":path", path), ("authorization", &*bearer)];
        let id = id.map(|id| ("x-request-id", id));
        let all = headers.into_iter().chain(id);
        all.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect::<Vec<_>>()
    };
    for (when_off, id, expected) in [
        ("legacy", None, true),
        ("legacy", Some("1"), false),
        ("not_found", None, true),
        ("not_found", Some("1"), false),
        ("forbidden", None, true),
    ] {
        world.policy["modules"][0]["gates"][0]["when_off"] = when_off.into();
        let policy = world.compiled();
        let told = match world.decide_bytes(&policy, &request(id)) {
            Decision::Forward(forward) => forward.flag_error,
            Decision::Refuse(refusal, _) => refusal.flag_error,
            Decision::Pass => panic!("a path of a module passed"),
        };
        assert_eq!(told, expected, "{when_off} {id:?}");
    }
}
