//! Which endpoint gets a request, by flags that choose the order; and what happens when two do.

use super::{Caller, World, count};
use anyhow::{Result, ensure};
use futures::future::try_join;
use rampart_tests::{
    wait::{SOON, eventually},
    workdir::system_test,
};

/// How many requests each endpoint has had of late.
fn shares(world: &World, before: &mut [usize; 2]) -> [usize; 2] {
    let now = [world.first.requests(), world.second.requests()];
    let shares = [now[0] - before[0], now[1] - before[1]];
    *before = now;
    shares
}

#[test]
fn intelligent_ordering_prefers_the_endpoint_that_is_less_busy() {
    system_test(async |dir| {
        let world = World::start(dir, "INTELLIGENT_ORDERING_ENABLED", &[]).await?;
        let [on, off] = world.callers()?;
        let [first, second] = while_the_second_is_busy(&world, &off).await?;
        ensure!((first, second) == (6, 6), "one after another: {first} and {second}");
        let [first, second] = while_the_second_is_busy(&world, &on).await?;
        // It is drawn from eight picks with replacement, so once in a while it never meets the idle one.
        ensure!(first >= 10, "{first} to the idle one, {second} to the busy one");
        Ok(())
    });
}

/// Where twelve requests go while the second endpoint has others to answer.
async fn while_the_second_is_busy(world: &World, caller: &Caller<'_>) -> Result<[usize; 2]> {
    let before = [world.first.requests(), world.second.requests()];
    let held = caller.statuses("?slow=second&milliseconds=900", 16, 16);
    let others = async {
        eventually(SOON, "all held at the second endpoint", async || {
            let [first, second] = shares(world, &mut before.clone());
            let active = world.clusters("upstream_rq_active").await?;
            let settled = first + second == 16 && second > 0 && active == second as u64;
            ensure!(settled, "{first} and {second} came, {active} are there");
            Ok(())
        })
        .await?;
        let mut before = [world.first.requests(), world.second.requests()];
        caller.statuses("", 12, 1).await?;
        Ok(shares(world, &mut before))
    };
    Ok(try_join(held, others).await?.1)
}

#[test]
fn custom_ordering_asks_the_first_endpoint_while_there_is_one() {
    system_test(async |dir| {
        let world = World::start(dir, "CUSTOM_ORDERING_ENABLED", &[]).await?;
        let ([on, off], mut before) = (world.callers()?, [0, 0]);
        off.statuses("", 10, 1).await?;
        ensure!(shares(&world, &mut before) == [5, 5], "{before:?}");
        on.statuses("", 10, 1).await?;
        ensure!(shares(&world, &mut before) == [10, 0], "{before:?}");
        // The circuit breaker takes the first one out, and the order goes on to the second.
        let seen = on.statuses("?fail=first", 20, 1).await?;
        let [first, second] = shares(&world, &mut before);
        ensure!(first >= 5 && second > 0, "{first} and {second}: {seen:?}");
        ensure!(seen.last() == Some(&200), "{seen:?}");
        Ok(())
    });
}

#[test]
fn mutex_validation_refuses_two_orderings_at_once() {
    system_test(async |dir| {
        let both = [("INTELLIGENT_ORDERING_ENABLED", true), ("CUSTOM_ORDERING_ENABLED", true)];
        let world = World::start(dir, "MUTEX_VALIDATION_ENABLED", &both).await?;
        let ([on, off], mut before) = (world.callers()?, [0, 0]);
        ensure!(count(&on.statuses("", 4, 1).await?, 409) == 4, "refused");
        ensure!(shares(&world, &mut before) == [0, 0], "no endpoint was asked");
        ensure!(count(&off.statuses("", 4, 1).await?, 200) == 4, "the stated order counts");
        ensure!(shares(&world, &mut before) == [4, 0], "{before:?}");
        Ok(())
    });
}

#[test]
fn flags_that_choose_the_cluster_combine() {
    system_test(async |dir| {
        let others = [("HEALTH_CHECKS_ENABLED", false), ("CIRCUIT_BREAKER_ENABLED", false)];
        let world = World::start(dir, "INTELLIGENT_ORDERING_ENABLED", &others).await?;
        let [on, off] = world.callers()?;
        ensure!(count(&on.statuses("", 2, 1).await?, 200) == 2);
        ensure!(count(&off.statuses("", 3, 1).await?, 200) == 3);
        served(&world, "messaging.least-request.unprobed.unbroken", 2).await?;
        served(&world, "messaging.unprobed.unbroken", 3).await?;
        let outside = world.client.get("/outside", None).await?.served_by();
        ensure!(outside == "legacy", "what the module does not serve is left alone: {outside}");
        Ok(())
    });
}

async fn served(world: &World, cluster: &str, requests: u64) -> Result<()> {
    let seen = world.envoy.stat(&format!("cluster.{cluster}.upstream_rq_total")).await?;
    ensure!(seen == requests, "{cluster} served {seen} in place of {requests}");
    Ok(())
}
