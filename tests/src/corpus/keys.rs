//! Keys for the corpus: one signer for each algorithm, made at run time, and what an attacker has.

use crate::issuer::base64url;
use anyhow::{Result, anyhow};
use jwt_simple::algorithms::RS256KeyPair;
use p521::ecdsa::signature::Signer as _;
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
    signature::{
        self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
    },
};
use serde_json::{Value, json};
use std::sync::Arc;

/// A private key used with one algorithm.
#[derive(Clone)]
pub struct Signer {
    /// The algorithm's JOSE name.
    pub algorithm: &'static str,
    /// The key's id, if the published set names one.
    pub kid: Option<&'static str>,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    Rsa(Arc<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(Arc<EcdsaKeyPair>),
    // ring does not know this curve.
    P521(Arc<p521::ecdsa::SigningKey>),
    Ed25519(Arc<Ed25519KeyPair>),
}

impl Signer {
    /// Signs, in the form that JWS asks for.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Rsa(pair, encoding) => {
                let mut bytes = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, text, &mut bytes).map_err(|_| anyhow!("{}", self.algorithm))?;
                Ok(bytes)
            }
            Secret::Ec(pair) => {
                Ok(pair.sign(&random, text).map_err(|_| anyhow!("{}", self.algorithm))?.as_ref().to_vec())
            }
            Secret::P521(key) => {
                let signature: p521::ecdsa::Signature = key.try_sign(text)?;
                Ok(signature.to_bytes().to_vec())
            }
            Secret::Ed25519(pair) => Ok(pair.sign(text).as_ref().to_vec()),
        }
    }

    /// Whether its signatures are two numbers of equal length.
    #[must_use]
    pub fn is_ecdsa(&self) -> bool {
        matches!(self.secret, Secret::Ec(_) | Secret::P521(_))
    }
}

/// All keys of the corpus.
pub struct Keys {
    /// One for each algorithm, in the order of `ALGORITHMS`.
    pub honest: Vec<Signer>,
    /// Published without an id.
    pub nameless: Signer,
    /// An RSA key that the published set keeps to RS256, used for PS256.
    pub pinned: Signer,
    /// A key that nobody has published, for each kind: RSA, P-256 and Ed25519.
    pub foreign: Vec<Signer>,
    /// What is published, as both filters are given it.
    pub jwks: Value,
    /// The attacker's own P-256 key, to be sent along.
    pub foreign_jwk: Value,
    /// Public keys in the forms that a confused verifier takes for a secret.
    pub confused: Vec<(&'static str, Vec<u8>)>,
}

/// What the corpus is signed with and the policy allows.
pub const ALGORITHMS: [&str; 10] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

impl Keys {
    /// New keys.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn generate() -> Result<Self> {
        let [published, pinned, foreign] = [RsaKey::new()?, RsaKey::new()?, RsaKey::new()?];
        let (p256, p384, p521) = (
            Secret::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?,
            Secret::ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)?,
            Secret::p521()?,
        );
        let (nameless, foreign_p256) = (
            Secret::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?,
            Secret::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?,
        );
        let (ed25519, foreign_ed25519) = (Secret::ed25519()?, Secret::ed25519()?);
        let mut rsa_jwk = published.secret("RS256").jwk();
        rsa_jwk["kid"] = json!("rsa");
        let mut pinned_jwk = pinned.secret("RS256").jwk();
        pinned_jwk["kid"] = json!("pinned");
        pinned_jwk["alg"] = json!("RS256");
        let named = |secret: &Secret, kid| {
            let mut jwk = secret.jwk();
            jwk["kid"] = json!(kid);
            jwk
        };
        let jwks = json!({ "keys": [rsa_jwk, pinned_jwk, named(&p256, "p256"), named(&p384, "p384"),
            named(&p521, "p521"), named(&ed25519, "ed25519"), nameless.jwk()] });
        let confused = vec![
            ("the RSA key in PEM", published.pem.clone().into_bytes()),
            ("the RSA key in DER", published.pair.public().as_ref().to_vec()),
            ("the RSA modulus as published", text(&jwks["keys"][0]["n"])),
            ("the RSA key as a JWK", jwks["keys"][0].to_string().into_bytes()),
            ("the P-256 coordinate as published", text(&jwks["keys"][2]["x"])),
            ("the key id", b"rsa".to_vec()),
            ("nothing", Vec::new()),
        ];
        let honest = ALGORITHMS.map(|algorithm| {
            let (kid, secret) = match algorithm {
                "ES256" => ("p256", p256.clone()),
                "ES384" => ("p384", p384.clone()),
                "ES512" => ("p521", p521.clone()),
                "EdDSA" => ("ed25519", ed25519.clone()),
                rsa => ("rsa", published.secret(rsa)),
            };
            Signer { algorithm, kid: Some(kid), secret }
        });
        let stranger = |algorithm, kid, secret| Signer { algorithm, kid: Some(kid), secret };
        Ok(Self {
            honest: honest.into(),
            pinned: stranger("PS256", "pinned", pinned.secret("PS256")),
            foreign_jwk: foreign_p256.jwk(),
            foreign: vec![
                stranger("RS256", "rsa", foreign.secret("RS256")),
                stranger("ES256", "p256", foreign_p256),
                stranger("EdDSA", "ed25519", foreign_ed25519),
            ],
            nameless: Signer { algorithm: "ES256", kid: None, secret: nameless },
            jwks,
            confused,
        })
    }

    /// The signer of an algorithm.
    ///
    /// # Panics
    ///
    /// When the corpus has no such algorithm.
    #[must_use]
    pub fn honest(&self, algorithm: &str) -> &Signer {
        self.honest.iter().find(|signer| signer.algorithm == algorithm).expect("one of ALGORITHMS")
    }
}

/// The signature of HS256, HS384 or HS512.
#[must_use]
pub fn hmac(algorithm: &str, secret: &[u8], text: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    hmac::sign(&hmac::Key::new(algorithm, secret), text).as_ref().to_vec()
}

fn text(member: &Value) -> Vec<u8> {
    member.as_str().unwrap_or_default().as_bytes().to_vec()
}

struct RsaKey {
    pair: Arc<RsaKeyPair>,
    pem: String,
}

impl RsaKey {
    fn new() -> Result<Self> {
        // ring signs with every padding but makes no RSA keys.
        let key = RS256KeyPair::generate(2048)?;
        let pair = RsaKeyPair::from_pkcs8(&key.to_der()?).map_err(|error| anyhow!("{error}"))?;
        Ok(Self { pair: Arc::new(pair), pem: key.public_key().to_pem()? })
    }

    fn secret(&self, algorithm: &str) -> Secret {
        let encoding: &'static dyn RsaEncoding = match algorithm {
            "RS384" => &signature::RSA_PKCS1_SHA384,
            "RS512" => &signature::RSA_PKCS1_SHA512,
            "PS256" => &signature::RSA_PSS_SHA256,
            "PS384" => &signature::RSA_PSS_SHA384,
            "PS512" => &signature::RSA_PSS_SHA512,
            _ => &signature::RSA_PKCS1_SHA256,
        };
        Secret::Rsa(Arc::clone(&self.pair), encoding)
    }
}

impl Secret {
    fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> Result<Self> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| anyhow!("no key"))?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random);
        Ok(Self::Ec(Arc::new(pair.map_err(|error| anyhow!("{error}"))?)))
    }

    fn p521() -> Result<Self> {
        let mut scalar = [0; 66];
        // Below the order, which is a little less than 2^521.
        SystemRandom::new().fill(&mut scalar[1..]).map_err(|_| anyhow!("no key"))?;
        Ok(Self::P521(Arc::new(p521::ecdsa::SigningKey::from_slice(&scalar)?)))
    }

    fn ed25519() -> Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| anyhow!("no key"))?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|error| anyhow!("{error}"))?;
        Ok(Self::Ed25519(Arc::new(pair)))
    }

    fn jwk(&self) -> Value {
        match self {
            Self::Rsa(pair, _) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": base64url(&public.n), "e": base64url(&public.e) })
            }
            Self::Ec(pair) => ec_jwk(pair.public_key().as_ref()),
            Self::P521(key) => ec_jwk(key.verifying_key().to_sec1_point(false).as_bytes()),
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()) })
            }
        }
    }
}

/// A point in SEC 1 §2.3.3's uncompressed form: 04, then two coordinates of equal length.
fn ec_jwk(point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    let curve = match x.len() {
        32 => "P-256",
        48 => "P-384",
        _ => "P-521",
    };
    json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
}
