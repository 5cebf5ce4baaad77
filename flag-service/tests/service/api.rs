//! What each endpoint answers, and the one shape of every refusal.

use serde_json::json;

use crate::support::{Service, answer};

#[tokio::test]
async fn a_write_answers_with_revision_summary_and_resource() {
    let service = Service::start().await;
    service.flag("new-checkout", 25).await;
    let answer = service.send("PATCH", "/api/v1/flags/new-checkout", &json!({"percentage": 12.5})).await;
    let body = answer.ok();
    assert_eq!(body["revision"], 2);
    assert_eq!(body["summary"], "flag new-checkout: percentage 25 → 12.5");
    assert_eq!(body["resource"]["percentage"], 12.5);
    assert_eq!(service.get("/api/v1/flags/new-checkout").await.ok(), body["resource"]);
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_refused_with_its_field() {
    let service = Service::start().await;
    let out_of_range = "130 is not a percentage: 0 to 100 is allowed";
    let flag = "/api/v1/flags/x";
    service.flag("x", 0).await;
    for method in ["PUT", "PATCH"] {
        service.send(method, flag, &json!({"percentage": 130})).await.refuses("percentage", out_of_range);
    }
    let body = service.send("PUT", flag, &json!({"percentge": 1})).await.problem(422);
    assert!(body["errors"][0]["problem"].as_str().unwrap().contains("unknown field `percentge`"), "{body}");
    service.send("PUT", flag, &json!({"key": "y"})).await.refuses("key", "the path says `x`");
    let module = service.module("m", json!({"endpoints": []})).await.problem(422);
    assert_eq!(module["errors"][0]["field"], "endpoints");
    let both = json!({"cluster": "theirs", "endpoints": ["127.0.0.1:9"]});
    let ours = json!({"cluster": "module/m/v1", "endpoints": []});
    let traffic = json!({"cluster": "theirs", "endpoints": [], "protocol": "http2"});
    for module in [both, ours, traffic] {
        let module = service.module("m", module).await.problem(422);
        assert_eq!(module["errors"][0]["field"], "cluster");
    }
    let module = service.module("m", json!({"endpoints": ["nowhere"]})).await.problem(422);
    assert_eq!(module["errors"][0]["field"], "endpoints[0]");
    assert_eq!(service.get("/api/v1/status").await.ok()["revision"], 1);
}

#[tokio::test]
async fn what_the_engine_refuses_names_the_field_within_the_resource() {
    let service = Service::start().await;
    let routes = json!({"routes": [{"path": "/a", "gates": [{"flag": "nobody", "when_off": "not_found"}]}]});
    let body = service.module("m", routes).await.problem(422);
    assert_eq!(body["errors"][0]["field"], "routes[0].gates[0].flag", "{body}");
    assert!(body["errors"][0]["problem"].as_str().unwrap().contains("nobody"), "{body}");
}

#[tokio::test]
async fn what_breaks_another_resource_names_that_resource() {
    let service = Service::start().await;
    service.flag("gate", 0).await;
    service.module("m", json!({"gates": [{"flag": "gate", "when_off": "not_found"}]})).await.ok();
    let body = answer(service.write("DELETE", "/api/v1/flags/gate").await).await.problem(422);
    assert_eq!(body["errors"][0]["field"], "modules[m].gates[0].flag", "{body}");
}

#[tokio::test]
async fn of_two_modules_that_claim_a_route_the_one_being_registered_is_to_blame() {
    let service = Service::start().await;
    let claim = |path: &str| json!({"namespace": "shared", "routes": [{"methods": ["GET"], "path": path}]});
    for (there, comes) in [("b", "a"), ("c", "d")] {
        let path = format!("/{there}/{{id}}");
        service.module(there, claim(&path)).await.ok();
        let problem = format!(
            "GET /api/v1/modules/v1/shared/{there}/{{other}} of module `{comes}` is claimed already by module \
             `{there}` (as `{path}`)"
        );
        let refused = service.module(comes, claim(&format!("/{there}/{{other}}"))).await;
        refused.refuses("routes[0].path", &problem);
    }
}

#[tokio::test]
async fn what_is_fallen_back_to_is_there_and_cannot_go() {
    let service = Service::start().await;
    let falling = json!({"fallback": "legacy", "health_check": {"tcp": {}}});
    let field = |answer: crate::support::Answer| answer.problem(422)["errors"][0]["field"].clone();
    assert_eq!(field(service.module("m", falling.clone()).await), "fallback");
    service.send("PUT", "/api/v1/settings", &json!({"legacy": ["127.0.0.1:9000"]})).await.ok();
    service.module("m", falling).await.ok();
    let cleared = service.send("PUT", "/api/v1/settings", &json!({"legacy": []})).await;
    assert_eq!(field(cleared), "modules[m].fallback");
}

#[tokio::test]
async fn an_effect_names_a_cluster_that_somebody_provides() {
    let service = Service::start().await;
    service.flag("f", 0).await;
    let to = |cluster: &str| json!({"effects": [{"flag": "f", "when_on": {"cluster": cluster}}]});
    let refusal = |answer: crate::support::Answer, word: &str| {
        let error = answer.problem(422)["errors"][0].clone();
        assert!(error["problem"].as_str().unwrap().contains(word), "{error}");
        error["field"].clone()
    };
    let field = refusal(service.module("a", to("own")).await, "there is no cluster `own`");
    assert_eq!(field, "effects[0].when_on.cluster");
    let mirror = json!([{"flag": "f", "when_on": {"mirror": {"cluster": "legacy"}}}]);
    let mirror = json!({"routes": [{"path": "/"}, {"path": "/a", "effects": mirror}]});
    let field = refusal(service.module("a", mirror.clone()).await, "there is no cluster `legacy`");
    assert_eq!(field, "routes[1].effects[0].when_on.mirror.cluster");

    // What the flag service pushes, and what the operator says the bootstrap defines.
    service.module("b", json!({"version": "v2"})).await.ok();
    service.module("a", to("module/b/v2")).await.ok();
    let settings = json!({"legacy": ["127.0.0.1:9000"], "clusters": ["own"]});
    service.send("PUT", "/api/v1/settings", &settings).await.ok();
    service.module("c", to("own")).await.ok();
    service.module("d", mirror).await.ok();

    // Who provides it does not go while it is named; both are told.
    let gone = answer(service.write("DELETE", "/api/v1/module-management/modules/b").await).await;
    assert_eq!(refusal(gone, "module `b` in version v2"), "modules[a].effects[0].when_on.cluster");
    let moved = service.module("b", json!({"version": "v3"})).await;
    assert_eq!(refusal(moved, "module/b/v2"), "modules[a].effects[0].when_on.cluster");
    let cleared = service.send("PUT", "/api/v1/settings", &json!({"legacy": ["127.0.0.1:9000"]})).await;
    assert_eq!(refusal(cleared, "own"), "modules[c].effects[0].when_on.cluster");
}

#[tokio::test]
async fn a_conflict_by_alias_names_alias_and_owner() {
    let service = Service::start().await;
    let routes = json!([{"methods": ["GET"], "path": "/users/{id}"}]);
    service.module("first", json!({"aliases": ["people"], "routes": routes})).await.ok();
    let body = service.module("people", json!({"routes": routes})).await.problem(422);
    assert_eq!(body["errors"][0]["field"], "routes[0].path");
    let problem = body["errors"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("by module `first` (as `/users/{id}`, alias `people`)"), "{problem}");
}

#[tokio::test]
async fn what_a_manifest_says_comes_back_and_reaches_the_policy() {
    let service = Service::start().await;
    let said = json!({
        "auth": {"level": "basic", "permissions": [], "roles": []},
        "aliases": ["sales"], "tenant": {"header": "x-organisation-id"}, "rewrite": {"prefix": "/internal"},
        "timeout_ms": 5000, "retry": {"on": ["reset"], "max_retries": 2, "per_try_timeout_ms": 1000},
        "routes": [{
            "methods": ["GET"], "path": "/of/{organisation}", "gates": [], "tenant": {"path": "organisation"},
            "timeout_ms": 7000, "retry": {"on": [], "max_retries": 1}
        }]
    });
    service.module("orders", said.clone()).await.ok();
    let registered = service.get("/api/v1/module-management/modules/orders").await.ok();
    let policy = service.get("/api/v1/policy").await.ok();
    for (member, value) in said.as_object().unwrap() {
        assert_eq!(&registered[member], value, "{member}");
        assert_eq!(&policy["modules"][0][member], value, "{member}");
    }
    // What is not said is not there, so that a policy without it can be read by a filter before this.
    service.module("orders", json!({})).await.ok();
    let registered = service.get("/api/v1/module-management/modules/orders").await.ok();
    for member in ["aliases", "tenant", "rewrite", "timeout_ms", "retry"] {
        assert!(registered.get(member).is_none(), "{member}");
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let service = Service::start().await;
    service.get("/nowhere").await.problem(404);
    service.get("/api/v1/flags/nobody").await.problem(404);
    service.get("/api/v1/flags/nobody/explain").await.problem(404);
    service.get("/api/v1/flags/%ff").await.problem(400);
    service.get("/api/v1/history?limit=many").await.problem(400);
    service.get("/api/v1/history?limit=0").await.problem(400);
    service.get("/api/v1/history?limt=1").await.problem(400);
    service.get("/api/v1/flags/new-checkout/explain?organization=acme").await.problem(400);
    // A misspelt wish to try must not become a change.
    let misspelt = service.send("PATCH", "/api/v1/flags/typo?dryrun=true", &json!({"percentage": 5})).await;
    misspelt.problem(400);
    service.flag("x", 0).await;
    let patch = |body: &'static str| service.request("PATCH", "/api/v1/flags/x").body(body);
    answer(patch("{")).await.problem(400);
    answer(patch("{}").header("if-match", "yesterday")).await.problem(400);
    answer(patch("[]").header("if-match", "*")).await.problem(422);
    answer(service.write("POST", "/api/v1/revert/99").await).await.problem(404);
    answer(service.write("POST", "/api/v1/revert/soon").await).await.problem(400);
    let large = " ".repeat((8 << 20) + 1);
    answer(service.request("PUT", "/api/v1/flags/x").body(large)).await.problem(413);
    let not_allowed = answer(service.request("POST", "/api/v1/flags")).await;
    assert_eq!(not_allowed.header("allow"), "GET,HEAD");
    not_allowed.problem(405);
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let service = Service::start().await;
    service.flag("f", 100).await;
    let kill = |origin: String| service.request("POST", "/api/v1/flags/f/kill").header("origin", origin);
    for origin in ["https://example.com", "null", "http://127.0.0.1:1"] {
        answer(kill(origin.to_owned())).await.problem(403);
    }
    assert_eq!(service.writer.head().revision, 1);
    answer(kill(service.url.clone())).await.ok();
}

#[tokio::test]
async fn history_says_who_why_and_what_newest_first_and_pages() {
    let service = Service::start().await;
    let kill = service.request("PUT", "/api/v1/flags/f").json(&json!({}));
    let kill = kill.header("x-rampart-actor", "amina").header("x-rampart-reason", "try it");
    answer(kill).await.ok();
    service.flag("f", 10).await;
    service.flag("f", 20).await;
    let page = service.get("/api/v1/history?limit=2").await.ok();
    assert_eq!(page["changes"][0]["summary"], "flag f: percentage 10 → 20");
    assert_eq!(page["changes"][0]["actor"], "key/local");
    assert_eq!(page["next"], 2);
    let page = service.get("/api/v1/history?limit=2&before=2").await.ok();
    let first = &page["changes"][0];
    let said = ["revision", "actor", "reason", "source", "address", "summary"].map(|member| &first[member]);
    assert_eq!(json!(said), json!([1, "key/local for amina", "try it", "api", "127.0.0.1", "flag f added"]));
    assert!(first["at_ms"].as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(page["next"], json!(null));
}

#[tokio::test]
async fn the_policy_is_what_was_set_up() {
    let service = Service::start().await;
    service.send("PUT", "/api/v1/settings", &json!({"legacy": ["[::1]:9000"]})).await.ok();
    service.module("analytics_core", json!({})).await.ok();
    let policy = service.get("/api/v1/policy").await;
    assert_eq!(policy.header("etag"), "\"2\"");
    let policy = policy.ok();
    assert_eq!(policy["revision"], 2);
    assert_eq!(policy["legacy_cluster"], "legacy");
    assert_eq!(policy["modules"][0]["namespace"], "analytics-core");
    assert_eq!(policy["modules"][0]["cluster"], "module/analytics_core/v1");
    let upstreams = &service.writer.head().published.upstreams;
    let named: Vec<_> = upstreams.iter().map(|upstream| upstream.cluster.as_str()).collect();
    assert_eq!(named, ["legacy", "module/analytics_core/v1"]);
}

#[tokio::test]
async fn a_private_key_is_refused_and_not_kept() {
    let service = Service::start().await;
    let jwk = json!({"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB", "d": "c2VjcmV0"});
    let provider = json!({"issuer": "https://issuer.example", "jwks": {"keys": [jwk]}});
    let body = service.send("PUT", "/api/v1/providers/main", &provider).await.problem(422);
    assert!(!body.to_string().contains("c2VjcmV0"), "{body}");
    assert_eq!(service.get("/api/v1/providers").await.ok()["providers"], json!([]));
}

#[tokio::test]
async fn health_and_readiness() {
    let service = Service::start().await;
    service.get("/health").await.ok();
    assert_eq!(service.get("/ready").await.ok()["revision"], 0);
}
