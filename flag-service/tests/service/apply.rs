//! Many resources as one change: all of them or none, and nothing in passing.

use serde_json::{Value, json};

use crate::support::{Answer, Service, answer};

impl Service {
    async fn apply(&self, body: Value) -> Answer {
        answer(self.request("POST", "/api/v1/apply").json(&body).header("if-match", "*")).await
    }
}

fn resources() -> Value {
    json!([
        {"kind": "settings", "legacy": ["127.0.0.1:9000"]},
        {"kind": "segment", "name": "pilots", "organisations": ["acme"]},
        {"kind": "flag", "key": "checkout", "percentage": 25, "organisations": {"on": ["segment:pilots"]}},
        {"kind": "module", "id": "m", "endpoints": ["127.0.0.1:9001"], "auth": {"level": "none"},
         "gates": [{"flag": "checkout", "when_off": "legacy"}]},
    ])
}

#[tokio::test]
async fn many_resources_become_one_revision_and_the_same_ones_none() {
    let service = Service::start().await;
    let tried =
        service.send("POST", "/api/v1/apply?dry_run=true", &json!({"resources": resources()})).await.ok();
    assert_eq!(json!([tried["applied"], tried["revision"]]), json!([false, 0]));
    assert_eq!(tried["edits"].as_array().unwrap().len(), 4);
    assert_eq!(service.revision(), 0);
    let applied = service.apply(json!({"resources": resources()})).await.ok();
    assert_eq!((&applied["revision"], &applied["edits"]), (&json!(1), &tried["edits"]));
    let again = service.apply(json!({"resources": resources()})).await.ok();
    assert_eq!(json!([again["revision"], again["summary"]]), json!([1, "nothing to change"]));
}

#[tokio::test]
async fn one_that_makes_no_sense_keeps_all_from_being_set() {
    let service = Service::start().await;
    let mut sent = resources();
    sent[2]["percentage"] = json!(130);
    sent[3]["endpoints"] = json!(["here"]);
    let refused = service.apply(json!({"resources": sent})).await.problem(422);
    let fields: Vec<&str> =
        refused["errors"].as_array().unwrap().iter().filter_map(|error| error["field"].as_str()).collect();
    assert_eq!(fields, ["flags[checkout].percentage", "modules[m].endpoints[0]"]);
    for (sent, field) in [
        (json!([{"kind": "set", "name": "a"}]), "resources[0].kind"),
        (json!([{"kind": "flag"}]), "resources[0].key"),
        (json!([{"kind": "flag", "key": "a"}, {"kind": "flag", "key": "a"}]), "flags[a]"),
        (json!([]), "resources"),
    ] {
        let refused = service.apply(json!({"resources": sent})).await.problem(422);
        assert_eq!(refused["errors"][0]["field"], field, "{refused}");
    }
    assert_eq!(service.revision(), 0);
}

#[tokio::test]
async fn a_document_takes_back_no_kill_no_rollout_and_no_denial_in_passing() {
    let service = Service::start().await;
    let documents = json!({"resources": [
        {"kind": "flag", "key": "f", "killed": false}, {"kind": "settings", "default": "deny"}]});
    service.apply(documents.clone()).await.ok();
    let change = |method, path: &str, body: Value| {
        answer(service.request(method, path).json(&body).header("if-match", "*"))
    };
    change("PATCH", "/api/v1/flags/f", json!({"percentage": 40})).await.ok();
    change("POST", "/api/v1/flags/f/kill", json!({})).await.ok();
    let denied = json!({"default": "deny", "denied": {"subjects": ["eve"]}});
    change("PUT", "/api/v1/settings", denied).await.ok();
    let before = service.writer.head();
    assert_eq!(service.apply(documents).await.ok()["summary"], "nothing to change");
    assert_eq!(service.writer.head().state, before.state);
}

#[tokio::test]
async fn only_what_was_applied_under_the_name_is_pruned() {
    let service = Service::start().await;
    service.flag("by_hand", 5).await;
    let apply = async |keys: &[&str], set: &str, prune: bool| {
        let flags: Vec<Value> = keys.iter().map(|key| json!({"kind": "flag", "key": key})).collect();
        service.apply(json!({"resources": flags, "set": set, "prune": prune})).await
    };
    apply(&["a", "b", "c"], "team", false).await.ok();
    apply(&["c"], "others", false).await.ok();
    // Without pruning nothing goes, and the set still has what was not sent.
    assert_eq!(apply(&["a"], "team", false).await.ok()["summary"], "nothing to change");
    apply(&["a"], "team", true).await.ok();
    let keys = || service.writer.head().state.flags.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(), ["a", "by_hand", "c"], "by_hand is nobody's, and c is also the others'");
    answer(service.request("POST", "/api/v1/flags/a/kill")).await.ok();
    let refused = apply(&["c"], "team", true).await.problem(422);
    assert_eq!(refused["errors"][0]["field"], "flags[a]", "{refused}");
    assert_eq!(keys(), ["a", "by_hand", "c"]);
    let no_set = json!({"resources": [{"kind": "flag", "key": "a"}], "prune": true});
    service.apply(no_set).await.refuses("set", "name the set that is pruned");
}

#[tokio::test]
async fn what_was_compared_is_what_is_applied() {
    let service = Service::start().await;
    service.flag("f", 5).await;
    let apply = |tag: &'static str| {
        let body = json!({"resources": [{"kind": "flag", "key": "f", "percentage": 10}]});
        answer(service.request("POST", "/api/v1/apply").json(&body).header("if-match", tag))
    };
    apply("\"0\"").await.problem(409);
    assert_eq!(apply("\"1\"").await.ok()["revision"], 2);
}

#[tokio::test]
async fn what_is_exported_can_be_applied_elsewhere() {
    let (one, other) = (Service::start().await, Service::start().await);
    one.apply(json!({"resources": resources(), "set": "team"})).await.ok();
    let exported = one.get("/api/v1/export").await.ok();
    other.apply(json!({"resources": exported["resources"]})).await.ok();
    let (one, other) = (one.writer.head(), other.writer.head());
    assert_eq!((&one.state.flags, &one.state.modules), (&other.state.flags, &other.state.modules));
    assert_eq!((&one.state.segments, &one.state.settings), (&other.state.segments, &other.state.settings));
    assert!(other.state.sets.is_empty(), "which set has what is about the one service");
}

#[tokio::test]
async fn one_flag_goes_back_and_the_others_stay() {
    let service = Service::start().await;
    service.flag("f", 10).await;
    let change = |path: &'static str, percentage: u32| {
        let body = json!({ "percentage": percentage });
        answer(service.request("PATCH", path).json(&body).header("if-match", "*"))
    };
    change("/api/v1/flags/f", 20).await.ok();
    service.flag("g", 30).await;
    let back = |revision: u64| {
        let path = format!("/api/v1/flags/f/revert/{revision}");
        answer(service.request("POST", &path).header("if-match", "*"))
    };
    let reverted = back(1).await.ok();
    assert_eq!(json!([reverted["revision"], reverted["resource"]["percentage"]]), json!([4, 10]));
    assert_eq!(service.get("/api/v1/flags/g").await.ok()["percentage"], 30);
    back(9).await.problem(404);
}
