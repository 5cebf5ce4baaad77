//! A token issuer: keys made at run time, tokens good and bad, and its JWKS over HTTP.

use crate::upstream::Server;
use anyhow::{Context as _, Result, anyhow};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use jwt_simple::{
    algorithms::RS256KeyPair,
    reexports::ct_codecs::{Base64UrlSafeNoPadding, Encoder as _},
};
use ring::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair},
};
use serde_json::{Value, json};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// The audience of every token the issuer mints.
pub const AUDIENCE: &str = "rampart-tests";

/// A signing key with its key id.
#[derive(Debug)]
pub struct Key {
    id: String,
    signer: Signer,
}

#[derive(Debug)]
enum Signer {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

impl Key {
    /// A new RSA key of 2048 bits, signing RS256.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn rsa(id: &str) -> Result<Self> {
        // ring signs fastest but makes no RSA keys.
        let pkcs8 = RS256KeyPair::generate(2048)?.to_der()?;
        let pair = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|error| anyhow!("the new key: {error}"))?;
        Ok(Self { id: id.to_owned(), signer: Signer::Rsa(Box::new(pair)) })
    }

    /// A new P-256 key, signing ES256.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn p256(id: &str) -> Result<Self> {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| anyhow!("no key"))?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random);
        Ok(Self {
            id: id.to_owned(),
            signer: Signer::P256(Box::new(pair.map_err(|error| anyhow!("{error}"))?)),
        })
    }

    /// The public half as a JWK.
    #[must_use]
    pub fn jwk(&self) -> Value {
        match &self.signer {
            Signer::Rsa(pair) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id,
                    "n": base64url(&public.n), "e": base64url(&public.e) })
            }
            Signer::P256(pair) => {
                // SEC 1 §2.3.3, uncompressed: 04, then the two coordinates of 32 bytes each.
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
                    "x": base64url(&point[1..33]), "y": base64url(&point[33..65]) })
            }
        }
    }

    /// Signs claims under the header that belongs to the key.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let algorithm = match self.signer {
            Signer::Rsa(_) => "RS256",
            Signer::P256(_) => "ES256",
        };
        self.sign_with_header(&json!({ "typ": "JWT", "alg": algorithm, "kid": self.id }), claims)
    }

    /// Signs claims under any header, true or not.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> Result<String> {
        let text = unsigned(header, claims);
        let signature = self.signature(text.as_bytes())?;
        Ok(format!("{text}.{}", base64url(&signature)))
    }

    fn signature(&self, text: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Rsa(pair) => {
                let mut bytes = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&signature::RSA_PKCS1_SHA256, &random, text, &mut bytes);
                signed.map_err(|_| anyhow!("RS256"))?;
                Ok(bytes)
            }
            Signer::P256(pair) => {
                Ok(pair.sign(&random, text).map_err(|_| anyhow!("ES256"))?.as_ref().to_owned())
            }
        }
    }
}

/// The signed part of a token: for forgeries, which append what they like.
#[must_use]
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

/// Base64 as JOSE writes it.
///
/// # Panics
///
/// Never: it allocates what it needs.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    Base64UrlSafeNoPadding::encode_to_string(bytes).expect("the buffer grows")
}

/// Seconds since the epoch, as claims count them.
///
/// # Panics
///
/// Before 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A running issuer; stopped on drop.
#[derive(Debug)]
pub struct Issuer {
    server: Server,
    rsa: Arc<Key>,
    p256: Key,
    shared: Arc<Shared>,
}

/// What the issuer serves, and what it was asked.
#[derive(Debug)]
struct Shared {
    published: RwLock<Published>,
    asked: AtomicUsize,
    unchanged: AtomicUsize,
}

/// What is served.
#[derive(Debug, Clone)]
struct Published {
    jwks: Value,
    /// The issuer that the discovery document names; its own, if none.
    names: Option<String>,
    cache_control: Option<String>,
    broken: bool,
}

impl Issuer {
    /// Starts an issuer on a free port, publishing an RSA and a P-256 key.
    ///
    /// # Errors
    ///
    /// When no port can be bound or no key made.
    pub async fn start() -> Result<Self> {
        // RSA keys are slow to make, and which one it is makes no difference to a test.
        static RSA: OnceLock<Arc<Key>> = OnceLock::new();
        let rsa = RSA.get_or_init(|| Arc::new(Key::rsa("rsa-1").expect("an RSA key")));
        let p256 = Key::p256("p256-1")?;
        let jwks = jwks(&[rsa, &p256]);
        let shared = Arc::new(Shared {
            published: RwLock::new(Published { jwks, names: None, cache_control: None, broken: false }),
            asked: AtomicUsize::new(0),
            unchanged: AtomicUsize::new(0),
        });
        let app = Router::new()
            .route("/.well-known/jwks.json", get(serve_jwks))
            .route("/.well-known/openid-configuration", get(serve_discovery))
            .with_state(Arc::clone(&shared));
        Ok(Self { server: Server::start(app).await?, rsa: Arc::clone(rsa), p256, shared })
    }

    /// The issuer's identifier, as tokens name it in `iss`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Where its JWKS is served.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}/.well-known/jwks.json", self.url())
    }

    /// The JWKS it serves.
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.shared.read().jwks
    }

    /// Serves other keys from now on.
    pub fn publish(&self, keys: &[&Key]) {
        self.publish_set(jwks(keys));
    }

    /// Serves another key set from now on, whatever it is.
    pub fn publish_set(&self, set: Value) {
        self.shared.change(|published| published.jwks = set);
    }

    /// Answers 500 from now on, or no longer.
    pub fn break_down(&self, broken: bool) {
        self.shared.change(|published| published.broken = broken);
    }

    /// Says this of how long its keys may be kept.
    pub fn cache_control(&self, value: &str) {
        self.shared.change(|published| published.cache_control = Some(value.to_owned()));
    }

    /// Names this issuer in its discovery document.
    pub fn call_itself(&self, issuer: &str) {
        self.shared.change(|published| published.names = Some(issuer.to_owned()));
    }

    /// How often it was asked for its keys.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// How often it answered that they are unchanged.
    #[must_use]
    pub fn unchanged(&self) -> usize {
        self.shared.unchanged.load(Ordering::Relaxed)
    }

    /// The RSA key, which signs `token`.
    #[must_use]
    pub fn rsa(&self) -> &Key {
        &self.rsa
    }

    /// The P-256 key.
    #[must_use]
    pub fn p256(&self) -> &Key {
        &self.p256
    }

    /// The claims of a good token, valid for an hour, to be changed at will.
    #[must_use]
    pub fn claims(&self, organisation: &str, permissions: &[&str]) -> Value {
        json!({
            "iss": self.url(),
            "aud": AUDIENCE,
            "sub": format!("user@{organisation}"),
            "iat": now(),
            "exp": now() + 3600,
            "org_id": organisation,
            "permissions": permissions,
        })
    }

    /// A good RS256 token.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn token(&self, organisation: &str, permissions: &[&str]) -> Result<String> {
        self.rsa.sign(&self.claims(organisation, permissions))
    }

    /// Good tokens for many organisations, in their order, signed on all cores.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    ///
    /// # Panics
    ///
    /// When a signing thread did.
    pub fn tokens(&self, key: &Key, organisations: &[String], permissions: &[&str]) -> Result<Vec<String>> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let share = organisations.len().div_ceil(cores).max(1);
        let sign = |part: &[String]| -> Result<Vec<String>> {
            part.iter().map(|organisation| key.sign(&self.claims(organisation, permissions))).collect()
        };
        thread::scope(|scope| {
            let threads: Vec<_> =
                organisations.chunks(share).map(|part| scope.spawn(move || sign(part))).collect();
            let parts: Result<Vec<_>> =
                threads.into_iter().map(|thread| thread.join().expect("signing")).collect();
            Ok(parts.context("signing")?.concat())
        })
    }
}

fn jwks(keys: &[&Key]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

impl Shared {
    fn read(&self) -> Published {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Published)) {
        change(&mut self.published.write().unwrap_or_else(PoisonError::into_inner));
    }
}

async fn serve_jwks(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    shared.asked.fetch_add(1, Ordering::Relaxed);
    let Published { jwks, cache_control, broken, .. } = shared.read();
    if broken {
        return (StatusCode::INTERNAL_SERVER_ERROR, "token=secret").into_response();
    }
    let mut hasher = DefaultHasher::new();
    jwks.to_string().hash(&mut hasher);
    let tag = format!("\"{:x}\"", hasher.finish());
    let mut answer = if headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == *tag) {
        shared.unchanged.fetch_add(1, Ordering::Relaxed);
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(jwks).into_response()
    };
    let said = [(header::ETAG, Some(tag)), (header::CACHE_CONTROL, cache_control)];
    for (name, value) in said {
        answer.headers_mut().extend(value.and_then(|value| Some((name, value.parse().ok()?))));
    }
    answer
}

async fn serve_discovery(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Json<Value> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = format!("http://{host}");
    let issuer = shared.read().names.unwrap_or_else(|| own.clone());
    Json(json!({ "issuer": issuer, "jwks_uri": format!("{own}/.well-known/jwks.json") }))
}
