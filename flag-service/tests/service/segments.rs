//! Lists of organisations that flags name: resolved for filters, told by explain, kept while in use.

use serde_json::json;

use crate::support::{Service, answer};

#[tokio::test]
async fn a_flag_names_a_segment_and_filters_see_its_members() {
    let service = Service::start().await;
    let pilots = "/api/v1/segments/pilots";
    service.send("PUT", pilots, &json!({"organisations": ["acme", "wayne"]})).await.ok();
    let flag = json!({"organisations": {"on": ["segment:pilots", "stark"], "off": ["wayne"]}});
    service.send("PUT", "/api/v1/flags/f", &flag).await.ok();
    let policy = service.get("/api/v1/policy").await.ok();
    assert_eq!(policy["flags"][0]["organisations"]["on"], json!(["acme", "wayne", "stark"]));
    // As it was written, so it is kept.
    assert_eq!(service.get("/api/v1/flags/f").await.ok()["organisations"], flag["organisations"]);
    let why = async |organisation: &str| {
        let path = format!("/api/v1/flags/f/explain?organisation={organisation}");
        let said = service.get(&path).await.ok();
        json!([said["value"], said["why"]])
    };
    assert_eq!(why("acme").await, json!([true, "organisation `acme` is named `on`, by segment `pilots`"]));
    assert_eq!(why("wayne").await, json!([false, "organisation `wayne` is named `off`"]));
    assert_eq!(why("stark").await, json!([true, "organisation `stark` is named `on`"]));
    // Who joins the segment has the flag, until it counts no longer.
    service.send("PUT", pilots, &json!({"organisations": ["acme", "initech"]})).await.ok();
    assert_eq!(why("initech").await[0], true);
    let ended = json!({"organisations": {"on": [{"name": "segment:pilots", "until": 1}]}});
    service.send("PATCH", "/api/v1/flags/f", &ended).await.ok();
    assert_eq!(why("initech").await[0], false);
}

#[tokio::test]
async fn a_segment_in_use_stays_and_one_that_is_not_there_is_not_named() {
    let service = Service::start().await;
    let named = json!({"organisations": {"off": ["acme", "segment:pilots"]}});
    let refused = service.send("PUT", "/api/v1/flags/f", &named).await;
    refused.refuses("organisations.off[1]", "there is no segment `pilots`");
    service.send("PUT", "/api/v1/segments/pilots", &json!({"organisations": []})).await.ok();
    service.send("PUT", "/api/v1/flags/f", &named).await.ok();
    let gone = answer(service.write("DELETE", "/api/v1/segments/pilots").await).await.problem(422);
    assert_eq!(gone["errors"][0]["field"], "flags[f].organisations.off[1]");
    let subject =
        service.send("PATCH", "/api/v1/flags/f", &json!({"subjects": {"on": ["segment:pilots"]}})).await;
    subject.refuses("subjects.on[0]", "a segment is of organisations");
    service.send("PATCH", "/api/v1/flags/f", &json!({"organisations": null})).await.ok();
    answer(service.write("DELETE", "/api/v1/segments/pilots").await).await.ok();
    service.get("/api/v1/segments/pilots").await.problem(404);
    answer(service.write("POST", "/api/v1/revert/2").await).await.ok();
    assert_eq!(service.get("/api/v1/segments").await.ok()["segments"][0]["name"], "pilots");
}

#[tokio::test]
async fn the_command_makes_changes_and_removes_segments() {
    let service = Service::start().await;
    let set = async |arguments: &[&str], said: &str| {
        service.prints(&[&["segment", "set", "pilots"], arguments].concat(), said).await;
    };
    set(&["--add", "acme,wayne", "--description", "who dares"], "revision 1: segment pilots added\n").await;
    let added = "revision 2: segment pilots: organisations + stark - acme\n";
    set(&["--add", "stark,wayne", "--remove", "acme"], added).await;
    let list = "NAME    ORGANISATIONS  DESCRIPTION\npilots  2              who dares\n";
    service.prints(&["segment", "list"], list).await;
    let segment = json!({"name": "pilots", "description": "who dares", "organisations": ["wayne", "stark"]});
    assert_eq!(service.json(&["segment", "get", "pilots", "--output", "json"]).await, segment);
    // A file replaces the list, and what is not named stays.
    let file = service.file("pilots.txt", "initech\n\n  acme \r\n");
    let replaced = "segment pilots: organisations + acme + initech - stark - wayne\n";
    let tried = format!("not applied, tried at revision 2: {replaced}");
    set(&["--organisations", &file, "--dry-run"], &tried).await;
    set(&["--organisations", &file], &format!("revision 3: {replaced}")).await;
    set(&["--add", "acme"], "revision 3: nothing to change\n").await;
    service.flag("f", 0).await;
    service
        .prints(
            &["flag", "set", "f", "--on", "segment:pilots"],
            "revision 5: flag f: organisations.on + segment:pilots\n",
        )
        .await;
    let delete = ["segment", "delete", "pilots"];
    let refused = service.run(&delete).await;
    let there_is_none = "error: flags[f].organisations.on[0]: there is no segment `pilots`\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), there_is_none));
    service.run(&["flag", "set", "f", "--on", ""]).await;
    service.prints(&delete, "revision 7: segment pilots removed\n").await;
    for command in ["get", "delete"] {
        let missing = service.run(&["segment", command, "pilots"]).await;
        assert_eq!(
            (missing.code, missing.stderr.as_str()),
            (Some(1), "error: there is no segment `pilots`\n")
        );
    }
    let unread = service.run(&["segment", "set", "pilots", "--organisations", "nowhere.txt"]).await;
    assert_eq!(unread.code, Some(1));
    assert!(unread.stderr.starts_with("error: nowhere.txt: "), "{}", unread.stderr);
}
