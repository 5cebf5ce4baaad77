//! What always holds of percentages.

use rampart_engine::bucket::{Bucketing, Generation};
use rampart_engine::flag::{Flag, Percentage};
use rampart_engine::policy::wire;
use serde_json::json;

fn flag(generation: &str, percentage: f64) -> Flag {
    let sent = json!({"key": "ramp", "percentage": percentage, "bucketing": generation});
    Flag::new(&serde_json::from_value::<wire::Flag>(sent).unwrap())
}

fn enrolled(flag: &Flag) -> Vec<u32> {
    (0..5_000).filter(|n| flag.evaluate(Some(&format!("organisation-{n}")), None).value).collect()
}

#[test]
fn raising_a_percentage_only_adds_organisations() {
    for generation in ["flagd-v2", "flagd-v3"] {
        let mut before = enrolled(&flag(generation, 0.0));
        assert!(before.is_empty(), "zero means nobody");
        for half_percent in 1..=200 {
            let after = enrolled(&flag(generation, f64::from(half_percent) / 2.0));
            assert!(before.iter().all(|organisation| after.binary_search(organisation).is_ok()));
            before = after;
        }
        assert_eq!(before.len(), 5_000, "a hundred means everybody");
    }
}

#[test]
fn the_edges_of_the_hash_fall_on_the_right_side() {
    // Organisations found by exhaustive search; their hash under the key `new-checkout` is beside
    // them. They catch every off-by-one, sign and `<` for `<=`.
    let on = |organisation: &str, percentage: f64| {
        let sent = json!({"key": "x", "rollout_group": "new-checkout", "percentage": percentage});
        let flag = Flag::new(&serde_json::from_value::<wire::Flag>(sent).unwrap());
        flag.evaluate(Some(organisation), None).value
    };
    for (organisation, hash, last_off, first_on) in [
        ("edge-BNg-aC", 0x0000_0000, 0.0, 0.001),
        ("edge-MRuHkJ", 0x3fff_ffff, 24.999, 25.0),
        ("edge-T8hHAB", 0x4000_0000, 25.0, 25.001),
        ("edge-iumgeJ", 0xffff_ffff, 99.999, 100.0),
    ] {
        assert_eq!(Bucketing::new("new-checkout", Generation::FlagdV3).hash(organisation), hash);
        assert!(!on(organisation, last_off), "{organisation} at {last_off} %");
        assert!(on(organisation, first_on), "{organisation} at {first_on} %");
    }
}

#[test]
fn flags_are_independent_unless_they_share_a_rollout_group() {
    let share = |a: wire::Flag, b: wire::Flag| {
        let (a, b) = (enrolled(&Flag::new(&a)), enrolled(&Flag::new(&b)));
        a.iter().filter(|organisation| b.binary_search(organisation).is_ok()).count() as f64 / 5_000.0
    };
    let sent = |key: &str, group: Option<&str>| -> wire::Flag {
        serde_json::from_value(json!({"key": key, "percentage": 25, "rollout_group": group})).unwrap()
    };
    let apart = share(sent("one", None), sent("two", None));
    assert!((0.05..0.075).contains(&apart), "25 % of 25 % is 6.25 %, not {apart}");
    let together = share(sent("one", Some("cohort")), sent("two", Some("cohort")));
    assert!((0.23..0.27).contains(&together), "the same quarter, not {together}");
}

#[test]
fn percentages_are_read_and_written_alike() {
    for text in ["0", "25", "12.5", "0.001", "99.999", "100", "33.333"] {
        let percentage: Percentage = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&percentage).unwrap(), text);
        assert_eq!(percentage.to_string(), text);
    }
    for text in ["-0.001", "100.001", "130", "1e300", "0.0001", "12.34567", "\"25\"", "null"] {
        assert!(serde_json::from_str::<Percentage>(text).is_err(), "{text}");
    }
}

#[test]
fn generations_keep_their_names() {
    for (generation, name) in [(Generation::FlagdV2, "\"flagd-v2\""), (Generation::FlagdV3, "\"flagd-v3\"")] {
        assert_eq!(serde_json::to_string(&generation).unwrap(), name);
    }
}
