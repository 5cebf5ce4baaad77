//! A policy, an issuer and a clock, and one line for what the engine answers.

use std::cell::Cell;

use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use rampart_engine::decide::Context;
use rampart_engine::decision::Decision;
use rampart_engine::jwks::PublicKey;
use rampart_engine::jwt::CompactJws;
use rampart_engine::policy::Policy;
use rampart_engine::request::Headers;
use rampart_engine::token_cache::TokenCache;
use rampart_engine::verify::{PureRust, Verifier};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// The time in all tests, until one moves it.
pub(crate) const NOW: u64 = 1_800_000_000;

/// See the module.
pub(crate) struct World {
    /// The policy as sent; compiled anew for each decision.
    pub(crate) policy: Value,
    /// The clock.
    pub(crate) now: u64,
    key: EcdsaKeyPair,
    tokens: TokenCache,
    verifier: Counting,
}

/// Counts how often a signature is checked.
#[derive(Default)]
struct Counting(Cell<usize>);

impl Verifier for Counting {
    fn verify(&self, key: &PublicKey, jws: &CompactJws<'_>) -> bool {
        self.0.set(self.0.get() + 1);
        PureRust.verify(key, jws)
    }
}

/// Claims of a token that is believed for an hour.
pub(crate) fn claims(organisation: &str) -> Value {
    json!({
        "iss": "https://issuer.test", "aud": "rampart", "exp": NOW + 3_600,
        "org_id": organisation, "sub": "alice"
    })
}

/// Base64url without padding.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap()
}

/// Sets a top-level member of the policy.
pub(crate) fn set(policy: &mut Value, pointer: &str, value: Value) {
    policy[pointer.trim_start_matches('/')] = value;
}

impl World {
    /// Modules, flags and an issuer for every case.
    pub(crate) fn new() -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": base64url(x), "y": base64url(y)});
        let gate = |when_off: &str| json!([{"flag": "off", "when_off": when_off}]);
        let policy = json!({
            "schema": 1,
            "revision": 1,
            "legacy_cluster": "legacy",
            "admin_roles": ["root"],
            "providers": [{
                "name": "main", "issuer": "https://issuer.test", "audiences": ["rampart"],
                "algorithms": ["ES256", "RS256"], "jwks": {"keys": [jwk]}
            }],
            "flags": [{"key": "rollout", "rollout_group": "new-checkout", "percentage": 50}, {"key": "told", "percentage": 100}, {"key": "off"}],
            "modules": [
                {"id": "analytics", "version": "v1", "namespace": "analytics", "cluster": "module/analytics/v1",
                 "gates": [{"flag": "rollout", "when_off": "legacy"}], "flags": ["told"],
                 "routes": [{"methods": ["GET"], "path": "/data"}]},
                {"id": "analytics2", "version": "v2", "namespace": "analytics", "cluster": "module/analytics/v2"},
                {"id": "levels", "version": "v1", "namespace": "levels", "cluster": "levels", "routes": [
                    {"path": "/none", "auth": {"level": "none"}},
                    {"path": "/basic"},
                    {"path": "/basic-with-list", "auth": {"permissions": ["read"]}},
                    {"path": "/permission", "auth": {"level": "permission", "permissions": ["read", "write"]}},
                    {"path": "/role", "auth": {"level": "role", "roles": ["auditor", "owner"]}},
                    {"path": "/admin", "auth": {"level": "admin"}}
                ]},
                {"id": "gates", "version": "v1", "namespace": "gates", "cluster": "gates", "routes": [
                    {"path": "/legacy", "gates": gate("legacy")},
                    {"path": "/not-found", "gates": gate("not_found")},
                    {"path": "/forbidden", "gates": gate("forbidden")}
                ]}
            ]
        });
        Self { policy, now: NOW, key, tokens: TokenCache::new([7; 16]), verifier: Counting::default() }
    }

    /// Edits a flag.
    pub(crate) fn flag(&mut self, key: &str, edit: impl FnOnce(&mut Value)) {
        let flags = self.policy["flags"].as_array_mut().unwrap();
        edit(flags.iter_mut().find(|flag| flag["key"] == key).unwrap());
    }

    /// Adds a module, `v1` of the namespace that is its id.
    pub(crate) fn module(&mut self, id: &str, mut module: Value) {
        for (member, value) in [("id", id), ("version", "v1"), ("namespace", id), ("cluster", id)] {
            module[member] = value.into();
        }
        self.policy["modules"].as_array_mut().unwrap().push(module);
    }

    /// A token of the policy's issuer.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(r#"{"alg":"ES256","kid":"ec"}"#, &claims.to_string())
    }

    /// A token of any header and payload, with a good ES256 signature.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
        let signature = self.key.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", base64url(signature.as_ref()))
    }

    /// GET below `/api/v1/modules` with a bearer token.
    pub(crate) fn get(&mut self, path: &str, token: &str) -> String {
        self.ask(path, token, |decision| line(&decision))
    }

    /// The flags that the upstream is told of.
    pub(crate) fn flags_told(&mut self, path: &str, token: &str) -> Vec<String> {
        self.ask(path, token, |decision| match decision {
            Decision::Forward(forward) => forward.flags.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        })
    }

    /// Where a request goes, and what else the shell is told to write.
    pub(crate) fn effects(&mut self, method: &str, path: &str, token: &str) -> String {
        let (path, token) = (format!("/api/v1/modules{path}"), format!("Bearer {token}"));
        let headers = [(":method", method), (":path", &*path), ("authorization", &*token)];
        self.run(&headers, |decision| match decision {
            Decision::Forward(forward) => {
                let mut words = vec![forward.cluster.to_owned()];
                words.extend(forward.headers.iter().map(|(name, value)| format!("{name}={value}")));
                let path = forward.path.iter().map(|path| String::from_utf8_lossy(path).into_owned());
                words.extend(path.map(|path| format!("path={path}")));
                let told = forward.record.and_then(|record| record.configuration.as_deref());
                words.extend(told.map(|told| format!("config={told}")));
                words.extend(forward.mirror.map(|cluster| format!("mirror={cluster}")));
                words.join(" ")
            }
            other => panic!("{other:?}"),
        })
    }

    /// Any request.
    pub(crate) fn decide(&mut self, headers: &[(&str, &str)]) -> String {
        self.run(headers, |decision| line(&decision))
    }

    /// How many tokens are cached.
    pub(crate) fn cached(&self) -> usize {
        self.tokens.len()
    }

    /// How often a signature was checked.
    pub(crate) fn signatures_checked(&self) -> usize {
        self.verifier.0.get()
    }

    fn ask<T>(&mut self, path: &str, token: &str, read: impl FnOnce(Decision<'_>) -> T) -> T {
        let (path, token) = (format!("/api/v1/modules{path}"), format!("Bearer {token}"));
        self.run(&[(":method", "GET"), (":path", &path), ("authorization", &token)], read)
    }

    /// The policy, compiled.
    pub(crate) fn compiled(&self) -> Policy {
        Policy::from_json(self.policy.to_string().as_bytes()).unwrap()
    }

    /// Any request at all, against a policy compiled before.
    pub(crate) fn decide_bytes<'p>(
        &mut self,
        policy: &'p Policy,
        headers: &[(Vec<u8>, Vec<u8>)],
    ) -> Decision<'p> {
        struct Bytes<'a>(&'a [(Vec<u8>, Vec<u8>)]);
        impl Headers for Bytes<'_> {
            fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
                self.0.iter().map(|(name, value)| (&name[..], &value[..]))
            }
        }
        let mut context = Context { now: self.now, verifier: &self.verifier, tokens: &mut self.tokens };
        rampart_engine::decide(policy, &Bytes(headers), &mut context)
    }

    fn run<T>(&mut self, headers: &[(&str, &str)], read: impl FnOnce(Decision<'_>) -> T) -> T {
        let policy = self.compiled();
        let mut context = Context { now: self.now, verifier: &self.verifier, tokens: &mut self.tokens };
        read(rampart_engine::decide(&policy, &headers, &mut context))
    }
}

fn line(decision: &Decision<'_>) -> String {
    match decision {
        Decision::Pass => "pass".into(),
        Decision::Forward(forward) => format!("{} {}", forward.arm.as_str(), forward.cluster),
        Decision::Refuse(refusal, _) => {
            let reply = refusal.reply();
            let body: Value = serde_json::from_str(&reply.body).unwrap();
            assert_eq!(body["status"], reply.status);
            assert_eq!(body["reason"], refusal.reason.as_str());
            format!("{} {}", reply.status, refusal.reason.as_str())
        }
    }
}
