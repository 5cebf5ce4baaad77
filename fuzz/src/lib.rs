//! What must hold for any bytes at all: one function per fuzz target, which panics where it does not.
//! libFuzzer drives them through `fuzz_targets/`; `tests/tests/fuzz.rs` includes this file and drives
//! them with made-up input, so that they work wherever the tests do.

use rampart_engine::{
    decide::{Context, decide as ask},
    decision::{Arm, Decision, Forward, Reason, Refusal},
    jwks::PublicKey,
    jwt::CompactJws,
    path::{self, Target},
    policy::{Policy, wire::TokenSource},
    request::Headers,
    token_cache::TokenCache,
    token_source::{find, without_cookie},
    verify::Verifier,
};
use serde_json::{Value, json};
use std::cell::{Cell, OnceCell};

const NOW: u64 = 1_800_000_000;
const CLUSTERS: [&str; 3] = ["legacy", "first", "second"];
/// For whom the module `three` is enabled.
const LISTED: [&str; 2] = ["o", "acme"];

type Header = (Vec<u8>, Vec<u8>);

/// Any bytes as a policy: it compiles, twice the same, or is refused with reasons that can be read.
pub fn policy(data: &[u8]) {
    match Policy::from_json(data) {
        Ok(policy) => {
            let again = Policy::from_json(data).expect("what compiled once compiles again");
            assert_eq!(policy.providers.key_generation(), again.providers.key_generation());
            let request =
                [(":method", "GET"), (":path", "/api/v1/modules/v1/a/b"), ("authorization", "Bearer a.b.c")];
            let headers = request.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            judge(&policy, &headers, &Lenient::default(), &mut TokenCache::new([7; 16]));
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
        }
    }
}

/// Any bytes as a token, as they are or as the header and payload of one that is well-formed: who
/// gets in has a signature that was checked, and gets in again from the cache.
pub fn token(data: &[u8]) {
    let policy = sample(50);
    let (kind, rest) = data.split_first().unwrap_or((&0, &[]));
    let (left, right) = split(rest);
    let header = br#"{"alg":"ES256","kid":"ec"}"#;
    let payload = format!(r#"{{"iss":"i","aud":"a","exp":{}}}"#, NOW + 60);
    let token = match kind % 4 {
        0 => rest.to_vec(),
        1 => compact(&[left, right, b"signature"]),
        2 => compact(&[header, rest, b"signature"]),
        _ => compact(&[rest, payload.as_bytes(), b"signature"]),
    };
    let headers = request(b"/api/v1/modules/v1/one/basic", &token);
    let (verifier, mut cache) = (Lenient::default(), TokenCache::new([7; 16]));
    let first = judge(policy, &headers, &verifier, &mut cache);
    let asked = verifier.asked.get();
    let second = judge(policy, &headers, &verifier, &mut cache);
    assert_eq!(first, second, "the cache gives another answer");
    if first.forwarded {
        assert_eq!((asked, verifier.asked.get()), (1, 1), "verified once, then known");
    }
}

/// Any bytes as a path: what is taken apart can be put together again, and has no second reading.
pub fn path(data: &[u8]) {
    let parsed = path::parse(data);
    let own = data.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    assert_eq!(path::parse(own), parsed, "the query has a say");
    let Target::Module(module) = parsed else { return };
    let mut segments = vec![module.version.to_vec(), module.namespace.to_vec()];
    let mut rest = module.rest;
    while let Some((segment, others)) = rest.split_first() {
        segments.push(segment.to_vec());
        rest = others;
    }
    segments.retain(|segment| !segment.is_empty());
    for segment in &segments {
        assert!(!matches!(&segment[..], b"." | b".."), "a dot segment");
        assert!(!segment.iter().any(|byte| b"/\\\0".contains(byte)), "a separator within a segment");
    }
    // Written out with every byte escaped, it is the same path.
    let escape = |segment: &Vec<u8>| segment.iter().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let escaped: Vec<String> = segments.iter().map(escape).collect();
    let escaped = [path::PREFIX, escaped.join("/").as_bytes()].concat();
    if escaped.len() <= path::MAX_LENGTH
        && let Target::Module(again) = path::parse(&escaped)
    {
        assert_eq!((again.version, again.namespace), (module.version, module.namespace));
    }
}

/// Any bytes as a request: the answer is well-formed and repeats itself, nobody gets past a
/// permission unverified or into a module that is not enabled for them, a token that is withheld is gone,
/// and a higher percentage takes nobody out.
pub fn decide(data: &[u8]) {
    let (low, rest) = data.split_first().unwrap_or((&0, &[]));
    let (high, rest) = rest.split_first().unwrap_or((&0, &[]));
    let (low, high) = (low % 101, high % 101);
    let headers = requested(rest);
    let answers = [low.min(high), low.max(high)].map(|percentage| {
        let (policy, verifier) = (sample(percentage), Lenient::default());
        let mut cache = TokenCache::new([7; 16]);
        let answer = judge(policy, &headers, &verifier, &mut cache);
        assert_eq!(answer, judge(policy, &headers, &verifier, &mut cache), "not the same twice");
        let is_on = |key: &str| answer.flags.iter().any(|on| on == key);
        assert!(!(is_on("left") && is_on("right")), "both of an exclusive group");
        assert!(!is_on("needs") || is_on("rollout"), "on without what it needs");
        let listed = answer.organisation.as_deref().is_some_and(|own| LISTED.contains(&own));
        assert!(answer.module != "three" || listed, "a module that is not enabled");
        answer
    });
    if answers[0].by_module {
        assert!(answers[1].by_module, "a higher percentage took someone out");
    }
}

/// What of an answer two runs can be compared by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    forwarded: bool,
    by_module: bool,
    module: String,
    organisation: Option<String>,
    flags: Vec<String>,
    text: String,
}

/// Asks the engine, and holds the answer against what any answer must be.
fn judge(policy: &Policy, headers: &[Header], verifier: &Lenient, cache: &mut TokenCache) -> Answer {
    let known = !cache.is_empty();
    let mut context = Context { now: NOW, verifier, tokens: cache };
    match ask(policy, &Bytes(headers), &mut context) {
        Decision::Pass => Answer { text: "pass".into(), ..Answer::default() },
        Decision::Forward(forward) => {
            assert!(!forward.cluster.is_empty());
            if let Some(token) = &forward.token {
                assert!(known || verifier.asked.get() > 0, "a token that nobody verified");
                token.check_time(NOW).expect("the token is valid now");
            }
            if let Some(source) = forward.withhold {
                assert!(forward.token.is_some(), "a token withheld that nobody sent");
                let left = withheld(headers, source);
                let sources = std::slice::from_ref(source);
                assert_eq!(
                    find(&Bytes(&left), sources).err(),
                    Some(Reason::MissingToken),
                    "it is still there"
                );
            }
            let by_module = forward.arm == Arm::Module;
            if let Some(path) = &forward.path {
                let sent = headers.iter().find(|(name, _)| name == b":path").map(|(_, path)| &path[..]);
                let rest = path.strip_prefix(b"/in").expect("the module's own prefix");
                assert!(by_module && sent.unwrap_or_default().ends_with(rest), "the rest is not kept");
                assert!(rest.is_empty() || b"/?#".contains(&rest[0]), "the prefix runs on");
            }
            let told = forward.record.and_then(|record| record.configuration.as_deref()).unwrap_or_default();
            assert!(told.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "no header holds it: {told}");
            let identity = forward.token.as_ref().map(|token| &token.identity);
            let organisation = identity.and_then(|identity| identity.organisation.as_deref());
            let organisation = organisation.map(str::to_owned);
            let module = forward.place.module.id.to_string();
            let flags = forward.flags.iter().map(|on| on.key.to_owned()).collect();
            Answer { forwarded: true, by_module, module, organisation, flags, text: written(&forward) }
        }
        Decision::Refuse(refusal, _) => Answer { text: well_formed(&refusal), ..Answer::default() },
    }
}

/// What the upstream and the router are told.
fn written(forward: &Forward<'_>) -> String {
    let Forward { cluster, flags, headers, mirror, record, .. } = forward;
    format!("{cluster} {flags:?} {headers:?} {mirror:?} {record:?}")
}

/// The headers without the token from this source.
fn withheld(headers: &[Header], source: &TokenSource) -> Vec<Header> {
    let without = |(name, value): &Header| {
        let gone = match source {
            TokenSource::Bearer => name == b"authorization",
            TokenSource::Header(header) => name == header.as_bytes(),
            TokenSource::Cookie(cookie) if name == b"cookie" => {
                let left = without_cookie(value, cookie);
                assert_eq!(without_cookie(&left, cookie), left, "taken out once is taken out");
                return Some((name.clone(), left));
            }
            TokenSource::Cookie(_) => false,
        };
        (!gone).then(|| (name.clone(), value.clone()))
    };
    headers.iter().filter_map(without).collect()
}

/// The reply is an error in RFC 9457's form, and its headers hold nothing that a header must not.
fn well_formed(refusal: &Refusal) -> String {
    let reply = refusal.reply();
    assert!((400..=503).contains(&reply.status), "{reply:?}");
    let body: Value = serde_json::from_str(&reply.body).expect("the body is JSON");
    assert_eq!(body["status"], reply.status);
    assert_eq!(body["reason"], refusal.reason.as_str());
    let plain = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    assert!(reply.headers.iter().all(|(name, value)| plain(name) && plain(value)), "{reply:?}");
    reply.body
}

/// Believes every signature, so that what comes after the check is reached, and counts.
#[derive(Debug, Default)]
struct Lenient {
    asked: Cell<usize>,
}

impl Verifier for Lenient {
    fn verify(&self, _: &PublicKey, _: &CompactJws<'_>) -> bool {
        self.asked.set(self.asked.get() + 1);
        true
    }
}

struct Bytes<'a>(&'a [Header]);

impl Headers for Bytes<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }
}

/// Modules for all that can be asked of a caller, tokens from everywhere, and flags at this percentage that
/// others need, exclude and take effect by. Compiled once: a key is
/// slow to check, and `policy` looks after that.
fn sample(percentage: u8) -> &'static Policy {
    thread_local! {
        static SAMPLES: [OnceCell<&'static Policy>; 101] = const { [const { OnceCell::new() }; 101] };
    }
    SAMPLES.with(|samples| *samples[usize::from(percentage)].get_or_init(|| Box::leak(compiled(percentage))))
}

fn compiled(percentage: u8) -> Box<Policy> {
    let gate = json!([{ "flag": "rollout", "when_off": "legacy" }]);
    let [legacy, first, second] = CLUSTERS;
    let effects = json!([
        { "flag": "colour", "variant": "blue", "when_on": { "cluster": second } },
        { "flag": "colour", "variant": "red", "when_on": { "mirror": { "cluster": second } } },
        { "flag": "some", "when_on": { "headers": { "x-envoy-max-retries": "2" } } }
    ]);
    let mut listed: Vec<Value> = LISTED
        .iter()
        .map(|name| json!({ "organisation": name, "configuration": { (*name): "\u{e9}\u{7f}" } }))
        .collect();
    listed.push(json!({ "organisation": "x", "enabled": false }));
    let policy = json!({
        "schema": 1, "revision": 1, "legacy_cluster": legacy,
        "providers": [{ "name": "main", "issuer": "i", "audiences": ["a"], "forward": false,
            "token_from": ["bearer", { "header": "x-token" }, { "cookie": "session" }], "jwks": { "keys": [{
            "kty": "EC", "crv": "P-256", "kid": "ec",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
        }] } }],
        "flags": [
            { "key": "rollout", "percentage": percentage },
            { "key": "needs", "percentage": 100, "prerequisites": [{ "flag": "rollout" }] },
            { "key": "left", "percentage": percentage / 2,
              "exclusive_group": { "name": "sides", "from": 0, "to": 50 } },
            { "key": "right", "percentage": percentage / 2,
              "exclusive_group": { "name": "sides", "from": 50, "to": 100 } },
            { "key": "colour", "percentage": percentage,
              "variants": [{ "name": "blue", "weight": 1 }, { "name": "red", "weight": 1 }] },
            { "key": "some", "percentage": percentage, "by": "request" }
        ],
        "modules": [
            { "id": "one", "version": "v1", "namespace": "one", "cluster": first,
              "flags": ["rollout", "needs", "left", "right"], "effects": effects, "routes": [
                { "path": "/none", "auth": { "level": "none" } },
                { "path": "/basic", "gates": gate },
                { "path": "/{name}/{*rest}", "methods": ["GET", "POST"], "gates": gate,
                  "auth": { "level": "permission", "permissions": ["read"] } },
                { "path": "/admin", "auth": { "level": "admin" } }
            ] },
            { "id": "two", "version": "v2", "namespace": "two", "cluster": second,
              "gates": [{ "flag": "needs", "when_off": "forbidden" }], "flags": ["rollout"], "aliases": ["zwei"], "rewrite": { "prefix": "/in" } },
            { "id": "three", "version": "v1", "namespace": "three", "cluster": first,
              "enabled_for": "listed", "organisations": listed,
              "routes": [{ "path": "/{organisation}/x", "tenant": { "path": "organisation" } }, { "path": "/y" }] }
        ]
    });
    Box::new(Policy::from_json(policy.to_string().as_bytes()).expect("the sample compiles"))
}

fn request(path: &[u8], token: &[u8]) -> Vec<Header> {
    let bearer = [b"Bearer ", token].concat();
    vec![
        (b":method".to_vec(), b"GET".to_vec()),
        (b":path".to_vec(), path.to_vec()),
        (b"authorization".to_vec(), bearer),
    ]
}

/// Headers from bytes: what each is comes from its first byte, so that most are of interest.
fn requested(mut data: &[u8]) -> Vec<Header> {
    const PATHS: [&str; 6] =
        ["v1/one/none", "v1/one/basic", "v1/three/o/x", "v1/one/admin", "v2/zwei/", "v1/three/y"];
    let claims = |organisation: &[u8]| {
        let organisation = String::from_utf8_lossy(organisation);
        json!({ "iss": "i", "aud": "a", "exp": NOW + 60, "org_id": organisation, "permissions": ["read"] })
    };
    let mut headers = Vec::new();
    while let Some((&kind, rest)) = data.split_first() {
        let (value, others) = split(rest);
        let path = PATHS[usize::from(kind >> 4) % PATHS.len()].as_bytes();
        let token = || {
            let claims = claims(value).to_string();
            compact(&[br#"{"alg":"ES256","kid":"ec"}"#, claims.as_bytes(), b"signature"])
        };
        headers.push(match kind % 16 {
            0 => (b":path".to_vec(), value.to_vec()),
            1 => (b":path".to_vec(), [path::PREFIX, path, value].concat()),
            2 => (b":path".to_vec(), [path::PREFIX, path].concat()),
            3 => (b":method".to_vec(), value.to_vec()),
            4 => (b":method".to_vec(), b"GET".to_vec()),
            5 => (b"authorization".to_vec(), value.to_vec()),
            6 => (b"authorization".to_vec(), [b"Bearer ", &token()[..]].concat()),
            8 => (b"x-token".to_vec(), token()),
            9 => (b"cookie".to_vec(), [b"a=b; session=", &token()[..], b"; ", value].concat()),
            10 => (b"cookie".to_vec(), value.to_vec()),
            11 => (b"x-request-id".to_vec(), value.to_vec()),
            _ => (value.to_vec(), others.to_vec()),
        });
        data = others;
    }
    headers
}

/// A length and so many bytes, as far as there are any, and what follows.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((&length, rest)) = data.split_first() else { return (&[], &[]) };
    rest.split_at(usize::from(length).min(rest.len()))
}

/// A token's parts as base64url without padding (RFC 4648 §5), joined by dots.
fn compact(parts: &[&[u8]]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let encode = |part: &&[u8]| -> Vec<u8> {
        part.chunks(3)
            .flat_map(|chunk| {
                let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
                let bits = bits << (8 * (3 - chunk.len()));
                let digit = move |place: usize| DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
                (0..=chunk.len()).map(digit)
            })
            .collect()
    };
    parts.iter().map(encode).collect::<Vec<_>>().join(&b'.')
}
