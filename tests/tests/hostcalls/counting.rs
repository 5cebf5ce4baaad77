//! What the filter counts and tells of its worker.

use anyhow::{Context as _, Result};
use rampart_tests::issuer::Key;
use serde_json::json;
use std::collections::BTreeMap;

use super::{NOW, READS, REPORTS, World, split};

#[test]
fn refusals_are_counted_by_their_reason_and_each_metric_is_defined_once() -> Result<()> {
    let mut world = World::configured()?;
    let good = world.token("alice")?;
    let before: BTreeMap<String, u64> = world.host.metrics().iter().cloned().collect();
    for round in 1..=50 {
        // Envoy keeps what a VM has defined under the policies before.
        world.policy["revision"] = json!(round);
        anyhow::ensure!(world.host.configure(world.policy.to_string().as_bytes())?);
        for path in [REPORTS, "/api/v1/modules/v1/nowhere", "/outside"] {
            world.get(path, &good)?;
        }
        world.get(REPORTS, "a.b.c")?;
    }
    let metrics = world.host.metrics();
    let after: BTreeMap<String, u64> = metrics.iter().cloned().collect();
    assert_eq!(after.len(), metrics.len(), "defined twice: {metrics:?}");
    let counted = |name: &str| {
        let of = |metrics: &BTreeMap<String, u64>| metrics.get(name).copied().unwrap_or_default();
        of(&after) - of(&before)
    };
    assert_eq!(counted("rampart.refused.unknown_module"), 50);
    assert_eq!(counted("rampart.refused.malformed_token"), 50);
    let counts = |metrics: &BTreeMap<String, u64>| -> u64 {
        let counts = metrics.iter().filter(|(name, _)| !name.starts_with("rampart.worker_"));
        counts.map(|(_, value)| value).sum()
    };
    assert_eq!(counts(&after) - counts(&before), 100, "{after:?}");
    Ok(())
}

#[test]
fn a_worker_tells_its_revision_when_that_changes_and_that_it_lives_once_a_second() -> Result<()> {
    const TELLING: &str = "proxy_record_metric";
    let mut world = World::configured()?;
    let token = world.token("alice")?;
    let told = |world: &World| {
        let value = |name: &str| {
            world.host.metrics().iter().find(|(known, _)| known == name).map(|(_, value)| *value)
        };
        (value("rampart.worker_revision.0"), value("rampart.worker_decided.0"))
    };
    world.policy["revision"] = json!(41);
    anyhow::ensure!(world.host.configure(world.policy.to_string().as_bytes())?);
    assert_eq!(told(&world), (Some(0), Some(NOW)), "nothing was decided by it yet");
    assert_eq!(world.get(REPORTS, &token)?.calls_of(TELLING), 1);
    assert_eq!(told(&world), (Some(41), Some(NOW)));
    // Whatever becomes of a request, and whatever it is for, it was decided.
    for (second, path, token) in [
        (1, REPORTS, &*token),
        (2, REPORTS, "a.b.c"),
        (3, "/api/v1/modules/v1/nowhere", ""),
        (4, "/outside", ""),
    ] {
        world.host.set_time(NOW + second);
        assert_eq!(world.get(path, token)?.calls_of(TELLING), 1, "{path}");
        assert_eq!(told(&world), (Some(41), Some(NOW + second)));
        assert_eq!(world.get(path, token)?.calls_of(TELLING), 0, "{path}");
    }
    Ok(())
}

#[test]
fn where_nothing_is_shared_workers_have_no_number_and_serve() -> Result<()> {
    let mut world = World::new()?;
    world.host.withhold("proxy_get_shared_data");
    world.configure()?;
    let token = world.token("alice")?;
    assert_eq!(world.get(REPORTS, &token)?.property("rampart.decision"), Some("module"));
    assert!(world.host.metrics().iter().all(|(name, _)| !name.starts_with("rampart.worker_")));
    Ok(())
}

#[test]
fn an_unknown_key_is_counted_under_its_provider_and_no_other_refusal_is() -> Result<()> {
    let mut world = World::configured()?;
    let stranger = Key::p256("stranger")?.sign(&world.claims("alice"))?;
    let mut others = world.claims("alice");
    others["iss"] = json!("https://elsewhere.example");
    let elsewhere = world.key.sign(&others)?;
    for _ in 0..3 {
        for token in [&*stranger, &*elsewhere, "a.b.c"] {
            assert!(world.get(REPORTS, token)?.reply.is_some());
        }
    }
    let name = world.policy["providers"][0]["name"].as_str().context("no name")?;
    let counted = world.host.metrics().iter().filter(|(name, _)| name.starts_with("rampart.unknown_key."));
    let counted: Vec<(String, u64)> = counted.cloned().collect();
    assert_eq!(counted, [(format!("rampart.unknown_key.{name}"), 3)]);
    Ok(())
}

#[test]
fn a_flag_that_cannot_be_evaluated_is_counted_whatever_becomes_of_the_request() -> Result<()> {
    for (when_off, status) in [("legacy", None), ("forbidden", Some(403)), ("not_found", Some(404))] {
        let mut world = World::new()?;
        world.policy["flags"][0] = json!({"key": "analytics_module", "percentage": 100, "by": "request"});
        world.policy["modules"][0]["gates"][0]["when_off"] = json!(when_off);
        world.configure()?;
        let token = world.token("alice")?;
        // A request that has no id.
        let outcome = world.get(REPORTS, &token)?;
        assert_eq!(outcome.reply.as_ref().map(|reply| reply.status), status, "{when_off}");
        assert_eq!(outcome.property("rampart.decision"), status.is_none().then_some("legacy"));
        let errors = world.host.metrics().iter().find(|(name, _)| name == "rampart.flag_error");
        assert_eq!(errors.map(|(_, count)| *count), Some(1), "{when_off}");
    }
    Ok(())
}

#[test]
fn an_organisation_of_which_something_is_said_costs_one_call_more_and_no_other_does() -> Result<()> {
    let mut world = World::new()?;
    let said = json!({"organisation": "acme", "configuration": {"plan": "gold"}});
    world.policy["modules"][0]["organisations"] = json!([said, {"organisation": "globex"}]);
    world.configure()?;
    let mut claims = world.claims("bob");
    claims["org_id"] = json!("initech");
    let (recorded, other) = (world.token("alice")?, world.key.sign(&claims)?);
    let (mut cached, mut unsaid) = (world.get(REPORTS, &recorded)?, world.get(REPORTS, &other)?);
    for _ in 0..2 {
        (cached, unsaid) = (world.get(REPORTS, &recorded)?, world.get(REPORTS, &other)?);
    }
    // The header, and the count.
    let (writes, mut calls) = split(&cached);
    assert_eq!(calls.remove("proxy_increment_metric"), Some(1));
    assert_eq!((writes, calls), (split(&unsaid).0 + 1, BTreeMap::from(READS)));
    assert_eq!(split(&unsaid).1, BTreeMap::from(READS));
    assert_eq!(cached.header("x-rampart-module-config"), Some(r#"{"plan":"gold"}"#));
    // What another application serves in the module's place is neither told nor counted.
    world.policy["flags"][0]["percentage"] = json!(0);
    world.configure()?;
    let legacy = world.get(REPORTS, &recorded)?;
    assert_eq!(legacy.property("rampart.decision"), Some("legacy"));
    assert_eq!((legacy.header("x-rampart-module-config"), split(&legacy).1), (None, BTreeMap::from(READS)));
    let counted = world.host.metrics().iter().filter(|(name, _)| name.starts_with("rampart.usage."));
    let module = world.policy["modules"][0]["id"].as_str().context("no id")?;
    assert_eq!(counted.cloned().collect::<Vec<_>>(), [(format!("rampart.usage.{module}/acme"), 3)]);
    Ok(())
}
