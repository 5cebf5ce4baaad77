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
use std::time::Duration;

const URGENT: &str = "/api/v1/modules/v1/messaging/urgent/1";

/// How many requests default priority takes at once, and more than that.
const PLACES: usize = 20;
const CROWD: usize = 40;
const SLOW: &str = "?slow=all&milliseconds=1500";

/// Long enough for others to come while a crowd is there, which the fixed timeout would not allow.
const PATIENT: [(&str, bool); 1] = [("TIMING_FALLBACK_ENABLED", false)];

/// Sends these, one after another, while a crowd of default priority fills its places: who sends,
/// where to, with which wish for priority; the statuses.
async fn amid_a_crowd(crowd: &Caller<'_>, sent: &[(&Caller<'_>, &str, &str)]) -> Result<Vec<u16>> {
    let late = async {
        eventually(SOON, "the crowd", async || {
            let active = crowd.world.clusters("upstream_rq_active").await?;
            ensure!(active == PLACES as u64, "{active}");
            Ok(())
        })
        .await?;
        let send = async |(caller, path, wish): &(&Caller<'_>, &str, &str)| {
            let reply = caller.send(&format!("{path}{SLOW}"), &[("x-priority", wish)], Vec::new()).await?;
            Ok(reply.status)
        };
        fan_out(sent, 1, send).await
    };
    let (_, statuses) = try_join(crowd.statuses(SLOW, CROWD, CROWD), late).await?;
    Ok(statuses)
}

#[test]
fn concurrency_control_bounds_requests_at_once() {
    system_test(async |dir| {
        let world = World::start(dir, "CONCURRENCY_CONTROL_ENABLED", &PATIENT).await?;
        let [on, off] = world.callers()?;
        let seen = on.statuses(SLOW, CROWD, CROWD).await?;
        ensure!((count(&seen, 200), count(&seen, 503)) == (PLACES, CROWD - PLACES), "{seen:?}");
        let seen = off.statuses("?slow=all&milliseconds=500", CROWD, CROWD).await?;
        ensure!(count(&seen, 200) == CROWD, "{seen:?}");
        Ok(())
    });
}

#[test]
fn urgent_first_lets_urgent_messages_pass_a_crowd() {
    system_test(async |dir| {
        let world = World::start(dir, "URGENT_FIRST_ENABLED", &PATIENT).await?;
        let [on, off] = world.callers()?;
        let sent = [(&off, URGENT, ""), (&on, MESSAGE, ""), (&on, URGENT, "")];
        let seen = amid_a_crowd(&off, &sent).await?;
        ensure!(seen == [503, 503, 200], "without the flag, not urgent, urgent: {seen:?}");
        Ok(())
    });
}

#[test]
fn priority_override_lets_a_caller_ask_for_priority() {
    system_test(async |dir| {
        let world = World::start(dir, "PRIORITY_OVERRIDE_ENABLED", &PATIENT).await?;
        let [on, off] = world.callers()?;
        let sent = [(&off, MESSAGE, "high"), (&on, MESSAGE, "normal"), (&on, MESSAGE, "high")];
        let seen = amid_a_crowd(&off, &sent).await?;
        ensure!(seen == [503, 503, 200], "without the flag, not asked for, asked for: {seen:?}");
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
        let longest = async |caller: &Caller<'_>| {
            Ok::<_, anyhow::Error>(caller.times(slow, 4, 1).await?.into_iter().max().unwrap_or_default())
        };
        let alone = longest(&off).await?;
        ensure!(alone >= Duration::from_millis(900), "{alone:?}");
        ensure!(world.first.requests() + world.second.requests() == 4, "one attempt each");
        let beside = longest(&on).await?;
        ensure!(beside < Duration::from_millis(850), "{beside:?}");
        ensure!(world.first.requests() + world.second.requests() > 8, "a second attempt");
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
