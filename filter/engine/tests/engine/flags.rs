//! What always holds of percentages.

use rampart_engine::bucket::{Bucketing, Generation};
use rampart_engine::flag::{Asker, Evaluation, Flags, Percentage, Reason};
use rampart_engine::policy::wire::By;
use serde_json::{Value, json};

/// Flags as sent, compiled.
fn flags(sent: Value) -> Flags {
    Flags::new(&serde_json::from_value::<Vec<_>>(sent).unwrap()).unwrap()
}

fn flag(generation: &str, percentage: f64) -> Flags {
    flags(json!([{"key": "ramp", "percentage": percentage, "bucketing": generation}]))
}

/// What an organisation gets of a flag.
fn evaluate<'f>(flags: &'f Flags, key: &str, organisation: &str) -> Evaluation<'f> {
    let asker = Asker { organisation: Some(organisation), ..Asker::default() };
    flags.evaluate(flags.find(key).unwrap(), &asker)
}

/// Which of 5,000 organisations have the flag.
fn enrolled_in(flags: &Flags, key: &str) -> Vec<u32> {
    (0..5_000).filter(|n| evaluate(flags, key, &format!("organisation-{n}")).value).collect()
}

fn enrolled(flags: &Flags) -> Vec<u32> {
    enrolled_in(flags, "ramp")
}

fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().filter(|organisation| b.binary_search(organisation).is_ok()).count()
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
        let sent = json!([{"key": "x", "rollout_group": "new-checkout", "percentage": percentage}]);
        evaluate(&flags(sent), "x", organisation).value
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

/// How much more often than by chance two flags share organisations: the phi coefficient, 0 where they
/// are independent, 1 where they are the same.
fn correlation(a: &[u32], b: &[u32]) -> f64 {
    let share = |count: usize| count as f64 / 5_000.0;
    let (a, b, both) = (share(a.len()), share(b.len()), share(shared(a, b)));
    (both - a * b) / (a * (1.0 - a) * b * (1.0 - b)).sqrt()
}

#[test]
fn flags_are_independent_unless_they_share_a_rollout_group() {
    for generation in ["flagd-v2", "flagd-v3"] {
        let sent = |group: Option<&str>| {
            let flag = |n: usize| {
                json!({"key": format!("flag-{n}"), "percentage": 5 * n + 5, "rollout_group": group,
                       "bucketing": generation})
            };
            flags((0..12).map(flag).collect())
        };
        let who = |flags: &Flags| -> Vec<Vec<u32>> {
            (0..12).map(|n| enrolled_in(flags, &format!("flag-{n}"))).collect()
        };
        let (apart, together) = (who(&sent(None)), who(&sent(Some("cohort"))));
        for n in 0..12 {
            for m in 0..n {
                // Four and a half standard deviations of what chance does with 5,000.
                let found = correlation(&apart[m], &apart[n]);
                assert!(found.abs() < 0.064, "{generation} {m} {n}: {found}");
                let contained = shared(&together[m], &together[n]);
                assert_eq!(contained, together[m].len(), "{generation}: {m} has others than {n}");
            }
        }
    }
}

/// Three flags that share the organisations: 20 %, 50 % and 30 % of them at most.
fn exclusive(percentages: [f64; 3], on: [&[&str]; 3]) -> Flags {
    let parts = [("a", 0, 20), ("b", 20, 70), ("c", 70, 100)];
    let member = |(key, from, to): (&str, u32, u32), percentage: f64, on: &[&str]| {
        json!({"key": key, "percentage": percentage, "organisations": {"on": on},
               "exclusive_group": {"name": "checkout", "from": from, "to": to}})
    };
    let sent = (0..3).map(|n| member(parts[n], percentages[n], on[n]));
    flags(sent.collect())
}

#[test]
fn flags_of_an_exclusive_group_never_meet_and_never_take_from_each_other() {
    let who = |percentages| ["a", "b", "c"].map(|key| enrolled_in(&exclusive(percentages, [&[]; 3]), key));
    let mut now = [0.0; 3];
    let mut before = who(now);
    assert!(before.iter().all(Vec::is_empty), "zero means nobody");
    // Each is raised in turn, in unequal steps, until all organisations are given away.
    for (member, to) in [(1, 10.0), (0, 0.5), (2, 30.0), (1, 33.333), (0, 19.999), (1, 50.0), (0, 20.0)] {
        now[member] = to;
        let after = who(now);
        for (n, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_eq!(shared(before, after), before.len(), "{now:?} took from {n}");
            assert!(n == member || before == after, "{now:?} gave to {n}");
            assert!((after.len() as f64 / 50.0 - now[n]).abs() < 2.0, "{now:?} {n}: {}", after.len());
        }
        let given: usize = after.iter().map(Vec::len).sum();
        let mut all = after.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), given, "{now:?}: an organisation has two");
        before = after;
    }
    assert_eq!(before.concat().len(), 5_000, "a hundred means everybody");
}

#[test]
fn a_flag_tells_in_which_buckets_it_is_on() {
    let flags = exclusive([13.37, 50.0, 0.001], [&[]; 3]);
    for (key, buckets) in [("a", 0..13_370), ("b", 20_000..70_000), ("c", 70_000..70_001)] {
        let flag = flags.get(flags.find(key).unwrap()).unwrap();
        assert_eq!((flag.enrolled(), flag.by()), (buckets, By::Organisation), "{key}");
    }
    for n in 0..100 {
        let organisation = format!("organisation-{n}");
        let of = |percentage: f64| {
            let flags = flag("flagd-v3", percentage);
            let bucket = flags.get(flags.find("ramp").unwrap()).unwrap().bucket(&organisation);
            (bucket, evaluate(&flags, "ramp", &organisation).value)
        };
        let (bucket, _) = of(0.0);
        assert!(!of(f64::from(bucket) / 1_000.0).1, "{organisation}");
        assert!(of(f64::from(bucket + 1) / 1_000.0).1, "{organisation}");
    }
}

#[test]
fn an_organisation_named_in_an_exclusive_group_has_no_other_flag_of_it() {
    let full = [20.0, 50.0, 30.0];
    let flags = exclusive(full, [&["organisation-7"], &[], &["organisation-8"]]);
    for (organisation, has) in [("organisation-7", "a"), ("organisation-8", "c")] {
        let values = ["a", "b", "c"].map(|key| evaluate(&flags, key, organisation).value);
        assert_eq!(values, ["a", "b", "c"].map(|key| key == has), "{organisation}");
    }
    let had: Vec<bool> =
        ["a", "b", "c"].map(|key| evaluate(&exclusive(full, [&[]; 3]), key, "organisation-7").value).into();
    assert_ne!(had, [true, false, false], "the name must change something");
}

fn variants(percentage: f64, weights: [u32; 3]) -> Flags {
    let [red, green, blue] = weights;
    flags(json!([{"key": "ramp", "percentage": percentage, "variants": [
        {"name": "red", "weight": red}, {"name": "green", "weight": green}, {"name": "blue", "weight": blue}
    ]}]))
}

#[test]
fn variants_share_those_who_are_on_by_their_weights() {
    for percentage in [10.0, 50.0, 100.0] {
        let flags = variants(percentage, [1, 0, 3]);
        let mut counts = [0.0; 3];
        for n in 0..20_000 {
            let found = evaluate(&flags, "ramp", &format!("organisation-{n}"));
            assert_eq!(found.value, found.variant.is_some(), "only who is on has a variant");
            for (count, name) in counts.iter_mut().zip(["red", "green", "blue"]) {
                *count += f64::from(u8::from(found.variant == Some(name)));
            }
        }
        let share = counts[0] / (counts[0] + counts[2]);
        // Within the first percent too, were the variant not independent, all would be red.
        assert!((share - 0.25).abs() < 0.025, "{share} at {percentage} %");
        assert!(counts[1] == 0.0, "a weight of zero means nobody");
    }
}

#[test]
fn a_variant_stays_when_the_percentage_is_raised() {
    let (few, many) = (variants(20.0, [1, 1, 1]), variants(80.0, [1, 1, 1]));
    for n in enrolled(&few) {
        let organisation = format!("organisation-{n}");
        assert_eq!(
            evaluate(&few, "ramp", &organisation).variant,
            evaluate(&many, "ramp", &organisation).variant
        );
    }
}

#[test]
fn by_request_every_request_is_asked_anew() {
    let flags = flags(json!([
        {"key": "ramp", "by": "request", "percentage": 25, "organisations": {"on": ["named"]}},
        {"key": "upon", "percentage": 100, "prerequisites": [{"flag": "ramp", "value": false}]}
    ]));
    let ramp = flags.find("ramp").unwrap();
    let ask = |organisation, request_id: Option<&str>| {
        flags.evaluate(ramp, &Asker { organisation, request_id, ..Asker::default() })
    };
    for organisation in [Some("acme"), None] {
        let on = (0..5_000).filter(|n| ask(organisation, Some(&format!("request-{n}"))).value).count();
        assert!((1_150..1_350).contains(&on), "{on} of 5000");
    }
    assert!(ask(Some("named"), None).value);
    for id in [None, Some("")] {
        assert_eq!(ask(Some("acme"), id), Evaluation { value: false, variant: None, reason: Reason::Error });
    }
    // What rests on a flag that cannot be evaluated cannot be evaluated either.
    assert_eq!(evaluate(&flags, "upon", "acme").reason, Reason::Error);
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
