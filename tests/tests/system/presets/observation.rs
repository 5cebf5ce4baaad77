//! What is logged, counted and shown of deliveries.

use super::{World, count};
use anyhow::{Result, ensure};
use rampart_tests::{
    wait::{SOON, eventually},
    workdir::system_test,
};

#[test]
fn metrics_collection_counts_deliveries() {
    system_test(async |dir| {
        let world = World::start(dir, "METRICS_COLLECTION_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        off.statuses("", 3, 1).await?;
        ensure!(metrics(&world, "messaging_deliveries").await? == 0, "nothing is counted");
        on.statuses("", 2, 1).await?;
        eventually(SOON, "two deliveries", async || {
            let seen = metrics(&world, "messaging_deliveries{module=\"messaging\",status=\"200\"}").await?;
            let timed = metrics(&world, "messaging_delivery_duration_count").await?;
            ensure!((seen, timed) == (2, 2), "{seen} counted, {timed} timed");
            Ok(())
        })
        .await
    });
}

#[test]
fn alerting_counts_failures_in_a_series_of_their_own() {
    system_test(async |dir| {
        let world = World::start(dir, "ALERTING_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        off.statuses("?fail=all", 3, 1).await?;
        ensure!(metrics(&world, "messaging_failures_to_alert").await? == 0, "a muted organisation");
        on.statuses("", 1, 1).await?;
        on.statuses("?fail=all", 2, 1).await?;
        eventually(SOON, "two failures", async || {
            let seen = metrics(&world, "messaging_failures_to_alert").await?;
            ensure!(seen == 2, "{seen}");
            Ok(())
        })
        .await
    });
}

/// The sum of all Prometheus series that start so, after Envoy's own prefix.
async fn metrics(world: &World, name: &str) -> Result<u64> {
    let text = world.envoy.admin("/stats/prometheus").await?;
    let series = text.lines().filter_map(|line| line.strip_prefix("envoy_")?.strip_prefix(name));
    Ok(series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

#[test]
fn enhanced_logging_adds_details_and_the_access_log_stays() {
    system_test(async |dir| {
        let world = World::start(dir, "LOGGING_ENHANCED_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        off.statuses("", 3, 1).await?;
        on.statuses("", 2, 1).await?;
        // Envoy writes its log behind, the lines in their order.
        eventually(SOON, "the access log", async || {
            let log = world.envoy.log()?;
            let lines = |part: &str| log.lines().filter(|line| line.contains(part)).count();
            let (all, details) = (lines("\"decision\":\"module\""), lines("\"details_of\":"));
            ensure!((all, details) == (5, 2), "{all} lines, {details} with details");
            Ok(())
        })
        .await
    });
}

#[test]
fn the_dashboard_is_there_for_those_who_have_it() {
    system_test(async |dir| {
        let world = World::start(dir, "DASHBOARD_ENABLED", &[]).await?;
        let path = "/api/v1/modules/v1/messaging/dashboard";
        let [on, off] = world.callers()?;
        let mut seen = Vec::new();
        for caller in [on, off] {
            let headers = [("authorization", caller.bearer.as_str())];
            seen.push(world.client.send(reqwest::Method::GET, path, &headers, Vec::new()).await?.status);
            ensure!(count(&caller.statuses("", 1, 1).await?, 200) == 1, "messages are delivered to both");
        }
        ensure!(seen == [200, 404], "{seen:?}");
        Ok(())
    });
}
