//! Who joins and who leaves, and one organisation or subject across all flags.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::command::command;
use crate::support::{Answer, Service, answer};

async fn preview(service: &Service, key: &str, body: Value) -> Answer {
    answer(service.request("POST", &format!("/api/v1/flags/{key}/preview")).json(&body)).await
}

async fn name(service: &Service, path: &str, body: Value) -> Answer {
    answer(service.request("PATCH", path).json(&body)).await
}

/// Whether each organisation is on, as the engine says.
async fn on(service: &Service, key: &str, organisations: &[String]) -> Vec<bool> {
    let mut found = Vec::new();
    for organisation in organisations {
        let path = format!("/api/v1/flags/{key}/explain?organisation={organisation}");
        found.push(service.get(&path).await.ok()["value"] == true);
    }
    found
}

#[tokio::test]
async fn a_preview_is_what_happens() {
    let service = Service::start().await;
    let organisations: Vec<String> = (0..60).map(|number| format!("org-{number:02}")).collect();
    let flag = json!({"percentage": 25, "organisations": {"off": ["org-07"], "on": ["named"]}});
    service.send("PUT", "/api/v1/flags/f", &flag).await.ok();
    service
        .send("PUT", "/api/v1/flags/asks", &json!({"percentage": 100, "prerequisites": [{"flag": "f"}]}))
        .await
        .ok();
    service.flag("other", 50).await;
    let before = on(&service, "f", &organisations).await;
    let patch = json!({"percentage": 60, "organisations": {"off": [], "on": null}});
    let said = preview(&service, "f", json!({"patch": patch, "organisations": organisations})).await.ok();
    assert_eq!(service.writer.head().revision, 3, "nothing is changed");
    service.send("PATCH", "/api/v1/flags/f", &patch).await.ok();
    let after = on(&service, "f", &organisations).await;
    let moved = |from: bool, to: bool| -> Vec<&String> {
        let all = organisations.iter().zip(before.iter().zip(&after));
        all.filter(|(_, (was, is))| (**was, **is) == (from, to)).map(|(name, _)| name).collect()
    };
    let (joins, leaves) = (moved(false, true), moved(true, false));
    assert!(joins.len() > 10 && leaves.is_empty(), "{joins:?} {leaves:?}");
    // Flag by flag: itself, what asks it, and nothing else.
    let flags = said["flags"].as_array().unwrap();
    assert_eq!(flags.iter().map(|flag| &flag["flag"]).collect::<Vec<_>>(), ["f", "asks"]);
    let on_before = before.iter().filter(|on| **on).count() + 1;
    for flag in flags {
        let expected = json!([joins, joins.len(), on_before]);
        let told: Vec<_> =
            flag["joins"].as_array().unwrap().iter().filter(|name| **name != "named").collect();
        assert_eq!(json!([told, told.len(), flag["on_before"]]), expected);
        // `named` was on by name only.
        assert_eq!(flag["leaves"], json!(["named"]));
    }
    assert_eq!(said["organisations"], 61);
    assert!(said["summary"].as_str().unwrap().contains("percentage 25 → 60"), "{said}");
    let sentence = flags[0]["summary"].as_str().unwrap();
    assert!(sentence.ends_with(&format!("{} join, 1 leave", joins.len())), "{sentence}");

    preview(&service, "nobody", json!({"patch": {}})).await.problem(404);
    preview(&service, "f", json!({"patch": {"percentage": 130}}))
        .await
        .refuses("percentage", "130 is not a percentage: 0 to 100 is allowed");
    let many: Vec<String> = (0..100_001).map(|number| number.to_string()).collect();
    preview(&service, "f", json!({"patch": {}, "organisations": many})).await.problem(422);
}

#[tokio::test]
async fn an_organisation_is_told_what_it_gets_from_every_flag_and_named_in_many_at_once() {
    let service = Service::start().await;
    service.send("PUT", "/api/v1/flags/a", &json!({"organisations": {"off": ["acme", "wayne"]}})).await.ok();
    service.flag("b", 0).await;
    service.flag("c", 100).await;
    let until = 99_999_999_999_u64;
    let wanted =
        json!({"flags": {"a": null, "b": true, "c": {"value": false, "until": until}}, "reason": "a pilot"});
    let said = name(&service, "/api/v1/organisations/acme", wanted).await.ok();
    assert_eq!(said["revision"], 4, "one revision");
    let told = service.get("/api/v1/organisations/acme").await.ok();
    assert_eq!(told["flags"], said["flags"]);
    let row = |index: usize| {
        let flag = &told["flags"][index];
        json!([flag["flag"], flag["value"], flag["named"], flag["why"]])
    };
    assert_eq!(row(0)[2], json!(null));
    let named = |value: bool, until: Value| json!({"value": value, "until": until});
    assert_eq!(row(1), json!(["b", true, named(true, json!(null)), "organisation `acme` is named `on`"]));
    assert_eq!(row(2), json!(["c", false, named(false, json!(until)), "organisation `acme` is named `off`"]));
    // The others who are named there stay.
    assert_eq!(service.get("/api/v1/flags/a").await.ok()["organisations"]["off"], json!(["wayne"]));
    let newest = service.get("/api/v1/history?limit=1").await.ok()["changes"][0].clone();
    assert_eq!(json!([newest["reason"], newest["edits"].as_array().unwrap().len()]), json!(["a pilot", 3]));
    // All of it or nothing.
    name(&service, "/api/v1/organisations/acme", json!({"flags": {"b": null, "nobody": true}}))
        .await
        .problem(404);
    name(&service, "/api/v1/organisations/acme", json!({"flags": {}})).await.problem(422);
    name(&service, "/api/v1/organisations/acme", json!({"flags": {"b": "yes"}})).await.problem(422);
    assert_eq!(service.writer.head().revision, 4);
}

#[tokio::test]
async fn a_subject_is_named_before_its_organisation() {
    let service = Service::start().await;
    service.flag("f", 100).await;
    let off = json!({"flags": {"f": false}});
    name(&service, "/api/v1/subjects/eve@acme", off).await.ok();
    let told = service.get("/api/v1/subjects/eve@acme?with=acme").await.ok();
    assert_eq!(told["flags"][0]["why"], "subject `eve@acme` is named `off`");
    let told = service.get("/api/v1/organisations/acme?with=adam").await.ok();
    assert_eq!(json!([told["flags"][0]["value"], told["flags"][0]["subject"]]), json!([true, "adam"]));
    service.get("/api/v1/organisations/acme?wiht=adam").await.problem(400);
}

#[tokio::test]
async fn the_command_previews_who_joins_and_who_leaves() {
    let service = Service::start().await;
    let flag = json!({"percentage": 0, "organisations": {"on": ["named"]}});
    service.send("PUT", "/api/v1/flags/f", &flag).await.ok();
    let names: String = (0..30).map(|number| format!("org-{number:02}\n")).collect();
    let file = service.file("names.txt", &names);
    let preview = ["flag", "preview", "f", "--percentage", "100", "--on", "", "--organisations", &file];
    let said = service.run(&preview).await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{}", said.stdout);
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], "at revision 1: flag f: organisations.on - named, percentage 0 → 100");
    assert_eq!(lines[1], "f: 1 of 31 organisations are on, then 31: 30 join, 0 leave");
    assert!(
        lines[2].starts_with("  + org-00, org-01, ") && lines[2].ends_with(", org-19 and 10 more"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 3, "{lines:?}");
    let off = service.run(&["flag", "preview", "f", "--off", "named"]).await.stdout;
    assert!(off.ends_with("0 join, 1 leave\n  - named\n"), "{off}");
    // The same by stdin, and whole for programs.
    let arguments =
        ["flag", "preview", "f", "--percentage", "100", "--organisations", "-", "--output", "json"];
    let mut command = command(service.dir.path(), &service.url, &arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(names.as_bytes()).await.unwrap();
    let whole: Value = serde_json::from_slice(&child.wait_with_output().await.unwrap().stdout).unwrap();
    assert_eq!(whole["flags"][0]["joins"].as_array().unwrap().len(), 30);
    let refused = service.run(&["flag", "preview", "f", "--percentage", "130"]).await;
    let why = "error: percentage: 130 is not a percentage: 0 to 100 is allowed\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), why));
    assert_eq!(service.revision(), 1, "nothing is changed");
}

#[tokio::test]
async fn the_command_shows_and_names_an_organisation_across_flags() {
    let service = Service::start().await;
    service.send("PUT", "/api/v1/flags/a", &json!({"organisations": {"off": ["acme"]}})).await.ok();
    service.flag("b", 0).await;
    service.flag("c", 100).await;
    let name = ["organisation", "name", "acme", "--on", "b", "--off", "c", "--until", "2100-01-01T00:00:00Z"];
    let tried = service.run(&[&name[..], &["--dry-run"]].concat()).await;
    assert!(tried.stdout.starts_with("not applied, tried at revision 3: flag b: "), "{}", tried.stdout);
    let named = service.run(&name).await;
    assert_eq!(named.code, Some(0), "{}", named.stderr);
    service
        .prints(
            &["organisation", "name", "acme", "--forget", "a"],
            "revision 5: flag a: organisations.off - acme\n",
        )
        .await;
    let why = "organisation `acme` is named";
    let shown = format!(
        "FLAG  VALUE  NAMED                           WHY\n\
         a     off                                    bucket {bucket} of 100, the flag is at 0 %\n\
         b     on     on until 2100-01-01T00:00:00Z   {why} `on`\n\
         c     off    off until 2100-01-01T00:00:00Z  {why} `off`\n",
        bucket = service.get("/api/v1/flags/a/explain?organisation=acme").await.ok()["bucket"],
    );
    service.prints(&["organisation", "show", "acme"], &shown).await;
    service
        .prints(&["subject", "name", "eve", "--off", "c"], "revision 6: flag c: subjects.off + eve\n")
        .await;
    let eve = service.run(&["subject", "show", "eve", "--with", "wayne"]).await.stdout;
    assert!(eve.contains("subject `eve` is named `off`"), "{eve}");
    for (arguments, code, complaint) in [
        (&["--on", "b", "--off", "b"][..], 1, "error: the flag `b` is there twice\n"),
        (&["--on", "nobody"], 1, "error: there is no flag `nobody`\n"),
        (&["--on", "b", "--until", "tomorrow"], 2, "a time with its zone is expected"),
        (&[], 2, "<--on <FLAG>|--off <FLAG>|--forget <FLAG>>"),
    ] {
        let refused = service.run(&[&["subject", "name", "eve"], arguments].concat()).await;
        assert_eq!(refused.code, Some(code), "{arguments:?}");
        assert!(refused.stderr.contains(complaint), "{}", refused.stderr);
    }
    assert_eq!(service.revision(), 6);
}
