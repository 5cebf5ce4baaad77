//! The engine natively and the built filter, about the same requests: they never disagree. The host
//! is an interpreter; policies and requests are random, and the frozen vectors are among them.

use anyhow::{Context as _, Result, ensure};
use rampart_engine::{
    decide::{Context, decide},
    decision::{Arm, Decision, Forward, Place},
    identity::Identity,
    policy::{
        Policy,
        wire::{HashBy, TokenSource},
    },
    request::{Headers, PRIVATE_HEADERS},
    token_cache::TokenCache,
    token_source::without_cookie,
    verify::PureRust,
};
use rampart_tests::{
    arbitrary::{Arbitrary, NOW, Request},
    issuer::Key,
    paths,
    shipped::example_policy,
    vectors::{Vector, ask_all, check},
    wasm_host::{Outcome, WasmHost},
};
use serde_json::json;
use std::{collections::BTreeMap, fmt, mem::replace};

const POLICIES: usize = 300;
const REQUESTS: usize = 20;

/// What became of a request, in words: verdict first, then everything written, headers and filter
/// state, sorted.
#[derive(PartialEq, Eq)]
struct Answer {
    verdict: String,
    written: Vec<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    {}", self.verdict, self.written.join("\n    "))
    }
}

impl Answer {
    fn new(verdict: String, headers: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut written: Vec<String> =
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        written.sort();
        Self { verdict, written }
    }

    /// What the filter made of the request.
    fn of_filter(outcome: &Outcome) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pairs = |pairs: &[(Vec<u8>, Vec<u8>)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| (text(name), text(value))).collect()
        };
        let state = outcome.properties.iter().map(|(name, value)| (name.clone(), text(value)));
        let Some(reply) = &outcome.reply else {
            return Self::new("passed on".to_owned(), pairs(&outcome.headers).into_iter().chain(state));
        };
        let verdict = format!("{} {} {}", reply.status, reply.details, reply.grpc_status);
        let body = ("body".to_owned(), text(&reply.body));
        Self::new(verdict, pairs(&reply.headers).into_iter().chain([body]).chain(state))
    }

    /// What the engine's decision under this revision asks the filter to make of it.
    fn of_engine(decision: &Decision<'_>, revision: u64, request: &Request) -> Self {
        let private = |name: &str| PRIVATE_HEADERS.iter().any(|prefix| name.starts_with(prefix));
        let own = |(name, _): &&(String, String)| !private(name);
        let mut headers: Request = request.iter().filter(own).cloned().collect();
        let (mut state, place) = (vec![("revision", revision.to_string())], place(decision));
        if let Some(Place { module, route }) = place {
            state.extend([("module", module.id.to_string()), ("route", route.pattern.to_string())]);
        }
        let mut verdict = "passed on".to_owned();
        match decision {
            Decision::Pass => state.push(("decision", "pass".to_owned())),
            Decision::Forward(forward) => {
                let (organisation, flags) = (organisation(forward), flags(forward));
                write_forward(forward, &mut headers);
                headers.extend(hash_key(forward).map(|key| ("envoy.hashable_string".to_owned(), key)));
                state.push(("decision", forward.arm.as_str().to_owned()));
                state.push(("organisation", organisation));
                let chosen = forward.arm == Arm::Module && *forward.place.module.cluster != *forward.cluster;
                state.extend(chosen.then(|| ("arm", forward.cluster.to_owned())));
                state.extend((!flags.is_empty()).then_some(("flags", flags)));
            }
            Decision::Refuse(refusal, _) => {
                let (reply, reason) = (refusal.reply(), refusal.reason);
                verdict = format!("{} {} {}", reply.status, reason.as_str(), reason.grpc_status());
                let told = reply.headers.into_iter().map(|(name, value)| (name.to_owned(), value));
                headers = told.chain([("body".to_owned(), reply.body)]).collect();
                state.push(("reason", reason.as_str().to_owned()));
            }
        }
        let state = state.into_iter().map(|(name, value)| (format!("rampart.{name}"), value));
        Self::new(verdict, headers.into_iter().chain(state))
    }
}

fn place<'d>(decision: &'d Decision<'_>) -> Option<Place<'d>> {
    match decision {
        Decision::Pass => None,
        Decision::Forward(forward) => Some(forward.place),
        Decision::Refuse(_, place) => *place,
    }
}

fn identity(forward: &Forward<'_>) -> Identity {
    forward.token.as_ref().map(|token| token.identity.clone()).unwrap_or_default()
}

fn organisation(forward: &Forward<'_>) -> String {
    identity(forward).organisation.unwrap_or_default().into()
}

/// What the load balancer is told to hash.
fn hash_key(forward: &Forward<'_>) -> Option<String> {
    let by = forward.place.module.hash_by?;
    Some(match by {
        HashBy::Organisation => organisation(forward),
    })
    .filter(|key| !key.is_empty())
}

fn flags(forward: &Forward<'_>) -> String {
    forward.flags.iter().map(ToString::to_string).collect::<Vec<String>>().join(",")
}

fn configuration(forward: &Forward<'_>) -> String {
    let record = forward.record.filter(|_| forward.arm == Arm::Module);
    record.and_then(|record| record.configuration.as_deref()).unwrap_or_default().to_owned()
}

fn write_forward(forward: &Forward<'_>, headers: &mut Request) {
    match forward.withhold {
        None => {}
        Some(TokenSource::Bearer) => headers.retain(|(name, _)| name != "authorization"),
        Some(TokenSource::Header(header)) => headers.retain(|(name, _)| name != header),
        Some(TokenSource::Cookie(cookie)) => {
            for (_, value) in headers.iter_mut().filter(|(name, _)| name == "cookie") {
                *value = String::from_utf8_lossy(&without_cookie(value.as_bytes(), cookie)).into_owned();
            }
        }
    }
    for (name, value) in &forward.headers {
        headers.retain(|(known, _)| known != name);
        headers.push(((*name).to_owned(), (*value).to_owned()));
    }
    if let Some(path) = &forward.path {
        headers.retain(|(name, _)| name != "x-envoy-original-path");
        let sent = headers.iter_mut().find(|(name, _)| name == ":path");
        let public = sent.map(|(_, sent)| replace(sent, String::from_utf8_lossy(path).into_owned()));
        headers.push(("x-envoy-original-path".to_owned(), public.unwrap_or_default()));
    }
    let identity = identity(forward);
    // A name that would arrive as another is not told.
    let told = |name: Option<Box<str>>| name.filter(|name| name.trim_ascii() == &**name).unwrap_or_default();
    let own = [
        ("cluster", forward.cluster.to_owned()),
        ("mirror", forward.mirror.unwrap_or_default().to_owned()),
        ("module", forward.place.module.id.to_string()),
        ("organisation", told(identity.organisation).into()),
        ("subject", told(identity.subject).into()),
        ("roles", identity.roles.as_str().to_owned()),
        ("permissions", identity.permissions.as_str().to_owned()),
        ("flags", flags(forward)),
        ("module-config", configuration(forward)),
    ];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    headers.extend(own.map(|(name, value)| (format!("x-rampart-{name}"), value)));
}

/// What is special about a request that is forwarded.
fn specials(decision: &Decision<'_>, request: &Request) -> Vec<&'static str> {
    let Decision::Forward(forward) = decision else { return Vec::new() };
    // `{"alg":"ES256`, as every token under the issuers' own keys begins.
    let usual = request.iter().any(|(_, value)| value.contains("eyJhbGciOiJFUzI1NiIs"));
    let specials = [
        ("a path of its own", forward.path.is_some()),
        ("a key to hash", hash_key(forward).is_some()),
        ("a configuration", !configuration(forward).is_empty()),
        ("a name untold", organisation(forward).ends_with(' ')),
        ("another algorithm", forward.token.is_some() && !usual),
    ];
    specials.into_iter().filter(|(_, is_so)| *is_so).map(|(what, _)| what).collect()
}

/// A request as the engine reads one.
struct View<'a>(&'a Request);

impl Headers for View<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}

#[test]
fn the_engine_and_the_filter_never_disagree() -> Result<()> {
    let mut arbitrary = Arbitrary::new(1)?;
    let mut host = WasmHost::load(&paths::filter()?)?;
    host.set_time(NOW);
    let mut tokens = TokenCache::new([7; 16]);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (mut flag_errors, mut refused) = (0, 0);
    for number in 0..POLICIES {
        let sent = arbitrary.policy();
        let damaged = arbitrary.damaged(&sent);
        let native = Policy::from_json(&damaged).is_ok();
        ensure!(native == host.configure(&damaged)?, "{native}: {}", String::from_utf8_lossy(&damaged));
        refused += usize::from(!native);

        let json = sent.to_string();
        let policy = Policy::from_json(json.as_bytes());
        let policy = policy.map_err(|problems| anyhow::anyhow!("policy {number}: {problems:?}: {json}"))?;
        ensure!(host.configure(json.as_bytes())?, "policy {number}: {:?}", host.log());
        for _ in 0..REQUESTS {
            let request = arbitrary.request(&sent)?;
            let mut context = Context { now: NOW, verifier: &PureRust, tokens: &mut tokens };
            let decision = decide(&policy, &View(&request), &mut context);
            flag_errors += u64::from(match &decision {
                Decision::Pass => false,
                Decision::Forward(forward) => forward.flag_error,
                Decision::Refuse(refusal, _) => refusal.flag_error,
            });
            let outcome = host.request(&request)?;
            let engine = Answer::of_engine(&decision, policy.revision, &request);
            let filter = Answer::of_filter(&outcome);
            ensure!(engine == filter, "{request:#?}\nengine: {engine}\nfilter: {filter}\n{json}");
            let word = outcome.property("rampart.reason").or(outcome.property("rampart.decision"));
            for word in specials(&decision, &request).into_iter().chain([word.context("no verdict")?]) {
                *seen.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    // Each happens often, or policies and requests are not what this test thinks they are.
    for (word, often) in [
        ("pass", 50),
        ("module", 250),
        ("legacy", 80),
        ("missing_token", 200),
        ("multiple_tokens", 80),
        ("malformed_token", 50),
        ("unsupported_algorithm", 40),
        ("unknown_issuer", 100),
        ("misplaced_token", 20),
        ("unknown_key", 20),
        ("bad_signature", 10),
        ("wrong_audience", 8),
        ("missing_claim", 30),
        ("missing_expiry", 8),
        ("expired_token", 10),
        ("token_not_yet_valid", 8),
        ("denied_token", 20),
        ("missing_permission", 50),
        ("missing_role", 20),
        ("flag_off", 30),
        ("malformed_tenant", 8),
        ("cross_tenant", 15),
        ("module_not_enabled", 40),
        ("unknown_module", 100),
        ("unknown_version", 100),
        ("unknown_route", 150),
        ("unknown_path", 50),
        ("malformed_path", 80),
        ("method_not_allowed", 200),
        ("no_keys", 40),
        ("a path of its own", 50),
        ("a key to hash", 50),
        ("a configuration", 5),
        ("a name untold", 5),
        ("another algorithm", 5),
    ] {
        ensure!(seen.get(word).is_some_and(|times| *times >= often), "{word}: {seen:?}");
    }
    let counted = host.metrics().iter().find(|(name, _)| name == "rampart.flag_error");
    ensure!(counted == Some(&("rampart.flag_error".to_owned(), flag_errors)), "{flag_errors}: {counted:?}");
    ensure!(flag_errors > 10 && (50..POLICIES).contains(&refused), "{flag_errors} {refused}");
    Ok(())
}

#[test]
fn every_vector_holds_in_webassembly() -> Result<()> {
    let (vectors, key) = (Vector::all()?, Key::p256("ec")?);
    let mut policy = example_policy()?;
    policy["providers"][0]["jwks"] = json!({ "keys": [key.jwk()] });
    ask_all(&mut policy, &vectors);
    let mut host = WasmHost::load(&paths::filter()?)?;
    host.set_time(NOW);
    ensure!(host.configure(policy.to_string().as_bytes())?, "{:?}", host.log());
    let provider = &policy["providers"][0];
    for (number, vector) in vectors.iter().enumerate() {
        let token = key.sign(&json!({
            "iss": provider["issuer"], "aud": provider["audiences"], "exp": NOW + 60,
            "org_id": vector.organisation, "permissions": ["analytics:read"],
        }))?;
        let outcome = host.request(&[
            (":method", "GET"),
            (":path", "/api/v1/modules/v1/analytics/reports"),
            ("authorization", &format!("Bearer {token}")),
        ])?;
        ensure!(outcome.continues, "{:?}", outcome.reply);
        check(&vectors, number, outcome.header("x-rampart-flags").unwrap_or_default())?;
    }
    Ok(())
}
