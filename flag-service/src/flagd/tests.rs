//! Golden tests: flags in, their definition out, and the same flags read back. `UPDATE_GOLDEN=1`
//! rewrites the files; read the difference before you commit it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::imported::{Import, Rebucketing};
use crate::model::Flag;

fn flags(sent: Value) -> Vec<Flag> {
    serde_json::from_value(sent).unwrap()
}

/// What is written of these flags is in the golden file, and what is read of that is the flags.
fn check(name: &str, sent: Value) {
    let flags = flags(sent);
    let written = export(&flags).document;
    let text = format!("{written:#}\n");
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("flagd-{name}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{} differs; UPDATE_GOLDEN=1 rewrites it. Now:\n{text}", path.display());
    assert_eq!(import(&written, Rebucketing::FromZero), Ok(Import { flags, notes: vec![] }));
}

#[test]
fn a_percentage() {
    check("percentage", json!([{"key": "new-checkout", "description": "Faster.", "percentage": 12.345}]));
}

#[test]
fn a_rollout_group_of_an_older_generation() {
    let flag =
        json!({"key": "b", "rollout_group": "cohort", "bucketing": "flagd-v2", "no_organisation": true});
    check("group", json!([flag]));
}

#[test]
fn names() {
    let until = |name, until| json!({"name": name, "until": until});
    let flag = json!({
        "key": "named", "percentage": 50,
        "organisations": {"on": ["acme", until("wayne", 1_800_000_000), "stark"], "off": ["globex"]},
        "subjects": {"on": ["alice"], "off": [until("bob", 1_800_000_000)]},
    });
    check("names", json!([flag]));
}

#[test]
fn variants() {
    let variants =
        json!([{"name": "red", "weight": 0}, {"name": "blue", "weight": 2}, {"name": "green", "weight": 1}]);
    let named = json!({"on": ["acme"]});
    check(
        "variants",
        json!([{"key": "colour", "percentage": 75, "variants": variants, "no_organisation": true, "organisations": named}]),
    );
}

#[test]
fn requests() {
    check(
        "requests",
        json!([{"key": "sampled", "percentage": 1, "by": "request", "subjects": {"on": ["alice"]}}]),
    );
}

#[test]
fn an_exclusive_group() {
    let part = |from, to| json!({"name": "checkout", "from": from, "to": to});
    check(
        "exclusive",
        json!([
            {"key": "a", "percentage": 10, "exclusive_group": part(0, 30), "organisations": {"on": ["acme"]}},
            {"key": "b", "percentage": 20, "exclusive_group": part(30, 60)},
            {"key": "c", "percentage": 0, "exclusive_group": part(60, 100)},
        ]),
    );
}

#[test]
fn prerequisites() {
    check(
        "needs",
        json!([
            {"key": "base", "percentage": 50},
            {"key": "colour", "percentage": 100, "variants": [{"name": "blue", "weight": 1}]},
            {"key": "top", "percentage": 25, "prerequisites": [
                {"flag": "base"}, {"flag": "base", "value": false}, {"flag": "colour", "variant": "blue"},
            ]},
        ]),
    );
}

#[test]
fn what_is_killed_is_off_and_never_disabled() {
    let killed =
        flags(json!([{"key": "f", "percentage": 100, "killed": true}, {"key": "g", "enabled": false}]));
    let written = export(&killed).document;
    for key in ["f", "g"] {
        let flag = &written["flags"][key];
        assert_eq!((&flag["state"], &flag["defaultVariant"]), (&json!("ENABLED"), &json!("off")));
        assert_eq!(flag.get("targeting"), None);
    }
    let read = import(&written, Rebucketing::FromZero).unwrap();
    assert_eq!(export(&read.flags).document, written);
    assert!(read.flags[0].killed && !read.flags[1].enabled);
}

#[test]
fn what_rules_cannot_say_is_left_out_with_the_reason() {
    let off = json!({"name": "off", "weight": 1});
    let left_out = export(&flags(json!([
        {"key": "requests", "by": "request"},
        {"key": "not", "prerequisites": [{"flag": "requests", "value": false}]},
        {"key": "after", "prerequisites": [{"flag": "not"}]},
        {"key": "colour", "variants": [off]},
        {"key": "picky", "prerequisites": [{"flag": "colour", "variant": "off"}]},
        {"key": "older", "bucketing": "flagd-v2"},
        {"key": "mixed", "prerequisites": [{"flag": "older"}]},
        {"key": "fine", "prerequisites": [{"flag": "requests"}]},
    ])));
    let told: Vec<(&str, &str)> =
        left_out.left_out.iter().map(|left| (left.flag.as_str(), left.reason.as_str())).collect();
    let no_id = "it needs `requests` to be off, which cannot be told where a request has no id";
    assert_eq!(
        told,
        [
            ("after", format!("it needs `not`: {no_id}").as_str()),
            ("mixed", "it needs `older`, which is of another generation: no SDK knows two of them"),
            ("not", no_id),
            ("picky", "a variant `off` of `colour` cannot be told from being off"),
        ]
    );
    let document = left_out.document;
    assert_eq!(document["metadata"]["leftOut.not"], no_id);
    assert_eq!(document["flags"].as_object().unwrap().len(), 4);
}

/// What a definition that somebody else wrote becomes: the flag, and every note about it.
fn read(definition: Value, rebucketing: Rebucketing) -> (Value, Vec<String>) {
    let import = import(&json!({"flags": {"f": definition}}), rebucketing).unwrap();
    let notes = import.notes.into_iter().map(|note| note.note).collect();
    (import.flags.first().map_or(Value::Null, |flag| serde_json::to_value(flag).unwrap()), notes)
}

fn definition(default: &str, targeting: Value) -> Value {
    json!({
        "state": "ENABLED", "variants": {"yes": true, "no": false}, "defaultVariant": default, "targeting": targeting,
    })
}

#[test]
fn of_others_what_there_are_words_for_is_taken() {
    let (on, off) = (json!({"var": "targetingKey"}), json!({"var": "subject"}));
    for (sent, percentage, no_organisation) in [
        (definition("no", json!({})), 0, false),
        (definition("yes", json!({})), 100, true),
        (definition("no", json!({"fractional": [["yes", 1], ["no", 0]]})), 100, false),
        (definition("no", json!({"if": [on, {"fractional": [["yes", 0], ["no", 1]]}, "yes"]})), 0, true),
    ] {
        let (flag, _) = read(sent.clone(), Rebucketing::FromZero);
        assert_eq!(
            (&flag["percentage"], &flag["no_organisation"]),
            (&json!(percentage), &json!(no_organisation)),
            "{sent}"
        );
    }
    let rules = json!({"if": [{"==": [off, "eve"]}, "no", {"in": [on, ["acme"]]}, "yes", null]});
    let (flag, notes) = read(definition("no", rules), Rebucketing::FromZero);
    assert_eq!((&flag["subjects"]["off"], &flag["organisations"]["on"]), (&json!(["eve"]), &json!(["acme"])));
    assert_eq!(notes, [""; 0]);
}

#[test]
fn nobody_is_on_by_accident_where_buckets_differ() {
    let shorthand = definition("no", json!({"fractional": [["yes", 25], ["no", 75]]}));
    let (flag, notes) = read(shorthand.clone(), Rebucketing::FromZero);
    assert_eq!(flag["percentage"], 0);
    assert!(notes.iter().any(|note| note.contains("at 0 % instead of 25 %")), "{notes:?}");
    let (flag, notes) = read(shorthand, Rebucketing::Accept);
    assert_eq!(flag["percentage"], 25);
    assert!(notes.iter().any(|note| note.contains("25 % are other organisations")), "{notes:?}");
}

#[test]
fn what_there_are_no_words_for_is_left_out() {
    let texts = json!({"state": "ENABLED", "variants": {"a": "x"}, "defaultVariant": "a"});
    let (organisation, subject) = (json!({"var": "targetingKey"}), json!({"var": "subject"}));
    let order =
        json!({"if": [{"in": [organisation, ["acme"]]}, "yes", {"in": [subject, ["eve"]]}, "no", null]});
    for (sent, reason) in [
        (texts, "its values are not `true` and `false`"),
        (
            definition("no", json!({"if": [{"ends_with": [{"var": "email"}, "x"]}, "yes"]})),
            "no word: {\"ends_with\"",
        ),
        (definition("no", order), "subjects come before organisations"),
        (definition("no", json!("maybe")), "none of its variants: `maybe`"),
        (definition("no", json!({"fractional": [["yes", 1], ["no", 1], ["yes", 1]]})), "several ranges"),
        (definition("no", json!({"fractional": [["yes", {"-": [1]}]]})), "whole numbers"),
        (definition("no", json!({"fractional": [["yes", i32::MAX], ["no", 1]]})), "2147483647 at most"),
    ] {
        let (flag, notes) = read(sent, Rebucketing::FromZero);
        assert_eq!(flag, Value::Null);
        assert!(notes.iter().any(|note| note.contains(reason)), "{notes:?}");
    }
    let refused = import(&json!({"flags": 7}), Rebucketing::FromZero).unwrap_err();
    assert_eq!(refused[0].field, "flags");
}

#[test]
fn a_definition_that_was_edited_past_its_words_is_told() {
    let mut written = export(&flags(json!([{"key": "f", "percentage": 25}]))).document;
    written["flags"]["f"]["targeting"]["if"]
        .as_array_mut()
        .unwrap()
        .splice(2..2, [json!({"var": "vip"}), json!("on")]);
    let notes = import(&written, Rebucketing::FromZero).unwrap().notes;
    assert!(notes[0].note.contains("not taken over"), "{notes:?}");
}
