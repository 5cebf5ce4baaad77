//! Retries, and endpoints that are avoided because they fail.

use super::{World, count};
use anyhow::{Result, ensure};
use rampart_tests::{
    wait::{SOON, eventually},
    workdir::system_test,
};
use std::time::Duration;

/// No endpoint is avoided, so that what is tried again is seen.
const BARE: [(&str, bool); 2] = [("HEALTH_CHECKS_ENABLED", false), ("CIRCUIT_BREAKER_ENABLED", false)];

#[test]
fn retry_logic_tries_again_where_no_connection_was_made() {
    system_test(async |dir| {
        let (world, _dead) = World::half_dead(dir, "RETRY_LOGIC_ENABLED", &BARE).await?;
        let [on, off] = world.callers()?;
        let seen = off.statuses("", 6, 1).await?;
        ensure!(count(&seen, 503) == 3, "every second one ends at nobody: {seen:?}");
        ensure!(world.clusters("upstream_rq_retry").await? == 0);
        let seen = on.statuses("", 6, 1).await?;
        ensure!(count(&seen, 200) == 6, "{seen:?}");
        ensure!(world.clusters("upstream_rq_retry").await? >= 3);
        Ok(())
    });
}

#[test]
fn error_classification_tells_what_is_worth_another_try() {
    system_test(async |dir| {
        let others = [&BARE[..], &[("RETRY_LOGIC_ENABLED", true)]].concat();
        let world = World::start(dir, "ERROR_CLASSIFICATION_ENABLED", &others).await?;
        let [on, off] = world.callers()?;
        for (script, retried) in [
            ("?fail=second&status=503", true),
            ("?fail=second&status=500", false),
            ("?fail=second&status=409", false),
        ] {
            let seen = off.statuses(script, 6, 1).await?;
            ensure!(count(&seen, 200) == 3, "off: {script}: {seen:?}");
            let seen = on.statuses(script, 6, 1).await?;
            ensure!(count(&seen, 200) == if retried { 6 } else { 3 }, "on: {script}: {seen:?}");
        }
        Ok(())
    });
}

#[test]
fn exponential_backoff_waits_longer() {
    system_test(async |dir| {
        let also = [("RETRY_LOGIC_ENABLED", true), ("ERROR_CLASSIFICATION_ENABLED", true)];
        let others = [&BARE[..], &also, &[("TIMING_FALLBACK_ENABLED", false)]].concat();
        let world = World::start(dir, "EXPONENTIAL_BACKOFF_ENABLED", &others).await?;
        let [on, off] = world.callers()?;
        // Waits are drawn by chance: three of at most 25 ms each, or of up to 100, 300 and 700 ms.
        let steady: Duration = off.times("?fail=all", 8, 8).await?.iter().sum();
        ensure!(world.clusters("upstream_rq_retry").await? == 24);
        let growing: Duration = on.times("?fail=all", 8, 8).await?.iter().sum();
        ensure!(world.clusters("upstream_rq_retry").await? == 48, "as many tries");
        ensure!(growing > 2 * steady, "{growing:?}, and without {steady:?}");
        Ok(())
    });
}

#[test]
fn health_checks_keep_requests_from_an_endpoint_that_fails_them() {
    system_test(async |dir| {
        let world = World::start(dir, "HEALTH_CHECKS_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        world.second.set_healthy(false);
        eventually(SOON, "the failed probes", async || {
            let seen = world.envoy.stat("cluster.messaging.membership_healthy").await?;
            ensure!(seen == 1, "{seen} of 2 endpoints are healthy");
            Ok(())
        })
        .await?;
        ensure!(world.second.probes() > 0);
        let before = world.second.requests();
        on.statuses("", 6, 1).await?;
        ensure!(world.second.requests() == before, "it was asked all the same");
        off.statuses("", 6, 1).await?;
        ensure!(world.second.requests() == before + 3, "without probes nobody knows");
        Ok(())
    });
}

#[test]
fn the_circuit_breaker_takes_out_an_endpoint_that_keeps_failing() {
    system_test(async |dir| {
        let world = World::start(dir, "CIRCUIT_BREAKER_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        let seen = off.statuses("?fail=second", 20, 1).await?;
        ensure!(count(&seen, 503) == 10, "every second one, for ever: {seen:?}");
        on.statuses("?fail=second", 10, 1).await?;
        ejected(&world, 1).await?;
        let seen = on.statuses("?fail=second", 10, 1).await?;
        ensure!(count(&seen, 200) == 10, "{seen:?}");
        Ok(())
    });
}

async fn ejected(world: &World, endpoints: u64) -> Result<()> {
    eventually(SOON, "the ejection", async || {
        let seen = world.clusters("outlier_detection.ejections_active").await?;
        ensure!(seen == endpoints, "{seen} ejected");
        Ok(())
    })
    .await
}
