//! One fetch: an issuer's discovery document where need be, its key set, and which of its keys are of
//! use. It keeps nothing and changes nothing.

use std::collections::HashSet;
use std::time::Duration;

use rampart_engine::jwks;
use rampart_engine::policy::MAX_KEYS;
use rampart_engine::policy::wire::{Algorithm, Jwk, JwksFrom, Provider};
use reqwest::header::{AGE, CACHE_CONTROL, ETAG, HeaderMap, IF_NONE_MATCH};
use reqwest::{Certificate, RequestBuilder, StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::Value;

use crate::model::key_set::source;
use crate::tls::use_ring;

/// How long a fetch may take in all.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes.
const LARGEST: usize = 256 << 10;
/// Most keys that are looked at.
const MOST: usize = 256;
/// Longest `kid` that is told, in bytes.
const LONGEST_KID: usize = 80;
/// Most redirections that are followed.
const REDIRECTIONS: usize = 3;
/// Where an issuer's discovery document is, after the issuer (OpenID Connect Discovery 1.0 §4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Fetches keys.
#[derive(Debug, Clone)]
pub struct Client {
    /// Through the proxy that the environment names, if it names one.
    outside: reqwest::Client,
    /// To this machine, which no proxy is another way to.
    inside: reqwest::Client,
}

/// Why keys could not be fetched. No text holds more of the answer than a key's name.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no URL to fetch from.
    #[error("{0}")]
    Url(String),
    /// No answer came.
    #[error("{url} cannot be reached: {problem}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// The chain of causes.
        problem: String,
    },
    /// The answer is a refusal.
    #[error("{0} answers {1}")]
    Refused(String, StatusCode),
    /// The answer is too large.
    #[error("{0} answers more than 256 KiB")]
    Large(String),
    /// The answer does not read.
    #[error("{url} answers no {what}: {problem}")]
    Unreadable {
        /// What was asked.
        url: String,
        /// What it was asked for.
        what: &'static str,
        /// Where and why not.
        problem: String,
    },
    /// The discovery document is another issuer's.
    #[error(
        "{url} is the document of the issuer `{found}`, and tokens are to be those of `{wanted}`: `issuer` must be exactly what the document says"
    )]
    Issuer {
        /// What was asked.
        url: String,
        /// The document's issuer.
        found: String,
        /// The provider's.
        wanted: String,
    },
    /// No key can be used. The keys so far stay: an empty set is more often a mistake than meant.
    #[error("{url} has no key that can be used{}", reasons(left_out))]
    Keyless {
        /// What was asked.
        url: String,
        /// Why not, key by key.
        left_out: Vec<String>,
    },
    /// The issuer says that nothing has changed, and was not asked.
    #[error("the issuer says that nothing has changed since a time at which it was not asked")]
    Unasked,
    /// The keys are there and could not be kept.
    #[error("the keys cannot be kept: {0}")]
    Kept(String),
}

/// What a fetch brings.
#[derive(Debug)]
pub(super) struct Answer {
    /// For how long the answer is fresh (RFC 9111), where it says so.
    pub(super) fresh: Option<Duration>,
    /// The keys; none where they are what was found before.
    pub(super) found: Option<Found>,
}

/// An issuer's keys.
#[derive(Debug)]
pub(super) struct Found {
    /// Those that can be used, in an order of their own: issuers shuffle.
    pub(super) keys: Vec<Jwk>,
    /// Those that cannot, and why.
    pub(super) left_out: Vec<String>,
    /// Where they were, and their entity tag.
    url: Url,
    tag: Option<reqwest::header::HeaderValue>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Members are read one by one, so that one bad key does not cost the others.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl Client {
    /// A client that trusts the machine's authorities, and these.
    ///
    /// # Errors
    ///
    /// When the machine has no authorities, or an authority is none.
    pub fn new(authorities: &[Certificate]) -> Result<Self, reqwest::Error> {
        use_ring();
        let client = || {
            reqwest::Client::builder()
                .user_agent(concat!("rampart/", env!("CARGO_PKG_VERSION")))
                .timeout(PATIENCE)
                .connect_timeout(CONNECTING)
                .redirect(redirect::Policy::custom(follow))
                .tls_certs_merge(authorities.iter().cloned())
        };
        Ok(Self { outside: client().build()?, inside: client().no_proxy().build()? })
    }

    /// What asks at a URL that is a [`source`].
    fn get(&self, url: &Url) -> RequestBuilder {
        let client = if url.scheme() == "https" { &self.outside } else { &self.inside };
        client.get(url.clone())
    }

    /// Fetches a provider's keys. `before` is what was found the last time.
    pub(super) async fn fetch(
        &self,
        provider: &Provider,
        from: &JwksFrom,
        before: Option<&Found>,
    ) -> Result<Answer, FetchError> {
        let url = match &from.uri {
            Some(uri) => source(uri).map_err(FetchError::Url)?,
            None => self.discover(&provider.issuer).await?,
        };
        let mut request = self.get(&url);
        if let Some(tag) = before.filter(|before| before.url == url).and_then(|before| before.tag.as_ref()) {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let answer = request.send().await.map_err(|error| unreachable(&url, error))?;
        let fresh = freshness(answer.headers());
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(Answer { fresh, found: None });
        }
        let tag = answer.headers().get(ETAG).cloned();
        let set: Set = read(&url, "JSON Web Key Set", &body(&url, answer).await?)?;
        let (keys, left_out) = usable(set.keys, &provider.algorithms);
        if keys.is_empty() {
            return Err(FetchError::Keyless { url: url.into(), left_out });
        }
        Ok(Answer { fresh, found: Some(Found { keys, left_out, url, tag }) })
    }

    async fn discover(&self, issuer: &str) -> Result<Url, FetchError> {
        let url = source(&format!("{}{DISCOVERY}", issuer.trim_end_matches('/'))).map_err(FetchError::Url)?;
        let answer = self.get(&url).send().await.map_err(|error| unreachable(&url, error))?;
        let found: Discovery = read(&url, "discovery document", &body(&url, answer).await?)?;
        // Else whoever serves a document could have their keys taken for those of another issuer.
        if found.issuer != issuer {
            return Err(FetchError::Issuer {
                url: url.into(),
                found: found.issuer,
                wanted: issuer.to_owned(),
            });
        }
        source(&found.jwks_uri)
            .map_err(|problem| FetchError::Url(format!("{url} names a `jwks_uri`: {problem}")))
    }
}

/// Follows to where keys may be fetched from, and not for ever.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    if attempt.previous().len() > REDIRECTIONS {
        return attempt.error("too many redirections");
    }
    match source(attempt.url().as_str()) {
        Ok(_) => attempt.follow(),
        Err(problem) => attempt.error(problem),
    }
}

async fn body(url: &Url, mut answer: reqwest::Response) -> Result<Vec<u8>, FetchError> {
    if !answer.status().is_success() {
        return Err(FetchError::Refused(url.to_string(), answer.status()));
    }
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| unreachable(url, error))? {
        if body.len() + part.len() > LARGEST {
            return Err(FetchError::Large(url.to_string()));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn read<T: for<'de> Deserialize<'de>>(url: &Url, what: &'static str, body: &[u8]) -> Result<T, FetchError> {
    serde_json::from_slice(body).map_err(|error| {
        // The error of serde_json quotes what it found.
        let problem = match error.classify() {
            serde_json::error::Category::Data => "members are missing or of another type",
            _ => "it is no JSON",
        };
        let problem = format!("{problem} (line {}, column {})", error.line(), error.column());
        FetchError::Unreadable { url: url.to_string(), what, problem }
    })
}

/// The causes, without the URL: it is told already.
fn unreachable(url: &Url, error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let mut problem = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = cause {
        problem = format!("{problem}: {error}");
        cause = error.source();
    }
    // Of an authority that is not known, or of another of the same name.
    if problem.ends_with("UnknownIssuer") || problem.ends_with("certificate: BadSignature") {
        problem.push_str(": name who vouches for it with `rampart serve --jwks-ca`");
    }
    FetchError::Unreachable { url: url.to_string(), problem }
}

/// For how long an answer is fresh (RFC 9111 §4.2). One that is not to be kept is fresh for no time.
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives =
        directives.flat_map(|value| value.split(',')).map(|word| word.trim().to_ascii_lowercase());
    let fresh = directives.find_map(|directive| match directive.as_str() {
        "no-store" | "no-cache" => Some(0),
        directive => directive.strip_prefix("max-age=")?.trim_matches('"').parse::<u64>().ok(),
    })?;
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or(0);
    Some(Duration::from_secs(fresh.saturating_sub(age)))
}

/// The keys that tokens can be judged by, and what is wrong with others. Keys for another use or of
/// another kind are ordinary (RFC 7517 §5) and not told.
fn usable(found: Vec<Value>, algorithms: &[Algorithm]) -> (Vec<Jwk>, Vec<String>) {
    let (mut keys, mut left_out) = (Vec::new(), Vec::new());
    let mut known = HashSet::new();
    if found.len() > MOST {
        left_out.push(format!("{} keys beyond the first {MOST}", found.len() - MOST));
    }
    for (number, key) in found.into_iter().take(MOST).enumerate() {
        let Ok(key) = serde_json::from_value::<Jwk>(key) else {
            left_out.push(format!("keys[{number}]: it is no JSON Web Key"));
            continue;
        };
        let name = name(number, key.kid.as_deref());
        match jwks::read(&key) {
            Err(problem) => left_out.push(format!("{name}: {problem}")),
            Ok(None) => {}
            Ok(Some(read)) => {
                let wanted = |algorithm: &Algorithm| read.fits(*algorithm, None);
                if !algorithms.iter().any(wanted) {
                    continue;
                }
                if keys.contains(&key) {
                    continue;
                }
                // Of those that a `kid` does not tell apart, the first counts.
                if key.kid.is_some() && !known.insert((key.kid.clone(), read.kind as u8)) {
                    left_out.push(format!("{name}: another key has this `kid`"));
                } else if keys.len() == MAX_KEYS {
                    left_out.push(format!("{name}: a provider has at most {MAX_KEYS} keys"));
                } else {
                    keys.push(key);
                }
            }
        }
    }
    keys.sort_by_cached_key(|key| (key.kid.clone(), serde_json::to_string(key).unwrap_or_default()));
    (keys, left_out)
}

/// How a key is told of: by a `kid` that is short and plain, or by its place.
fn name(number: usize, kid: Option<&str>) -> String {
    let plain = |kid: &&str| kid.len() <= LONGEST_KID && kid.bytes().all(|byte| byte.is_ascii_graphic());
    kid.filter(plain).map_or_else(|| format!("keys[{number}]"), |kid| format!("keys[{kid}]"))
}

fn reasons(left_out: &[String]) -> String {
    if left_out.is_empty() { String::new() } else { format!(" ({})", left_out.join("; ")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rampart_engine::policy::wire::Algorithm;
    use reqwest::header::{AGE, CACHE_CONTROL, HeaderMap, HeaderValue};
    use serde_json::json;

    use super::{freshness, usable};

    #[test]
    fn freshness_is_what_the_answer_says() {
        for (control, age, fresh) in [
            (None, None, None),
            (Some("public"), None, None),
            (Some("public, max-age=600, must-revalidate"), None, Some(600)),
            (Some("Max-Age=\"60\""), Some("20"), Some(40)),
            (Some("max-age=60"), Some("90"), Some(0)),
            (Some("no-store"), None, Some(0)),
            (Some("max-age=soon"), None, None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(CACHE_CONTROL, control), (AGE, age)] {
                headers.extend(value.map(|value| (name, HeaderValue::from_static(value))));
            }
            assert_eq!(freshness(&headers), fresh.map(Duration::from_secs), "{control:?} {age:?}");
        }
    }

    #[test]
    fn one_bad_key_does_not_cost_the_others_and_is_told() {
        let ed = |kid: &str, x: &str| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x});
        // RFC 8037 appendix A.2.
        let (x, y) = (
            "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        );
        let found = vec![
            ed("b", x),
            json!({"kty": "RSA", "use": "enc", "kid": "other-use"}),
            json!({"kty": "XYZ", "kid": "other-kind"}),
            json!("no key"),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "private", "x": x, "d": "c2VjcmV0"}),
            ed("bad", y),
            ed("a", x),
            ed("b", x),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "b", "x": x, "use": "sig"}),
        ];
        let (keys, left_out) = usable(found.clone(), &[Algorithm::EdDSA, Algorithm::RS256]);
        let kids: Vec<_> = keys.iter().filter_map(|key| key.kid.as_deref()).collect();
        assert_eq!(kids, ["a", "b"]);
        let told = left_out.join("\n");
        for told_of in [
            "keys[3]: it is no",
            "keys[private]: this is a private key",
            "keys[bad]: `x` has",
            "keys[b]: another",
        ] {
            assert!(told.contains(told_of), "{told}");
        }
        assert_eq!(left_out.len(), 4, "{told}");
        assert!(!told.contains("c2VjcmV0"), "{told}");
        assert_eq!(usable(found, &[Algorithm::ES256]).0, [], "of no use for these algorithms");
    }

    #[test]
    fn the_order_of_the_issuer_is_no_difference() {
        let key = |kid: &str| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let one = usable(vec![key("x"), key("y")], &[Algorithm::EdDSA]).0;
        assert_eq!(one, usable(vec![key("y"), key("x"), key("y")], &[Algorithm::EdDSA]).0);
    }
}
