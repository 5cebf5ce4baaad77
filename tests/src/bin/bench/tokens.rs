//! Tokens made beforehand, and the requests that carry them, as bytes.

use crate::variants::{Tokens, lua_bucket};
use anyhow::{Result, ensure};
use rampart_engine::{
    bucket::{Bucketing, Generation},
    decide::{Context, decide},
    decision::Decision,
    jwks::PublicKey,
    jwt::CompactJws,
    policy::Policy,
    token_cache::TokenCache,
    verify::Verifier,
};
use rampart_tests::{
    issuer::{AUDIENCE, Key, now},
    shipped::example_policy,
};
use serde_json::{Value, json};
use std::{cell::Cell, sync::Arc, thread};

/// What every request asks for.
pub(crate) const PATH: &str = "/api/v1/modules/v1/analytics/reports";

/// A pool of so many tokens, sent in turn, is always new to the cache, which forgets a token after
/// at most 20,480 others. `check_against_the_cache` holds this against the engine's own cache.
pub(crate) const COLD: usize = 24_000;

const FLAG: &str = "analytics_module";
const PERCENTAGE: u32 = 50;
const ISSUER: &str = "https://issuer.example";

pub(crate) struct Pools {
    rsa: Vec<String>,
    ec: Vec<String>,
    /// Lacks the permission; belongs to an organisation that is not enrolled.
    strangers: [String; 2],
    policy: Value,
    share: usize,
}

impl Pools {
    /// Signs all tokens; `share` is how much of the full size, in thousandth parts.
    pub(crate) fn mint(share: usize) -> Result<Self> {
        let (rsa, ec) = (Key::rsa("rsa-1")?, Key::p256("ec-1")?);
        let mut policy = example_policy()?;
        let provider = &mut policy["providers"][0];
        provider["issuer"] = json!(ISSUER);
        provider["audiences"] = json!([AUDIENCE]);
        provider["algorithms"] = json!(["RS256", "ES256"]);
        provider["jwks"] = json!({ "keys": [rsa.jwk(), ec.jwk()] });
        ensure!(policy["flags"][0]["key"] == FLAG, "{policy}");
        policy["flags"][0]["percentage"] = json!(PERCENTAGE);

        let size = COLD * share / 1_000;
        let enrolled: Vec<String> = organisations(true).take(size).collect();
        let good = ["analytics:read", "reports:read", "reports:write"];
        let outside = organisations(false).next().unwrap_or_default();
        let strangers = [rsa.sign(&claims(&enrolled[0], &good[1..]))?, rsa.sign(&claims(&outside, &good))?];
        let (rsa, ec) = (sign(&rsa, &enrolled, &good)?, sign(&ec, &enrolled, &good)?);
        Ok(Self { rsa, ec, strangers, policy, share })
    }

    pub(crate) fn policy(&self) -> &Value {
        &self.policy
    }

    /// Tokens with which a variant shows what it refuses, and whom it sends elsewhere.
    pub(crate) fn strangers(&self) -> &[String; 2] {
        &self.strangers
    }

    /// A token that every variant lets through to the module.
    pub(crate) fn good(&self) -> &str {
        &self.rsa[0]
    }

    fn pool(&self, tokens: Tokens) -> &[String] {
        match tokens {
            Tokens::Rsa(count) => &self.rsa[..(count * self.share).div_ceil(1_000)],
            Tokens::EveryRsa => &self.rsa,
            Tokens::EveryEc => &self.ec,
        }
    }

    /// The requests with these tokens: what a browser's application would send.
    pub(crate) fn requests(&self, tokens: Tokens) -> Arc<[Vec<u8>]> {
        let request = |token: &String| {
            format!(
                "GET {PATH} HTTP/1.1\r\nhost: api.example\r\nuser-agent: bench/1\r\n\
                 accept: application/json\r\naccept-encoding: gzip\r\nauthorization: Bearer {token}\r\n\r\n"
            )
        };
        self.pool(tokens).iter().map(|token| request(token).into_bytes()).collect()
    }

    /// Sends the pools twice through the engine's own cache: what is to be cached must be found the
    /// second time, and what is to be cold must not.
    pub(crate) fn check_against_the_cache(&self) -> Result<()> {
        let policy = Policy::from_json(self.policy.to_string().as_bytes());
        let policy = policy.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let checks = |tokens| verifications(&policy, self.pool(tokens));
        ensure!(checks(Tokens::Rsa(10_000)) == 0, "the cache does not hold 10,000 tokens");
        // Smaller pools are not sent twice.
        if self.rsa.len() >= COLD {
            ensure!(checks(Tokens::EveryRsa) == COLD, "the cache holds tokens of the cold pool");
        }
        Ok(())
    }
}

/// How many signatures are verified when tokens are sent that have all been sent before.
fn verifications(policy: &Policy, pool: &[String]) -> usize {
    struct Counting(Cell<usize>);
    impl Verifier for Counting {
        fn verify(&self, _: &PublicKey, _: &CompactJws<'_>) -> bool {
            self.0.set(self.0.get() + 1);
            true
        }
    }
    let (verifier, mut cache, now) = (Counting(Cell::new(0)), TokenCache::new([7; 16]), now());
    let mut send_all = || {
        let before = verifier.0.get();
        for token in pool {
            let bearer = format!("Bearer {token}");
            let headers = &[(":method", "GET"), (":path", PATH), ("authorization", &bearer)][..];
            let mut context = Context { now, verifier: &verifier, tokens: &mut cache };
            assert!(matches!(decide(policy, &headers, &mut context), Decision::Forward(_)));
        }
        verifier.0.get() - before
    };
    send_all();
    send_all()
}

/// Organisations that Rampart and the native chain agree to enrol, or not to.
fn organisations(enrolled: bool) -> impl Iterator<Item = String> {
    let bucketing = Bucketing::new(FLAG, Generation::default());
    (0..).map(|number| format!("org-{number:06}")).filter(move |name| {
        let native = lua_bucket(FLAG, name) < u64::from(PERCENTAGE);
        (bucketing.bucket(name, 100) < PERCENTAGE) == enrolled && native == enrolled
    })
}

fn claims(organisation: &str, permissions: &[&str]) -> Value {
    let (iat, sub) = (now(), format!("auth0|{organisation}"));
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": sub, "iat": iat, "exp": iat + 86_400,
        "org_id": organisation, "permissions": permissions, "scope": "openid profile email",
    })
}

/// On all cores: RSA signatures take their time.
fn sign(key: &Key, organisations: &[String], permissions: &[&str]) -> Result<Vec<String>> {
    let share = organisations.len().div_ceil(thread::available_parallelism()?.get());
    let sign = |part: &[String]| -> Result<Vec<String>> {
        part.iter().map(|organisation| key.sign(&claims(organisation, permissions))).collect()
    };
    thread::scope(|scope| {
        let parts: Vec<_> = organisations.chunks(share).map(|part| scope.spawn(move || sign(part))).collect();
        let parts: Result<Vec<_>> = parts.into_iter().map(|part| part.join().expect("signing")).collect();
        Ok(parts?.concat())
    })
}
