//! The messaging preset as it is shipped: what each of its flags does, seen from both sides of it.

mod delivery;
mod observation;
mod ordering;
mod shipped;
mod timing;
mod trying;

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    client::{Client, Reply, fan_out},
    envoy::Envoy,
    issuer::{AUDIENCE, Issuer},
    paths,
    ports::Port,
    scripted::Scripted,
    shipped::{MESSAGING, policy_in, render},
    upstream::Upstream,
    wait::{SOON, eventually},
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

/// Where a message is delivered.
const MESSAGE: &str = "/api/v1/modules/v1/messaging/messages/1";

/// The organisation that has the flag of a test, and the one that has not.
const ON: &str = "on";
const OFF: &str = "off";

/// The preset in a real Envoy before two endpoints.
struct World {
    envoy: Envoy,
    client: Client,
    issuer: Issuer,
    first: Scripted,
    second: Scripted,
    _legacy: Upstream,
    listener: Port,
}

impl World {
    /// The preset, with a flag that one organisation has and another has not, at the same time, and
    /// other flags as they are wanted for both.
    async fn start(dir: &Path, flag: &str, others: &[(&str, bool)]) -> Result<Self> {
        Self::before(dir, None, 2, &policy(flag, others)?).await
    }

    /// The same, where nothing listens at the second endpoint.
    async fn half_dead(dir: &Path, flag: &str, others: &[(&str, bool)]) -> Result<(Self, Port)> {
        let dead = Port::claim()?;
        Ok((Self::before(dir, Some(dead.address()), 1, &policy(flag, others)?).await?, dead))
    }

    /// The preset with this policy, another second endpoint if one is given, and as many endpoints
    /// that answer probes.
    async fn before(dir: &Path, other: Option<SocketAddr>, healthy: u64, policy: &Value) -> Result<Self> {
        let issuer = Issuer::start().await?;
        let second = Scripted::start("second").await?;
        let address = other.unwrap_or(second.address());
        let (first, legacy) = (Scripted::start("first").await?, Upstream::start("legacy").await?);
        let listener = Port::claim()?;
        let mut policy = policy.clone();
        let provider = &mut policy["providers"][0];
        provider["issuer"] = json!(issuer.url());
        provider["audiences"] = json!([AUDIENCE]);
        provider["algorithms"] = json!(["RS256"]);
        provider["jwks"] = issuer.jwks();
        let upstreams =
            [(9001, first.address().port()), (9002, address.port()), (9000, legacy.address().port())];
        let config = render(MESSAGING, listener.address(), &upstreams, &paths::filter()?, &policy)?;
        // One worker, so that round robin is one circle.
        let mut envoy = Envoy::start(dir, &config, 1).await?;
        envoy.ready().await?;
        envoy.accepts(listener.address()).await?;
        eventually(SOON, "the first probes", async || {
            let seen = envoy.stat("cluster.messaging.membership_healthy").await?;
            let last = envoy.stat("cluster.messaging.least-request.unbroken.membership_healthy").await?;
            ensure!(
                (seen, last) == (healthy, healthy),
                "{seen} and {last} of {healthy} endpoints are healthy"
            );
            Ok(())
        })
        .await?;
        let client = Client::new(listener.address())?;
        Ok(Self { envoy, client, issuer, first, second, _legacy: legacy, listener })
    }

    /// A caller of an organisation.
    fn caller(&self, organisation: &str) -> Result<Caller<'_>> {
        Ok(Caller { world: self, bearer: format!("Bearer {}", self.issuer.token(organisation, &[])?) })
    }

    /// Callers of the organisation that has the flag, and of the one that has not.
    fn callers(&self) -> Result<[Caller<'_>; 2]> {
        Ok([self.caller(ON)?, self.caller(OFF)?])
    }

    /// The sum over the module's clusters.
    async fn clusters(&self, stat: &str) -> Result<u64> {
        let stats = self.envoy.stats().await?;
        let ours = |name: &str| name.starts_with("cluster.messaging") && name.ends_with(&format!(".{stat}"));
        Ok(stats.iter().filter(|(name, _)| ours(name)).map(|(_, value)| value).sum())
    }
}

/// Somebody with a token.
struct Caller<'a> {
    world: &'a World,
    bearer: String,
}

impl Caller<'_> {
    async fn send(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Reply> {
        let all = [&[("authorization", self.bearer.as_str())], headers].concat();
        self.world.client.send(reqwest::Method::POST, path, &all, body).await
    }

    async fn deliver(&self, script: &str) -> Result<Reply> {
        self.send(&format!("{MESSAGE}{script}"), &[], Vec::new()).await
    }

    /// Delivers several, so many at a time: the statuses.
    async fn statuses(&self, script: &str, count: usize, at_once: usize) -> Result<Vec<u16>> {
        fan_out(0..count, at_once, async |_| Ok(self.deliver(script).await?.status)).await
    }

    /// Delivers several, so many at a time: how long each took.
    async fn times(&self, script: &str, count: usize, at_once: usize) -> Result<Vec<Duration>> {
        let time = async |_| {
            let start = Instant::now();
            self.deliver(script).await?;
            Ok(start.elapsed())
        };
        fan_out(0..count, at_once, time).await
    }
}

/// The shipped policy with a flag on for one organisation only, and others set for all.
fn policy(flag: &str, others: &[(&str, bool)]) -> Result<Value> {
    let mut policy = policy_in(MESSAGING)?;
    let flags = policy["flags"].as_array_mut().context("flags")?;
    for (key, on) in others {
        find(flags, key)?["percentage"] = json!(if *on { 100 } else { 0 });
    }
    find(flags, flag)?["organisations"] = json!({"on": [ON], "off": [OFF]});
    Ok(policy)
}

fn find<'a>(flags: &'a mut [Value], key: &str) -> Result<&'a mut Value> {
    flags.iter_mut().find(|flag| flag["key"] == key).with_context(|| format!("no flag {key}"))
}

/// How many have this status.
fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|seen| **seen == status).count()
}
