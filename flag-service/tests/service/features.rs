//! Flags as plain switches, everything off at once, and what the service says of itself.

use serde_json::{Value, json};

use crate::support::{Answer, Service, answer};

async fn switch(service: &Service, name: &str, body: Value) -> Answer {
    answer(service.request("PUT", &format!("/api/v1/features/{name}")).json(&body)).await
}

async fn everything(service: &Service, path: &str, condition: Option<&str>) -> Answer {
    let request = service.request("POST", path).json(&json!({"reason": "emergency_rollback"}));
    answer(if let Some(tag) = condition { request.header("if-match", tag) } else { request }).await
}

async fn value(service: &Service, key: &str) -> Value {
    service.get(&format!("/api/v1/flags/{key}/explain?organisation=acme")).await.ok()["value"].clone()
}

#[tokio::test]
async fn features_have_the_shape_that_is_given() {
    let service = Service::start().await;
    assert_eq!(service.get("/api/v1/features").await.ok()["last_updated"], json!(null));
    service.flag("RETRY_LOGIC_ENABLED", 25).await;
    service.send("PUT", "/api/v1/flags/off", &json!({"enabled": false, "percentage": 100})).await.ok();
    let features = service.get("/api/v1/features").await.ok();
    assert_eq!(features["version"], "1.1.0");
    let updated: jiff::Timestamp = features["last_updated"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(updated).as_secs() < 60);
    let expected = json!({
        "enabled": true, "percentage": 25, "killed": false, "safety": false, "description": "",
        "organisations": {"on": [], "off": []},
    });
    assert_eq!(features["flags"]["RETRY_LOGIC_ENABLED"], expected);
    let flags = service.get("/api/v1/features?format=bool").await.ok()["flags"].clone();
    assert_eq!(flags, json!({"RETRY_LOGIC_ENABLED": true, "off": false}));
    service.get("/api/v1/features?format=yes").await.problem(400);
}

#[tokio::test]
async fn a_feature_is_switched_by_any_spelling_of_its_name() {
    let service = Service::start().await;
    service.flag("RETRY_LOGIC_ENABLED", 0).await;
    for (name, enabled) in [
        ("RETRY_LOGIC_ENABLED", false),
        ("retry_logic_enabled", true),
        ("MESSAGING_RETRY_LOGIC", false),
        ("messaging_retry_logic_enabled", true),
    ] {
        let said = switch(&service, name, json!({"enabled": enabled})).await.ok();
        assert_eq!(json!([said["flag"], said["enabled"]]), json!(["RETRY_LOGIC_ENABLED", enabled]), "{name}");
        said["updated_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    for name in ["RETRY_LOGIC", "MESSAGING_", "nobody"] {
        let unknown = switch(&service, name, json!({"enabled": true})).await;
        assert_eq!((unknown.status, unknown.body), (400, json!({"error": "Invalid feature flag"})), "{name}");
    }
    // Two names that differ by their letters' size only: neither is meant.
    service.flag("a", 0).await;
    service.flag("A", 0).await;
    switch(&service, "A", json!({"enabled": true})).await.ok();
    service.flag("bb", 0).await;
    service.flag("bB", 0).await;
    assert_eq!(switch(&service, "BB", json!({"enabled": true})).await.status, 400);
}

#[tokio::test]
async fn to_switch_on_never_means_everybody() {
    let service = Service::start().await;
    service.flag("f", 0).await;
    let said = switch(&service, "f", json!({"enabled": true})).await.ok();
    assert_eq!(json!([said["enabled"], said["percentage"]]), json!([true, 0]));
    assert_eq!(value(&service, "f").await, false);
    let more = json!({"percent": 12.5, "overrides": {"on": ["acme"]}, "reason": "a pilot"});
    let said = switch(&service, "f", more).await.ok();
    assert_eq!(json!([said["percentage"], said["applied"]]), json!([12.5, true]));
    assert_eq!(value(&service, "f").await, true);
    let newest = service.get("/api/v1/history?limit=1").await.ok()["changes"][0].clone();
    assert_eq!(newest["reason"], "a pilot");
    switch(&service, "f", json!({})).await.problem(422);
    switch(&service, "f", json!({"percent": 130})).await.problem(422);
    switch(&service, "f", json!({"enabled": true, "percentge": 5})).await.problem(422);
    // A kill is taken back on purpose only.
    answer(service.request("POST", "/api/v1/flags/f/kill")).await.ok();
    let refused = switch(&service, "f", json!({"enabled": true})).await.problem(409);
    assert!(refused["detail"].as_str().unwrap().contains("/api/v1/flags/f/restore"), "{refused}");
    switch(&service, "f", json!({"enabled": false})).await.ok();
    // A tag is honoured by whoever knows of them.
    let old = service.request("PUT", "/api/v1/features/f").json(&json!({"percent": 5}));
    answer(old.header("if-match", "\"old\"")).await.problem(409);
}

#[tokio::test]
async fn everything_is_off_at_once_and_comes_back_as_it_was() {
    let service = Service::start().await;
    let all = json!({"percentage": 100});
    for key in ["a", "b", "c", "killed"] {
        service.send("PUT", &format!("/api/v1/flags/{key}"), &all).await.ok();
    }
    service.send("PUT", "/api/v1/flags/guard", &json!({"percentage": 100, "safety": true})).await.ok();
    answer(service.request("POST", "/api/v1/flags/killed/kill")).await.ok();
    let before = service.writer.head();
    answer(service.request("POST", "/disable-all").json(&json!({"reason": " "}))).await.problem(422);
    answer(service.request("POST", "/disable-all").json(&json!({}))).await.problem(422);

    let said = everything(&service, "/disable-all", None).await.ok();
    assert_eq!(json!([said["flags"], said["kept"]]), json!([["a", "b", "c"], ["guard"]]));
    assert_eq!(said["revision"], before.revision + 1);
    for (key, on) in [("a", false), ("b", false), ("c", false), ("killed", false), ("guard", true)] {
        assert_eq!(value(&service, key).await, on, "{key}");
    }
    // A filter is not told what it does not look at.
    let policy = service.get("/api/v1/policy").await.ok();
    assert!(policy["flags"].as_array().unwrap().iter().all(|flag| flag.get("safety").is_none()), "{policy}");

    // What is changed since stays: one restored, one killed by name, one at another percentage.
    answer(service.write("POST", "/api/v1/flags/a/restore").await).await.ok();
    answer(service.request("POST", "/api/v1/flags/b/kill")).await.ok();
    service.send("PATCH", "/api/v1/flags/c", &json!({"percentage": 60})).await.ok();
    // A settings document from before does not make it forget.
    service.send("PUT", "/api/v1/settings", &json!({"default": "deny"})).await.ok();
    everything(&service, "/disable-all", None).await.ok();
    everything(&service, "/restore", None).await.problem(428);
    let tried =
        answer(service.request("POST", "/restore?dry_run=true").json(&json!({"reason": "try"}))).await.ok();
    assert_eq!(json!([tried["applied"], tried["flags"]]), json!([false, ["a", "c"]]));
    let said = everything(&service, "/restore", Some("*")).await.ok();
    assert_eq!(said["flags"], json!(["a", "c"]));
    let head = service.writer.head();
    let killed: Vec<_> = head.state.flags.values().filter(|flag| flag.killed).map(|flag| &flag.key).collect();
    assert_eq!(killed, ["b", "killed"]);
    assert_eq!(head.state.flags["c"].percentage.thousandths(), 60_000);
    assert!(head.state.settings.disabled.is_empty());
    let again = everything(&service, "/restore", Some("*")).await.ok();
    assert_eq!(again["summary"], "nothing to change");
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_nothing_a_client_names() {
    let service = Service::start().await;
    answer(service.request("PUT", "/api/v1/flags/f").json(&json!({"percentage": 5}))).await.ok();
    service.get("/api/v1/flags/acme-secret").await.problem(404);
    service.get("/acme-secret").await.problem(404);
    answer(service.request("ACME", "/acme-secret")).await.problem(404);
    answer(service.request("PATCH", "/api/v1/flags/f").json(&json!({}))).await.problem(428);
    let metrics = service.request("GET", "/metrics").send().await.unwrap();
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text().await.unwrap();
    for line in [
        "rampart_revision 1",
        "rampart_changes_total 1",
        "rampart_refused_writes_total{reason=\"unconditional\"} 1",
        "rampart_api_requests_total{method=\"GET\",route=\"/api/v1/flags/{key}\",status=\"404\"} 1",
        "rampart_api_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "rampart_api_requests_total{method=\"other\",route=\"none\",status=\"404\"} 1",
        "rampart_envoys_connected 0",
        "rampart_xds_nacks_total 0",
        "rampart_store_commit_seconds_count 1",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in {text}");
    }
    assert!(!text.contains("acme") && !text.contains("ACME"), "{text}");
    let number = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    };
    assert!(number("process_resident_memory_bytes") > 1e6);
    assert!(number("process_cpu_seconds_total") > 0.0);
    assert!(number("process_open_fds") > 3.0);
    assert!(number("process_start_time_seconds") > 1.7e9);
}

#[tokio::test]
async fn the_module_system_and_its_envoys_are_told_at_a_glance() {
    let service = Service::start().await;
    service.module("m", json!({})).await.ok();
    service.module("n", json!({"version": "v2"})).await.ok();
    let info = service.get("/modules/system/info").await.ok();
    assert_eq!(info["modules"], json!({"registered": 2, "by_version": {"v1": 1, "v2": 1}}));
    assert_eq!(json!([info["revision"], info["envoys"]]), json!([2, {}]));
    assert_eq!(service.get("/api/v1/envoys").await.ok(), json!({"envoys": [], "revision": 2}));
}

#[tokio::test]
async fn the_command_switches_everything_off_and_back() {
    let service = Service::start().await;
    for key in ["a", "b"] {
        service.flag(key, 100).await;
    }
    service.send("PUT", "/api/v1/flags/guard", &json!({"percentage": 100, "safety": true})).await.ok();
    for command in ["disable-all", "restore-all"] {
        let refused = service.run(&[command]).await;
        let why = "error: reason: say why, for those who come after\n";
        assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), why), "{command}");
    }
    let because = ["--reason", "it burns"];
    let dry = ["--reason", "it burns", "--dry-run"];
    let disabled = "2 flags are killed: a, b\nleft alone, for safety: guard\n";
    let tried = format!("not applied, tried at revision 3: {disabled}");
    service.prints(&[&["disable-all"][..], &dry].concat(), &tried).await;
    service.prints(&[&["disable-all"][..], &because].concat(), &format!("revision 4: {disabled}")).await;
    assert_eq!(value(&service, "a").await, false);
    assert_eq!(value(&service, "guard").await, true);
    service.run(&["flag", "restore", "b"]).await;
    let restored = "1 flag is restored: a\n";
    let tried = format!("not applied, tried at revision 5: {restored}");
    service.prints(&[&["restore-all"][..], &dry].concat(), &tried).await;
    service.prints(&[&["restore-all"][..], &because].concat(), &format!("revision 6: {restored}")).await;
    assert_eq!(value(&service, "a").await, true);
    service.prints(&[&["restore-all"][..], &because].concat(), "revision 6: no flag is restored\n").await;
    let history = service.json(&["history", "--output", "json", "--limit", "1"]).await;
    assert_eq!(history["changes"][0]["reason"], "it burns");
}

#[tokio::test]
async fn the_command_says_where_no_envoy_is() {
    let service = Service::start().await;
    let none = "no Envoy has been connected to this flag service since it started\n";
    service.prints(&["envoys"], none).await;
    let envoys = service.json(&["envoys", "--output", "json"]).await;
    assert_eq!(envoys, json!({"envoys": [], "revision": 0}));
}
