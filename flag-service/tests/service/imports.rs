//! What `rampart import` makes of other systems' flags, and the flagd definition that it takes back.

use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn a_definition_moves_from_one_service_to_another() {
    let (one, other) = (Service::start().await, Service::start().await);
    let flags = json!({
        // Its name comes before the one that it needs.
        "a": {"percentage": 100, "prerequisites": [{"flag": "b"}], "description": "What it is for."},
        "b": {"percentage": 12.5, "organisations": {"on": ["acme"]}},
    });
    for key in ["b", "a"] {
        one.send("PUT", &format!("/api/v1/flags/{key}"), &flags[key]).await.ok();
    }
    let definition = one.get("/api/v1/flagd").await;
    assert_eq!(definition.header("etag"), "\"2\"");
    let definition = definition.ok();
    let file = other.file("flags.json", &definition.to_string());
    let tried = other.run(&["import", "flagd", &file, "--dry-run"]).await;
    assert_eq!(
        (tried.stdout.as_str(), tried.stderr.as_str()),
        ("+ flag a added\n+ flag b added\nnot applied, tried at revision 0: 2 changes\n", "")
    );
    assert_eq!((tried.code, other.revision()), (Some(4), 0));
    let added = "+ flag a added\n+ flag b added\nrevision 1: 2 changes\n";
    other.prints(&["import", "flagd", &file], added).await;
    assert_eq!(other.get("/api/v1/flagd").await.ok(), definition);
    assert_eq!(other.writer.head().state.flags, one.writer.head().state.flags);

    let again = other.run(&["import", "flagd", &file]).await;
    assert_eq!(again.stderr, "error: these flags exist already: a, b; to change them, add --replace\n");
    other.flag("b", 50).await;
    let replaced = other.run(&["import", "flagd", &file, "--replace"]).await;
    assert!(replaced.stdout.contains("percentage 50 → 12.5"), "{}{}", replaced.stdout, replaced.stderr);
    other.prints(&["import", "flagd", &file, "--replace"], "revision 3: nothing to change\n").await;
}

#[tokio::test]
async fn what_is_not_as_it_was_is_told_and_nobody_gets_a_flag_by_it() {
    let service = Service::start().await;
    let rollout =
        json!([{"name": "flexibleRollout", "parameters": {"rollout": "25", "stickiness": "default"}}]);
    let file = service.file(
        "unleash.json",
        &json!({"version": 2, "features": [
            {"name": "checkout", "enabled": true, "strategies": rollout},
            {"name": "beta", "enabled": true, "strategies": [{"name": "remoteAddress"}]},
        ]})
        .to_string(),
    );
    let imported = service.run(&["import", "unleash", &file]).await;
    assert_eq!(imported.stdout, "+ flag checkout added\nrevision 1: 1 change\n");
    assert_eq!(
        imported.stderr,
        "note: checkout: Unleash hashes otherwise, and perhaps users: it is at 0 % instead of 25 %, unless re-bucketing \
         is accepted\nnote: beta: left out: it has a strategy `remoteAddress`\n"
    );
    let accepted = service.run(&["import", "unleash", &file, "--replace", "--accept-rebucketing"]).await;
    assert_eq!(accepted.stdout, "~ flag checkout: percentage 0 → 25\nrevision 2: 1 change\n");
}

#[tokio::test]
async fn an_import_that_cannot_be_made_whole_is_not_begun() {
    let service = Service::start().await;
    let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"});
    let file = service.file("flags.json", &json!({"flags": {"fine": flag, "not fine": flag}}).to_string());
    let refused = service.run(&["import", "flagd", &file]).await;
    assert!(refused.stderr.contains("flags[not fine].key: a key is"), "{}", refused.stderr);
    assert_eq!((refused.code, service.revision()), (Some(1), 0));
    let file = service.file("other.json", &json!({"features": []}).to_string());
    let refused = service.run(&["import", "flagd", &file]).await;
    assert!(refused.stderr.contains("flags: missing"), "{}", refused.stderr);
}
