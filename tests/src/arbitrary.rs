//! Policies and requests that nobody wrote: sound ones, which use everything a policy can say, and
//! requests that lead into every corner of them. The same for the same seed.

mod policy;

use crate::{
    corpus::keys::{ALGORITHMS, Keys},
    issuer::{Key, base64url, unsigned},
    random::Random,
};
use anyhow::Result;
use serde_json::{Value, json};

/// The time by which tokens are good or not.
pub const NOW: u64 = 1_800_000_000;

/// A request's headers, pseudo-headers among them.
pub type Request = Vec<(String, String)>;

/// What is asked of: organisations and subjects that policies name, and others.
const ORGANISATIONS: [&str; 6] = ["acme", "globex", "initech", "umbrella", "wayne", "stark"];
const SUBJECTS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const PERMISSIONS: [&str; 3] = ["read", "write", "audit"];
const ROLES: [&str; 3] = ["admin", "analyst", "owner"];
const ISSUERS: [&str; 2] = ["https://one.test", "https://two.test"];

/// Patterns that may stand side by side in one module.
const PATTERNS: [&str; 6] = ["/a", "/a/{id}", "/a/b", "/{any}/c", "/d/{*rest}", "/e/{id}/f"];

/// What else requests ask for below a namespace.
const PATHS: [&str; 6] = ["/a", "/a/b", "/x/c", "/nothing/here", "", "/a/%2e/b"];

/// Makes policies and requests.
pub struct Arbitrary {
    random: Random,
    /// One key for each issuer, and one that calls itself the first's and that no policy knows.
    keys: [Key; 3],
    /// Keys of every other kind, which both issuers have.
    others: Keys,
}

impl Arbitrary {
    /// A sequence of its own for each seed. Keys and signatures differ from run to run; what they
    /// sign does not.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn new(seed: u64) -> Result<Self> {
        Ok(Self {
            random: Random::new(seed),
            keys: [Key::p256("one")?, Key::p256("two")?, Key::p256("one")?],
            others: Keys::generate()?,
        })
    }

    /// The same document with one byte changed: it may still be a policy, and need not be.
    pub fn damaged(&mut self, policy: &Value) -> Vec<u8> {
        let mut bytes = policy.to_string().into_bytes();
        let at = self.random.below(bytes.len());
        bytes[at] = b"0179\"{}[],:-aez \xff"[self.random.below(16)];
        bytes
    }

    /// A request to somewhere within the policy or beside it, with some token or none.
    ///
    /// # Errors
    ///
    /// When no token can be signed.
    pub fn request(&mut self, policy: &Value) -> Result<Request> {
        let method = self.one_of(&["GET", "GET", "GET", "HEAD", "POST", "DELETE", "OPTIONS"]);
        let mut request =
            vec![(":method".to_owned(), method.to_owned()), (":path".to_owned(), self.path(policy))];
        if !self.chance(10) {
            request.push(("x-request-id".to_owned(), format!("request-{}", self.random.below(100_000))));
        }
        let tokens = [0, 1, 1, 1, 1, 1, 1, 1, 1, 2][self.random.below(10)];
        for _ in 0..tokens {
            let token = self.token()?;
            request.push(match self.random.below(6) {
                0 => ("x-token".to_owned(), token),
                1 => ("cookie".to_owned(), format!("theme=dark; session={token}; lang=en")),
                _ => ("authorization".to_owned(), format!("Bearer {token}")),
            });
        }
        if self.chance(60) {
            request.push(("x-tenant".to_owned(), self.one_of(&ORGANISATIONS).to_owned()));
        }
        // What clients may send and Rampart sets itself.
        for name in ["x-rampart-cluster", "x-rampart-flags", "x-envoy-max-retries", "x-envoy-original-path"] {
            if self.chance(15) {
                request.push((name.to_owned(), "client".to_owned()));
            }
        }
        Ok(request)
    }

    fn path(&mut self, policy: &Value) -> String {
        if self.chance(5) {
            return self
                .one_of(&["/", "/health?x=1", "/api/v1/modules", "/api/v1/modules/v1/%2e%2e/a"])
                .to_owned();
        }
        let modules = policy["modules"].as_array().map(Vec::as_slice).unwrap_or_default();
        let module = &modules[self.random.below(modules.len())];
        let of = |member: &str| module[member].as_str().unwrap_or_default().to_owned();
        let version = if self.chance(5) { "v9".to_owned() } else { of("version") };
        let namespace = match self.random.below(20) {
            0 => "nowhere".to_owned(),
            1..4 => format!("{}-alias", of("namespace")),
            _ => of("namespace"),
        };
        let query = self.one_of(&["", "", "?q=1", "?a=/../b"]);
        let routes = module["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let path = if routes.is_empty() || self.chance(10) {
            self.one_of(&PATHS).to_owned()
        } else {
            let pattern = routes[self.random.below(routes.len())]["path"].as_str().unwrap_or_default();
            let [id, any] = ["7", "x"].map(|other| self.one_of(&[other, ORGANISATIONS[0], ORGANISATIONS[1]]));
            pattern.replace("{id}", id).replace("{any}", any).replace("{*rest}", "1/2/3")
        };
        format!("/api/v1/modules/{version}/{namespace}{path}{query}")
    }

    fn token(&mut self) -> Result<String> {
        let issuer = self.random.below(2);
        let mut claims = json!({
            "iss": ISSUERS[issuer], "aud": ["rampart", "others"], "exp": NOW + 3_600, "jti": format!("t{}", self.random.below(20)),
            "sub": self.one_of(&SUBJECTS), "org_id": self.one_of(&ORGANISATIONS),
            "permissions": self.some_of(&PERMISSIONS), "roles": self.some_of(&ROLES),
            "tenant": {"tier": self.one_of(&["gold", "tin"]), "id": self.one_of(&ORGANISATIONS)},
            "https://one.test/roles": self.some_of(&ROLES), "scope": self.some_of(&PERMISSIONS).join(" "),
            "access": {"of": {"permissions": self.some_of(&PERMISSIONS)}},
        });
        let mut key = issuer;
        let mut remove = |name| drop(claims.as_object_mut().and_then(|claims| claims.remove(name)));
        match self.random.below(30) {
            0 => claims["exp"] = json!(NOW - 5_000),
            1 => claims["nbf"] = json!(NOW + 5_000),
            2 => claims["aud"] = json!("elsewhere"),
            3 => claims["iss"] = json!("https://elsewhere.test"),
            5 | 15 => key = 2,
            // The other issuer's key under this one's name.
            6 => key = 1 - issuer,
            4 => remove("exp"),
            7..10 => remove("org_id"),
            10 => claims["org_id"] = json!("z\u{fc}rich"),
            11 => claims["roles"] = json!("analyst owner"),
            // What a header would not carry as it is.
            12 => claims["org_id"] = json!("acme "),
            13 => claims["sub"] = json!(" alice"),
            14 => claims["roles"] = json!(["owner ", "analyst"]),
            _ => {}
        }
        let token =
            if self.chance(15) { self.signed_by_another(&claims)? } else { self.keys[key].sign(&claims)? };
        Ok(match self.random.below(40) {
            0 => token.replace('.', ""),
            1 => format!("{token}x"),
            2 => token.replace("ey", "e"),
            _ => token,
        })
    }

    /// A token under any algorithm there is.
    fn signed_by_another(&mut self, claims: &Value) -> Result<String> {
        let signer = &self.others.honest[self.random.below(self.others.honest.len())];
        let text = unsigned(&json!({"alg": signer.algorithm, "kid": signer.kid}), claims);
        Ok(format!("{text}.{}", base64url(&signer.sign(text.as_bytes())?)))
    }

    /// Whether something happens that does so in `percent` of all cases.
    fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn one_of<'a>(&mut self, items: &[&'a str]) -> &'a str {
        self.random.pick(items)
    }

    fn some_of<'a>(&mut self, items: &[&'a str]) -> Vec<&'a str> {
        items.iter().copied().filter(|_| self.chance(50)).collect()
    }
}
