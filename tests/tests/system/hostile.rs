//! Traffic that no honest client sends, through a real Envoy and the real filter: everything is
//! answered in good form, and nothing about Envoy changes by it.

use anyhow::{Context as _, Result, bail, ensure};
use rampart_tests::{
    client::{Client, fan_out},
    envoy::Envoy,
    issuer::{AUDIENCE, Issuer, base64url},
    modules::TRAPPING,
    paths,
    ports::Port,
    random::Random,
    raw::{Answer, ask_all},
    shipped::{StaticVariant, example_policy},
    upstream::Upstream,
    wait::SOON,
    workdir::system_test,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

/// How many requests are sent. `scripts/soak` makes it ten times as many.
const REQUESTS: usize = 20_000;

/// What Envoy may grow by, in KiB, once every kind of request has been seen: its allocator keeps
/// pages that big requests needed, so this bounds a leak of some hundred bytes per request.
const GROWTH_KIB: u64 = 8 * 1024;

/// Requests that Envoy is warmed up with, before its memory is looked at.
const WARM_UP: usize = 2_000;

const REPORTS: &str = "/api/v1/modules/v1/analytics/reports";

/// Writes hostile requests, the same for the same seed and token.
struct Attacker {
    random: Random,
    token: String,
    /// Whether this request may have what Envoy refuses by itself: control characters, and names
    /// that are none. Most may not, or the filter would see little of the rest.
    wild: bool,
}

impl Attacker {
    fn requests(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.request()).collect()
    }

    fn request(&mut self) -> Vec<u8> {
        self.wild = self.random.below(10) == 0;
        // Envoy refuses methods that it does not know.
        let methods: &[&&str] =
            if self.wild { &[&"BREW", &"get"] } else { &[&"GET", &"GET", &"HEAD", &"DELETE"] };
        let method = *self.random.pick(methods);
        let mut request = [method.as_bytes(), b" ", &self.path()[..], b" HTTP/1.1\r\nhost: a\r\n"].concat();
        if self.random.below(8) > 0 {
            let credentials = self.credentials();
            request.extend([b"authorization: ", &credentials[..], b"\r\n"].concat());
        }
        match self.random.below(400) {
            // Beyond what Envoy lets through, and just below it.
            0 => self.headers(&mut request, 1_000, 20),
            1 => self.headers(&mut request, 6, 16_000),
            2..6 => self.headers(&mut request, 90, 20),
            6..10 => self.headers(&mut request, 3, 16_000),
            _ => {
                let count = self.random.below(4);
                self.headers(&mut request, count, 40);
            }
        }
        request.extend(b"\r\n");
        request
    }

    /// Header lines, with values of about this length.
    fn headers(&mut self, request: &mut Vec<u8>, count: usize, length: usize) {
        for _ in 0..count {
            let names: [&[u8]; 9] = [
                b"authorization",
                b"x-rampart-cluster",
                b"x-rampart-organisation",
                b"cookie",
                b"x-any",
                b"x\xff\xfe",
                b"x y",
                b"",
                b"accept",
            ];
            // The last ones are no names.
            let among = if self.wild { names.len() } else { 5 };
            let name = names[self.random.below(among)];
            let value = self.bytes(length);
            request.extend([name, b": ", &value, b"\r\n"].concat());
        }
    }

    fn path(&mut self) -> Vec<u8> {
        let start = *self.random.pick(&[
            &REPORTS,
            &REPORTS,
            &"/api/v1/modules/v1/analytics/reports/7",
            &"/api/v1/modules/v1/nothing",
            &"/api/v1/modules/v2/analytics/reports",
            &"/api/v1/modules/",
            &"/",
            &"/api/v1/modules/v1/analytics/%2e%2e/x;a/",
        ]);
        let mut path = start.as_bytes().to_vec();
        match self.random.below(40) {
            0 => path.extend(vec![b'a'; 8_192]),
            1 => path.extend(b"/..".repeat(500)),
            2 => path.extend(b"/%00%ff%2f;?#".repeat(50)),
            3 => path.extend(self.bytes(200).iter().filter(|byte| **byte > b' ')),
            4 => path.extend(b"?a=b&c=%"),
            _ => {}
        }
        path
    }

    fn credentials(&mut self) -> Vec<u8> {
        let token = self.token.clone();
        let parts: Vec<&str> = token.split('.').collect();
        let deep =
            |depth| base64url(format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
        let text = match self.random.below(12) {
            0 => return self.bytes(60),
            1 => token[..self.random.below(token.len())].to_owned(),
            2 => format!("{}.{}.{}", deep(self.random.below(5_000)), parts[1], parts[2]),
            3 => format!("{}.{}.{}", parts[0], deep(self.random.below(5_000)), parts[2]),
            4 => format!("{token}, Bearer {token}"),
            5 => ".".repeat(self.random.below(2_000)),
            6 => base64url(&self.bytes(4_000)),
            7..10 => {
                let mut bytes = token.into_bytes();
                let at = self.random.below(bytes.len());
                bytes[at] = 0x21 + self.random.below(0x5e) as u8;
                return [b"Bearer ", &bytes[..]].concat();
            }
            _ => token,
        };
        format!("Bearer {text}").into_bytes()
    }

    /// Any bytes but those that end a line, which would make of one request another number.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let length = length / 2 + self.random.below(length / 2 + 1);
        let lowest = if self.wild { 0 } else { 0x20 };
        let byte = |_| (lowest + self.random.below(256 - lowest)) as u8;
        (0..length)
            .map(byte)
            .map(|byte| if matches!(byte, b'\n' | b'\r' | 0x7f) { b' ' } else { byte })
            .collect()
    }
}

/// What HTTP says of an answer has been checked by its reader; this is what Rampart promises.
fn check(answer: &Answer) -> Result<()> {
    let problem = answer.header("content-type") == Some("application/problem+json");
    if problem && !answer.body.is_empty() {
        let body: Value = serde_json::from_slice(&answer.body).context("a problem that is no JSON")?;
        ensure!(body["status"] == answer.status && body["reason"].is_string(), "{body}");
    }
    match answer.status {
        200 | 400 | 401 | 403 | 404 | 405 | 431 => Ok(()),
        // The filter has keys and a policy: it must always be able to judge.
        status => bail!("{status}: {answer:?}"),
    }
}

/// Counters and gauges that must not move.
async fn constants(envoy: &Envoy) -> Result<BTreeMap<String, u64>> {
    let mut stats = envoy.stats().await?;
    stats.retain(|name, _| {
        name.contains("vm_reload") || (name.starts_with("wasm.") && name.ends_with(".active"))
    });
    Ok(stats)
}

/// Sends hostile requests to the shipped configuration with this module, and good ones after them.
async fn bombard(dir: &Path, module: PathBuf, count: usize) -> Result<()> {
    let (issuer, upstream, listener) =
        (Issuer::start().await?, Upstream::start("upstream").await?, Port::claim()?);
    let mut policy = example_policy()?;
    let provider = &mut policy["providers"][0];
    provider["issuer"] = json!(issuer.url());
    provider["audiences"] = json!([AUDIENCE]);
    provider["algorithms"] = json!(["RS256", "ES256"]);
    provider["jwks"] = issuer.jwks();
    let config = StaticVariant {
        listener: listener.address(),
        analytics: upstream.address(),
        legacy: upstream.address(),
        module: &module,
        policy: &policy,
    };
    let mut envoy = Envoy::start(dir, &config.render()?, 2).await?;
    envoy.ready().await?;
    envoy.accepts(listener.address()).await?;
    let token = issuer.p256().sign(&issuer.claims("acme", &["analytics:read"]))?;
    let client = Client::new(listener.address())?;

    let mut attacker = Attacker { random: Random::new(1), token: token.clone(), wild: false };
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    let (mut before, mut sent) = (None, 0);
    while sent < count {
        if sent >= WARM_UP && before.is_none() {
            before = Some((constants(&envoy).await?, envoy.resident_kib()?));
        }
        // As many as are written at once, so that a long run needs no more memory than a short one.
        let requests = attacker.requests(1_000.min(count - sent));
        sent += requests.len();
        let parts: Vec<&[Vec<u8>]> = requests.chunks(50).collect();
        let answers =
            fan_out(parts, 8, async |part: &[Vec<u8>]| ask_all(listener.address(), part, SOON).await);
        for (request, answer) in requests.iter().zip(answers.await?.concat()) {
            let start = || String::from_utf8_lossy(&request[..request.len().min(2_000)]).into_owned();
            check(&answer).with_context(|| format!("the answer to {:?}", start()))?;
            *statuses.entry(answer.status).or_default() += 1;
        }
    }
    let (constant, resident) = before.context("more requests than the warm-up")?;
    ensure!(client.get(REPORTS, Some(&token)).await?.status == 200, "a good request is no longer served");
    let after = constants(&envoy).await?;
    ensure!(after == constant, "before {constant:?}, after {after:?}");
    let reloads: Vec<_> = after.iter().filter(|(name, _)| name.contains("vm_reload")).collect();
    ensure!(!reloads.is_empty() && reloads.iter().all(|(_, count)| **count == 0), "{reloads:?}");
    let resident_after = envoy.resident_kib()?;
    println!("{count} requests: {resident} KiB, then {resident_after} KiB; {statuses:?}");
    let grown = resident_after.saturating_sub(resident);
    ensure!(grown < GROWTH_KIB, "{grown} KiB more after {count} requests: {statuses:?}");
    // Each happens often, or the requests are not what this test thinks they are.
    for status in [200, 400, 401, 404, 405, 431] {
        ensure!(statuses.get(&status).is_some_and(|times| *times > count / 1_000), "{status}: {statuses:?}");
    }
    Ok(())
}

#[test]
fn hostile_traffic_is_answered_and_changes_nothing() {
    let count = if env::var_os("RAMPART_SOAK").is_some() { 10 * REQUESTS } else { REQUESTS };
    system_test(async |dir| bombard(dir, paths::filter()?, count).await);
}

#[test]
fn a_filter_that_traps_does_not_pass_for_one_that_withstands() {
    system_test(async |dir| {
        let error = bombard(dir, TRAPPING.write_to(dir)?, REQUESTS).await.err();
        let error = format!("{:#}", error.context("a trap went unnoticed")?);
        ensure!(error.contains("503"), "{error}");
        Ok(())
    });
}
