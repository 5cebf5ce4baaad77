//! What a delivery may take: places among those at once, connections, size, attempts.

use super::{Caller, MESSAGE, OFF, World, count, policy};
use anyhow::{Result, ensure};
use futures::future::try_join;
use rampart_tests::{
    client::fan_out,
    reflector::{Reflector, upgrade},
    wait::{SOON, eventually},
    workdir::system_test,
};
use std::time::{Duration, Instant};

const URGENT: &str = "/api/v1/modules/v1/messaging/urgent/1";

/// More than default priority takes at once.
const CROWD: usize = 40;
const SLOW: &str = "?slow=all&milliseconds=700";

/// Delivers while a crowd of default priority fills its places: the status.
async fn amid_a_crowd(crowd: &Caller<'_>, caller: &Caller<'_>, path: &str, asks: &str) -> Result<u16> {
    let full = format!("{path}{SLOW}");
    let headers = [("x-priority", asks)];
    // Sent last, and as slow as they are, it meets them all.
    let late = async {
        let world = crowd.world;
        eventually(SOON, "the crowd", async || {
            let active = world.clusters("upstream_rq_active").await?;
            ensure!(active >= 20, "{active}");
            Ok(())
        })
        .await?;
        Ok(caller.send(&full, &headers, Vec::new()).await?.status)
    };
    let (statuses, status) = try_join(crowd.statuses(SLOW, CROWD, CROWD), late).await?;
    ensure!(count(&statuses, 200) == 20, "the crowd is bounded: {statuses:?}");
    Ok(status)
}

#[test]
fn concurrency_control_bounds_requests_at_once() {
    system_test(async |dir| {
        let world = World::start(dir, "CONCURRENCY_CONTROL_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        let seen = on.statuses(SLOW, CROWD, CROWD).await?;
        ensure!((count(&seen, 200), count(&seen, 503)) == (20, 20), "{seen:?}");
        let seen = off.statuses(SLOW, CROWD, CROWD).await?;
        ensure!(count(&seen, 200) == CROWD, "{seen:?}");
        Ok(())
    });
}

#[test]
fn urgent_first_lets_urgent_messages_pass_a_crowd() {
    system_test(async |dir| {
        let world = World::start(dir, "URGENT_FIRST_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        ensure!(amid_a_crowd(&off, &off, URGENT, "").await? == 503, "without the flag it is one of many");
        ensure!(amid_a_crowd(&off, &on, MESSAGE, "").await? == 503, "not every message is urgent");
        ensure!(amid_a_crowd(&off, &on, URGENT, "").await? == 200);
        Ok(())
    });
}

#[test]
fn priority_override_lets_a_caller_ask_for_priority() {
    system_test(async |dir| {
        let world = World::start(dir, "PRIORITY_OVERRIDE_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        ensure!(amid_a_crowd(&off, &off, MESSAGE, "high").await? == 503, "without the flag asking is idle");
        ensure!(amid_a_crowd(&off, &on, MESSAGE, "normal").await? == 503, "it did not ask");
        ensure!(amid_a_crowd(&off, &on, MESSAGE, "high").await? == 200);
        Ok(())
    });
}

#[test]
fn resource_pooling_keeps_connections() {
    system_test(async |dir| {
        let world = World::start(dir, "RESOURCE_POOLING_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        let before = world.clusters("upstream_cx_total").await?;
        off.statuses("", 20, 1).await?;
        let between = world.clusters("upstream_cx_total").await?;
        ensure!(between - before >= 20, "{} for 20 requests", between - before);
        on.statuses("", 20, 1).await?;
        let pooled = world.clusters("upstream_cx_total").await? - between;
        ensure!(pooled <= 2, "{pooled} for 20 requests to two endpoints");
        Ok(())
    });
}

#[test]
fn connections_that_are_not_kept_can_still_be_upgraded() {
    system_test(async |dir| {
        let echoing = Reflector::start().await?;
        let policy = policy("RESOURCE_POOLING_ENABLED", &[])?;
        let world = World::before(dir, Some(echoing.address()), 2, &policy).await?;
        let off = world.caller(OFF)?;
        let headers = format!("authorization: {}\r\n", off.bearer);
        let mut echoed = 0;
        // One after another: one of two reaches the endpoint that upgrades.
        for _ in 0..2 {
            let back = upgrade(world.listener.address(), MESSAGE, &headers, &[b"ping"]).await;
            echoed += usize::from(back.is_ok_and(|back| back == b"ping"));
        }
        ensure!(echoed == 1, "{echoed} of 2");
        Ok(())
    });
}

#[test]
fn parallel_delivery_does_not_wait_for_a_slow_endpoint() {
    system_test(async |dir| {
        let world = World::start(dir, "PARALLEL_DELIVERY_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        let slow = "?slow=second&milliseconds=900";
        let times = async |caller: &Caller<'_>| {
            let time = async |_| {
                let start = Instant::now();
                ensure!(caller.deliver(slow).await?.status == 200);
                Ok(start.elapsed())
            };
            Ok::<_, anyhow::Error>(fan_out(0..4, 1, time).await?.into_iter().max().unwrap_or_default())
        };
        let before = world.first.requests() + world.second.requests();
        ensure!(times(&off).await? >= Duration::from_millis(900));
        let alone = world.first.requests() + world.second.requests() - before;
        let longest = times(&on).await?;
        ensure!(longest < Duration::from_millis(850), "{longest:?}");
        let both = world.first.requests() + world.second.requests() - before - alone;
        ensure!((alone, both > 4) == (4, true), "{alone} attempts, {both} attempts");
        Ok(())
    });
}

#[test]
fn pre_flight_checks_refuse_a_message_that_is_too_large() {
    system_test(async |dir| {
        let world = World::start(dir, "PRE_FLIGHT_CHECKS_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        for (size, statuses) in [(64 << 10, [200, 200]), ((64 << 10) + 1, [413, 200])] {
            let seen = [on.send(MESSAGE, &[], vec![b'a'; size]), off.send(MESSAGE, &[], vec![b'a'; size])];
            let seen = futures::future::try_join_all(seen).await?;
            let seen: Vec<u16> = seen.iter().map(|reply| reply.status).collect();
            ensure!(seen == statuses, "{size} bytes: {seen:?}");
        }
        Ok(())
    });
}
