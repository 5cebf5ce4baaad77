//! A request is about one organisation, and that is the caller's own.

use crate::policy::{problems, set, sound};
use crate::world::{World, claims};
use serde_json::{Value, json};

/// A module bound by path, one of whose routes is bound by header and one not at all.
fn world() -> World {
    let mut world = World::new();
    world.module(
        "data",
        json!({
            "tenant": {"path": "organisation"},
            "routes": [
                {"path": "/of/{organisation}/reports"},
                {"path": "/of/{organisation}/secret", "auth": {"permissions": ["read"]},
                 "gates": [{"flag": "off", "when_off": "forbidden"}]},
                {"path": "/mine", "tenant": {"header": "X-Organisation-Id"}},
                {"path": "/shared", "tenant": "any"}
            ]
        }),
    );
    world
}

#[test]
fn a_path_names_the_callers_own_organisation_or_is_refused() {
    let mut world = world();
    let mut nobody = claims("globex");
    nobody.as_object_mut().unwrap().remove("org_id");
    let (module, refused) = ("module data", "403 cross_tenant");
    for (claims, segment, expected) in [
        (claims("globex"), "globex", module),
        (claims("globex"), "g%6Cobe%78", module),
        (claims("caf\u{e9} 1+1"), "caf%C3%A9%201+1", module),
        (claims("a,b"), "a,b", module),
        (claims("globex"), "initech", refused),
        (claims("globex"), "GLOBEX", refused),
        (claims("globex"), "globe", refused),
        (claims("globex"), "globexx", refused),
        (claims("globex"), "%67lobe", refused),
        (claims("a b"), "a+b", refused),
        (claims("gl%6fbex"), "gl%6fbex", refused),
        (nobody.clone(), "globex", refused),
        (nobody, "null", refused),
    ] {
        let path = format!("/api/v1/modules/v1/data/of/{segment}/reports");
        let token = format!("Bearer {}", world.token(&claims));
        for method in ["GET", "HEAD", "DELETE"] {
            let request = [(":method", method), (":path", &*path), ("authorization", &*token)];
            assert_eq!(world.decide(&request), expected, "{method} {path} by {claims}");
        }
    }
}

#[test]
fn a_header_names_the_callers_own_organisation_once_or_is_refused() {
    let mut world = world();
    let bearer = format!("Bearer {}", world.token(&claims("globex")));
    let malformed = "400 malformed_tenant";
    let name = "x-organisation-id";
    for (named, expected) in [
        (&[(name, "globex")][..], "module data"),
        (&[(name, "initech")], "403 cross_tenant"),
        (&[], malformed),
        (&[(name, "")], malformed),
        (&[(name, "globex"), (name, "globex")], malformed),
        (&[(name, "globex"), (name, "initech")], malformed),
        (&[(name, "globex,initech")], malformed),
        (&[(name, "globex, globex")], malformed),
        (&[("x_organisation_id", "globex")], malformed),
        (&[(name, "globex"), ("x_organisation-id", "initech")], malformed),
        (&[("x_organisation_id", "initech"), (name, "globex")], malformed),
        (&[(name, "globex"), ("x-organisation-idx", "initech")], "module data"),
    ] {
        let mut request = vec![(":method", "GET"), (":path", "/api/v1/modules/v1/data/mine")];
        request.extend([("authorization", &*bearer)]);
        request.extend(named);
        assert_eq!(world.decide(&request), expected, "{named:?}");
    }
}

#[test]
fn an_outsider_learns_neither_of_permissions_nor_of_flags() {
    let mut world = world();
    let secret = "/api/v1/modules/v1/data/of/globex/secret";
    assert_eq!(world.decide(&[(":method", "GET"), (":path", secret)]), "401 missing_token");
    let token = |world: &World, organisation: &str, permissions: &str| {
        let mut claims = claims(organisation);
        claims["permissions"] = permissions.into();
        world.token(&claims)
    };
    for (organisation, permissions, expected) in [
        ("initech", "read", "403 cross_tenant"),
        ("initech", "", "403 cross_tenant"),
        ("globex", "", "403 missing_permission"),
        ("globex", "read", "403 flag_off"),
    ] {
        let token = token(&world, organisation, permissions);
        assert_eq!(world.get("/v1/data/of/globex/secret", &token), expected, "{organisation} {permissions}");
    }
}

#[test]
fn a_route_says_otherwise_than_its_module() {
    let mut world = world();
    let token = world.token(&claims("globex"));
    assert_eq!(world.get("/v1/data/shared", &token), "module data");
    assert_eq!(world.get("/v1/data/mine", &token), "400 malformed_tenant");
}

#[test]
fn what_cannot_be_compared_is_refused_by_name() {
    let compiled = |route: Value| {
        let mut policy = sound();
        set(&mut policy, "/modules/0/tenant", json!({"path": "organisation"}));
        set(&mut policy, "/modules/0/routes/0", route);
        set(&mut policy, "/modules/1/namespace", json!("other"));
        problems(&policy)
    };
    let place = "modules[one].routes[0].tenant: ";
    for (route, expected) in [
        (json!({"path": "/a/{id}"}), "the pattern `/a/{id}` has no parameter `{organisation}`"),
        (json!({"path": "/{*organisation}"}), "has no parameter `{organisation}`"),
        (
            json!({"path": "/{*rest}", "tenant": {"path": "*rest"}}),
            "has no parameter `{*rest}` of one segment",
        ),
        (
            json!({"path": "/{organisation}", "auth": {"level": "none"}}),
            "the level `none` verifies no organisation",
        ),
        (
            json!({"path": "/a", "auth": {"level": "none"}, "tenant": {"header": "x-org"}}),
            "the level `none` verifies no organisation",
        ),
        (json!({"path": "/a", "tenant": {"header": "authorization"}}), "has another meaning"),
        (json!({"path": "/a", "tenant": {"header": "x-rampart-organisation"}}), "has another meaning"),
        (json!({"path": "/a", "tenant": {"header": ":path"}}), "a header's name is"),
    ] {
        let problems = compiled(route.clone());
        let named = |problem: &String| problem.starts_with(place) && problem.contains(expected);
        assert!(problems.iter().any(named), "{route}: {problems:#?}");
    }
    for route in [
        json!({"path": "/a/{organisation}"}),
        json!({"path": "/a", "tenant": "any"}),
        json!({"path": "/a", "tenant": "any", "auth": {"level": "none"}}),
        json!({"path": "/a", "tenant": {"header": "x-org"}}),
    ] {
        assert_eq!(compiled(route.clone()), Vec::<String>::new(), "{route}");
    }
    // A module without routes has one for everything, which names no organisation.
    let mut policy = sound();
    set(&mut policy, "/modules/0/tenant", json!({"path": "organisation"}));
    set(&mut policy, "/modules/0/routes", json!([]));
    assert!(problems(&policy).iter().any(|problem| problem.contains("`/{*path}` has no parameter")));
}

#[test]
fn a_refused_caller_is_told_in_rfc_6750s_terms() {
    use rampart_engine::decision::{Reason, Refusal};
    let reply = Refusal::new(Reason::CrossTenant).reply();
    assert!(reply.headers.contains(&("www-authenticate", "Bearer error=\"insufficient_scope\"".into())));
    assert_eq!((reply.status, Reason::CrossTenant.grpc_status()), (403, 7));
    let reply = Refusal::malformed_tenant("x-org").reply();
    assert!(reply.body.contains("in the header x-org\""), "{}", reply.body);
    assert_eq!((reply.status, Reason::MalformedTenant.grpc_status()), (400, 3));
}
