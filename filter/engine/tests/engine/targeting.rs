//! Which rule of a flag decides.

use rampart_engine::flag::{Asker, Flags, Reason};
use serde_json::{Value, json};

use crate::world::NOW;

/// What flag `f` says to alice of acme, and why.
fn ask(sent: &Value, asker: Asker<'_>) -> (bool, Reason) {
    let flags = Flags::new(&serde_json::from_value::<Vec<_>>(sent.clone()).unwrap()).unwrap();
    let found = flags.evaluate(flags.find("f").unwrap(), &asker);
    (found.value, found.reason)
}

const ALICE: Asker<'_> =
    Asker { organisation: Some("acme"), subject: Some("alice"), request_id: None, now: NOW };

#[test]
fn each_rule_beats_those_below_it() {
    // From the bottom: every row adds the next rule above, which turns the value around.
    let mut flag = json!({"key": "f"});
    for (member, value, expected) in [
        ("percentage", json!(0), (false, Reason::Split)),
        ("percentage", json!(100), (true, Reason::Split)),
        ("organisations", json!({"off": ["acme"]}), (false, Reason::TargetingMatch)),
        ("subjects", json!({"on": ["alice"]}), (true, Reason::TargetingMatch)),
        ("subjects", json!({"on": ["alice"], "off": ["alice"]}), (false, Reason::TargetingMatch)),
        ("subjects", json!({"on": ["alice"]}), (true, Reason::TargetingMatch)),
        ("prerequisites", json!([{"flag": "unmet"}]), (false, Reason::Default)),
        ("killed", json!(true), (false, Reason::Disabled)),
        ("killed", json!(false), (false, Reason::Default)),
        ("enabled", json!(false), (false, Reason::Disabled)),
    ] {
        flag[member] = value;
        assert_eq!(ask(&json!([flag, {"key": "unmet"}]), ALICE), expected, "{flag}");
    }
    let nobody = Asker { organisation: None, ..ALICE };
    for organisation in [None, Some("")] {
        let nobody = Asker { organisation, ..nobody };
        assert_eq!(ask(&json!([{"key": "f", "percentage": 100}]), nobody), (false, Reason::Default));
        let sent = json!([{"key": "f", "no_organisation": true}]);
        assert_eq!(ask(&sent, nobody), (true, Reason::Default));
    }
}

#[test]
fn prerequisites_are_met_all_the_way_down() {
    let chain = |last: Value| {
        let needs =
            |key: &str, flag: &str| json!({"key": key, "percentage": 100, "prerequisites": [{"flag": flag}]});
        // Out of order: a flag may stand before those it asks.
        json!([needs("b", "c"), needs("f", "a"), last, needs("a", "b")])
    };
    for (last, expected) in [
        (json!({"key": "c", "percentage": 100}), (true, Reason::Split)),
        (json!({"key": "c", "percentage": 0}), (false, Reason::Default)),
        (json!({"key": "c", "percentage": 100, "killed": true}), (false, Reason::Default)),
        (json!({"key": "c", "organisations": {"on": ["acme"]}}), (true, Reason::Split)),
    ] {
        assert_eq!(ask(&chain(last.clone()), ALICE), expected, "{last}");
    }
    let blue = json!({"key": "c", "percentage": 100, "variants": [
        {"name": "blue", "weight": 1}, {"name": "red", "weight": 0}
    ]});
    for (prerequisites, on) in [
        (json!([{"flag": "c", "variant": "blue"}]), true),
        (json!([{"flag": "c", "variant": "red"}]), false),
        (json!([{"flag": "c", "value": false}]), false),
        (json!([{"flag": "c"}, {"flag": "d", "value": false}]), true),
        (json!([{"flag": "c"}, {"flag": "d"}]), false),
    ] {
        let sent =
            json!([{"key": "f", "percentage": 100, "prerequisites": prerequisites}, blue, {"key": "d"}]);
        assert_eq!(ask(&sent, ALICE).0, on, "{prerequisites}");
    }
}

#[test]
fn a_name_counts_until_its_second() {
    let until = |name: &str, until: u64| json!({"name": name, "until": until});
    for (names, before, after) in [
        (json!({"organisations": {"on": [until("acme", NOW)]}}), true, false),
        (json!({"subjects": {"on": [until("alice", NOW)]}}), true, false),
        (json!({"percentage": 100, "organisations": {"off": [until("acme", NOW)]}}), false, true),
        (json!({"percentage": 100, "subjects": {"off": [until("alice", NOW)]}}), false, true),
        // Off wins while it lasts, and leaves what is below it.
        (json!({"organisations": {"on": ["acme"], "off": [until("acme", NOW)]}}), false, true),
        (json!({"organisations": {"on": ["acme"]}, "subjects": {"off": [until("alice", NOW)]}}), false, true),
        (json!({"organisations": {"on": [until("acme", NOW), until("acme", 5)]}}), true, false),
        (json!({"organisations": {"on": [until("acme", NOW), "acme"]}}), true, true),
    ] {
        let mut flag = names;
        flag["key"] = "f".into();
        let at = |now| ask(&json!([flag]), Asker { now, ..ALICE }).0;
        assert_eq!((at(NOW - 1), at(NOW)), (before, after), "{flag}");
    }
}

#[test]
fn an_exclusive_group_keeps_what_is_promised_until_its_second() {
    let promised = json!({"on": [{"name": "acme", "until": NOW}]});
    for killed in [false, true] {
        let sent = json!([
            {"key": "f", "percentage": 60, "exclusive_group": {"name": "g", "from": 0, "to": 60}},
            {"key": "other", "killed": killed, "organisations": promised,
             "exclusive_group": {"name": "g", "from": 60, "to": 100}},
        ]);
        let globex = Asker { organisation: Some("globex"), ..ALICE };
        let free = |asker| ask(&json!([sent[0]]), asker).0;
        assert!(free(ALICE), "acme is among the 60 %");
        let at = |now| ask(&sent, Asker { now, ..ALICE });
        assert_eq!(at(NOW - 1), (false, Reason::TargetingMatch));
        assert_eq!(at(NOW), (true, Reason::Split));
        assert_eq!(ask(&sent, globex).0, free(globex));
        let mut apart = sent.clone();
        apart[1]["exclusive_group"]["name"] = "h".into();
        assert_eq!(ask(&apart, ALICE), (true, Reason::Split), "another group promises nothing here");
    }
}
