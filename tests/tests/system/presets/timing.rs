//! Timeouts, and bounds on requests at once that follow latency.

use super::{World, count};
use anyhow::ensure;
use rampart_tests::workdir::system_test;

const CONTROLLER: &str = "http.rampart.adaptive_concurrency.gradient_controller";
const SLOW: &str = "?slow=all&milliseconds=300";

#[test]
fn adaptive_timing_bounds_requests_that_are_slower_than_they_should_be() {
    system_test(async |dir| {
        let world = World::start(dir, "ADAPTIVE_TIMING_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        let blocked = format!("{CONTROLLER}.rq_blocked");
        ensure!(count(&off.statuses(SLOW, 15, 15).await?, 200) == 15);
        ensure!(world.envoy.stat(&blocked).await? == 0);
        let refused = count(&on.statuses(SLOW, 15, 15).await?, 503);
        ensure!(refused > 0 && world.envoy.stat(&blocked).await? == refused as u64, "{refused}");
        Ok(())
    });
}

#[test]
fn timing_calibration_measures_latency() {
    system_test(async |dir| {
        let others = [("ADAPTIVE_TIMING_ENABLED", true)];
        let world = World::start(dir, "TIMING_CALIBRATION_ENABLED", &others).await?;
        let [on, off] = world.callers()?;
        let measuring = format!("{CONTROLLER}.min_rtt_calculation_active");
        off.statuses("", 25, 1).await?;
        ensure!(world.envoy.stat(&measuring).await? == 1, "nothing to measure by yet");
        on.statuses("", 25, 1).await?;
        ensure!(world.envoy.stat(&measuring).await? == 0, "20 requests are enough");
        Ok(())
    });
}

#[test]
fn timing_fallback_ends_what_takes_too_long() {
    system_test(async |dir| {
        let world = World::start(dir, "TIMING_FALLBACK_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        let late = "?slow=all&milliseconds=1500";
        let (on, off) = futures::try_join!(on.deliver(late), off.deliver(late))?;
        ensure!((on.status, off.status) == (504, 200), "{} {}", on.status, off.status);
        Ok(())
    });
}
