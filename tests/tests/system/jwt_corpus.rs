//! Which tokens are believed, next to Envoy's own `jwt_authn`: both filters in one Envoy, with the same issuer,
//! audience, keys and leeway, are sent the same adversarial tokens. And next to the engine, natively, whose own
//! cryptography verifies what for the filter Envoy's does.

use anyhow::{Context as _, Result, anyhow, ensure};
use rampart_engine::{
    decide::{Context, decide},
    decision::Decision,
    policy::Policy,
    request::Headers,
    token_cache::TokenCache,
    verify::PureRust,
};
use rampart_tests::{
    client::fan_out,
    corpus::{
        self, AUDIENCE, Case, ISSUER, LEEWAY_SECONDS,
        keys::{ALGORITHMS, Keys},
    },
    envoy::Envoy,
    issuer::now,
    paths,
    ports::Port,
    raw::{Answer, ask_all},
    shipped::{StaticVariant, example_policy},
    upstream::Upstream,
    wait::SOON,
    wasm_host::Header,
    workdir::system_test,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, path::Path};

const PATH: &str = "/api/v1/modules/v1/analytics/reports";

/// Cases that the two filters judge differently on purpose.
struct Difference {
    /// Names of the corpus's cases, whatever they were signed with, between line breaks or bars.
    cases: &'static str,
    accepted_by: Filter,
    /// Why Rampart differs.
    reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Filter {
    JwtAuthn,
    Rampart,
}

const DIFFERENCES: [Difference; 15] = [
    Difference {
        cases: r#"
            algorithm: ES256 with no kid | algorithm: ES256 with the signer's kid | algorithm: ES384 with no kid
            algorithm: ES384 with the signer's kid | algorithm: ES512 with no kid
            algorithm: ES512 with the signer's kid | algorithm: EdDSA with no kid
            algorithm: EdDSA with the signer's kid | algorithm: PS256 with no kid
            algorithm: PS256 with the signer's kid | algorithm: PS384 with no kid
            algorithm: PS384 with the signer's kid | algorithm: PS512 with no kid
            algorithm: PS512 with the signer's kid | algorithm: RS256 with no kid
            algorithm: RS256 with the signer's kid | algorithm: RS384 with no kid
            algorithm: RS384 with the signer's kid | algorithm: RS512 with no kid
            algorithm: RS512 with the signer's kid | header: alg "ES512" | header: alg "HS256"
            header: alg "HS384" | header: alg "HS512""#,
        accepted_by: Filter::JwtAuthn,
        reason: "the signature must be of the algorithm that the header names (RFC 8725 §3.1); with EC and \
                 Ed25519 keys jwt_authn verifies by the key's kind, whatever the header says",
    },
    Difference {
        cases: "claims: no exp | claims: exp 0 | claims: exp -0 | claims: exp 0.5 | claims: exp 0e0",
        accepted_by: Filter::JwtAuthn,
        reason: "a token must expire, and 0 is 1970; jwt_authn takes no exp, and 0, for no end",
    },
    Difference {
        cases: r#"claims: aud "rampart-corpus/""#,
        accepted_by: Filter::JwtAuthn,
        reason: "audiences are compared as they are (RFC 7519 §2); jwt_authn drops scheme and final slash",
    },
    Difference {
        cases: r#"claims: org_id 7 | claims: org_id ["acme"] | claims: org_id "a\nb"
            claims: sub "\u007f" | claims: sub "a\r\nb: c" | claims: sub "a\u0000b""#,
        accepted_by: Filter::JwtAuthn,
        reason: "Rampart tells these to the upstream in headers, so they must be fit for one",
    },
    Difference {
        cases: "form: a dot after it | form: a dot before it | form: another scheme first
            form: non-ASCII before it | form: text after it",
        accepted_by: Filter::JwtAuthn,
        reason: "the header is a scheme and a token and nothing else (RFC 6750 §2.1); jwt_authn looks for \
                 a token somewhere in it",
    },
    Difference {
        cases: "signature: padded | signature: unused bits set | form: double padding on the signature
            form: a space before the signature",
        accepted_by: Filter::JwtAuthn,
        reason: "one signature has one spelling, without padding (RFC 7515 §2)",
    },
    Difference {
        cases: "signature: a zero more | form: a character more on the signature",
        accepted_by: Filter::JwtAuthn,
        reason: "an ECDSA signature has one length (RFC 7518 §3.4); jwt_authn ignores what is behind it",
    },
    Difference {
        cases: r#"header: crit [] | header: crit [""] | header: crit ["exp"] | header: crit ["b64"]
            header: crit ["alg"] | header: crit "exp" | header: crit 7 | header: crit {} | header: crit true
            header: b64 true | header: b64 false | header: b64 "false" | header: b64 null | header: crit null"#,
        accepted_by: Filter::JwtAuthn,
        reason: "extensions that must be understood are not (RFC 7515 §4.1.11, RFC 7797 §6)",
    },
    Difference {
        cases: r#"header: kid "" | key: published without kid, an empty one named
            key: published without kid, an unknown one named | key: published without kid, another's named"#,
        accepted_by: Filter::JwtAuthn,
        reason: "a token that names a key is verified with that key; jwt_authn also tries keys without \
                 a name, and takes an empty name for none",
    },
    Difference {
        cases: "header: NUL in a string | header: a bare name | header: a comma too many
            header: a line break in a string | header: a tab in a string | header: single quotes
            payload: NUL in a string | payload: a bare name | payload: a comma too many
            payload: a line break in a string | payload: a tab in a string | payload: single quotes",
        accepted_by: Filter::JwtAuthn,
        reason: "this is not JSON (RFC 8259); jwt_authn's parser is protobuf's, which is lenient",
    },
    Difference {
        cases: "header: 14,000 characters | payload: 14,000 characters",
        accepted_by: Filter::JwtAuthn,
        reason: "Rampart looks at no token of more than 16 KiB",
    },
    Difference {
        cases: "claims: exp 9223372036854775807 | claims: exp 9223372036854775808",
        accepted_by: Filter::JwtAuthn,
        reason: "beyond 2^53 JSON numbers are not exact (RFC 8259 §6) and no date is meant",
    },
    Difference {
        cases: "form: lower-case scheme | form: upper-case scheme",
        accepted_by: Filter::Rampart,
        reason: "schemes are compared without case (RFC 9110 §11.1)",
    },
    Difference {
        cases: "claims: sub null",
        accepted_by: Filter::Rampart,
        reason: "Rampart takes null for a member that is missing",
    },
    Difference {
        cases: "header: 110 deep | payload: 110 deep",
        accepted_by: Filter::Rampart,
        reason: "Rampart's JSON parser stops at 128 levels, jwt_authn's at 100",
    },
];

/// A second listener behind which `jwt_authn` decides.
fn native(listener: SocketAddr, jwks: &Value) -> Value {
    let any = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    json!({
        "name": "native",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": listener.port() } },
        "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": any("network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "native",
                "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
                    { "match": { "prefix": "/" }, "route": { "cluster": "legacy" } }
                ] }] },
                "http_filters": [
                    { "name": "jwt_authn", "typed_config": {
                        "@type": any("http.jwt_authn.v3.JwtAuthentication"),
                        "providers": { "corpus": {
                            "issuer": ISSUER,
                            "audiences": [AUDIENCE],
                            "clock_skew_seconds": LEEWAY_SECONDS,
                            "local_jwks": { "inline_string": jwks.to_string() }
                        } },
                        "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "corpus" } }]
                    } },
                    { "name": "router", "typed_config": { "@type": any("http.router.v3.Router") } }
                ]
            }
        }] }]
    })
}

/// A policy that asks for a token only.
fn policy(jwks: &Value) -> Result<Value> {
    let mut policy = example_policy()?;
    let provider = &mut policy["providers"][0];
    provider["issuer"] = json!(ISSUER);
    provider["audiences"] = json!([AUDIENCE]);
    provider["algorithms"] = json!(ALGORITHMS);
    provider["leeway_seconds"] = json!(LEEWAY_SECONDS);
    provider["jwks"] = jwks.clone();
    policy["modules"][0]["auth"] = json!({ "level": "basic" });
    policy["modules"][0]["gates"] = json!([]);
    Ok(policy)
}

/// The shipped configuration with this policy, and the second listener.
fn configuration(rampart: &Port, other: &Port, upstream: SocketAddr, policy: &Value) -> Result<String> {
    let shipped = StaticVariant {
        listener: rampart.address(),
        analytics: upstream,
        legacy: upstream,
        module: &paths::filter()?,
        policy,
    };
    let jwks = &policy["providers"][0]["jwks"];
    let (listeners, yaml) = ("  listeners:\n", shipped.render()?);
    let (before, after) = yaml.split_once(listeners).context("the shipped listeners")?;
    // JSON is YAML.
    Ok(format!("{before}{listeners}  - {}\n{after}", native(other.address(), jwks)))
}

async fn ask(listener: SocketAddr, cases: &[Case]) -> Result<Vec<Answer>> {
    let start = format!("GET {PATH} HTTP/1.1\r\nhost: corpus\r\n");
    let requests: Vec<Vec<u8>> =
        cases.iter().map(|case| [start.as_bytes(), &case.lines[..], b"\r\n"].concat()).collect();
    let parts: Vec<&[Vec<u8>]> = requests.chunks(50).collect();
    Ok(fan_out(parts, 4, async |part: &[Vec<u8>]| ask_all(listener, part, SOON).await).await?.concat())
}

/// A case's headers as Envoy hands them over: names in lower case, blanks around values removed, and a
/// line that begins with a blank is the end of the one before (RFC 9112 §5.2).
struct Sent(Vec<Header>);

impl Sent {
    fn new(lines: &[u8]) -> Self {
        let start = [(":method", "GET"), (":path", PATH)];
        let mut headers: Vec<Header> = start.map(|(name, value)| (name.into(), value.into())).into();
        for line in lines.split(|byte| *byte == b'\n') {
            if let ([b' ' | b'\t', ..], Some((_, value))) = (line, headers.last_mut()) {
                value.push(b' ');
                value.extend(line.trim_ascii());
            } else if let Some(colon) = line.iter().position(|byte| *byte == b':') {
                headers.push((line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii().into()));
            }
        }
        Self(headers)
    }
}

impl Headers for Sent {
    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }
}

/// What the engine says to each case natively.
fn judge(policy: &Value, cases: &[Case]) -> Result<Vec<String>> {
    let policy = Policy::from_json(policy.to_string().as_bytes()).map_err(|why| anyhow!("{why:?}"))?;
    let mut tokens = TokenCache::new([7; 16]);
    let judge = |case: &Case| {
        let mut context = Context { now: now(), verifier: &PureRust, tokens: &mut tokens };
        match decide(&policy, &Sent::new(&case.lines), &mut context) {
            Decision::Refuse(refusal, _) => {
                format!("{} {}", refusal.reply().status, refusal.reason.as_str())
            }
            Decision::Forward(_) => "200".to_owned(),
            Decision::Pass => "pass".to_owned(),
        }
    };
    Ok(cases.iter().map(judge).collect())
}

/// What our filter in Envoy has said; nothing where Envoy has answered before it.
fn said(answer: &Answer) -> Result<Option<String>> {
    let status = answer.status;
    if answer.header("content-type") != Some("application/problem+json") {
        return Ok((status == 200).then(|| status.to_string()));
    }
    let body: Value = serde_json::from_slice(&answer.body)?;
    Ok(Some(format!("{status} {}", body["reason"].as_str().context("no reason")?)))
}

/// Status and reason are the same, whoever's cryptography verified.
fn agree_with_the_engine(policy: &Value, cases: &[Case], ours: &[Answer]) -> Result<()> {
    let (mut judged, mut disagreed) = (0, Vec::new());
    for ((case, ours), engine) in cases.iter().zip(ours).zip(judge(policy, cases)?) {
        let Some(filter) = said(ours)? else { continue };
        judged += 1;
        if filter != engine {
            disagreed.push(format!("{} ({}): {filter}, natively {engine}", case.name, case.algorithm));
        }
    }
    ensure!(disagreed.is_empty(), "{disagreed:#?}");
    ensure!(judged + 20 > cases.len(), "only {judged} of {} got past Envoy", cases.len());
    Ok(())
}

async fn compare(dir: &Path) -> Result<()> {
    let keys = Keys::generate()?;
    let (rampart, native, upstream) = (Port::claim()?, Port::claim()?, Upstream::start("upstream").await?);
    let policy = policy(&keys.jwks)?;
    let config = configuration(&rampart, &native, upstream.address(), &policy)?;
    let mut envoy = Envoy::start(dir, &config, 1).await?;
    envoy.ready().await?;
    envoy.accepts(rampart.address()).await?;
    envoy.accepts(native.address()).await?;

    let cases = corpus::generate(&keys)?;
    ensure!(cases.len() >= 500, "only {} tokens", cases.len());
    let (ours, theirs) = (ask(rampart.address(), &cases).await?, ask(native.address(), &cases).await?);

    agree_with_the_engine(&policy, &cases, &ours)?;

    let mut found: BTreeMap<(&str, Filter), Vec<&str>> = BTreeMap::new();
    let (mut accepted, mut refused) = (0, 0);
    for ((case, ours), theirs) in cases.iter().zip(&ours).zip(&theirs) {
        let Case { name, algorithm, .. } = case;
        // 400 and 431 are Envoy's own, for what is no request.
        let known = [200, 400, 401, 431].contains(&ours.status);
        ensure!(known, "{name} ({algorithm}): {ours:?}");
        match (ours.status == 200, theirs.status == 200) {
            (true, true) => accepted += 1,
            (false, false) => refused += 1,
            (true, false) => found.entry((name, Filter::Rampart)).or_default().push(algorithm),
            (false, true) => found.entry((name, Filter::JwtAuthn)).or_default().push(algorithm),
        }
    }
    // Two filters that refuse everything would agree as well.
    ensure!(accepted > 250 && refused > 1_000, "{accepted} accepted and {refused} refused by both");

    let mut stale = Vec::new();
    for Difference { cases, accepted_by, reason } in &DIFFERENCES {
        for name in cases.split(['|', '\n']).map(str::trim).filter(|name| !name.is_empty()) {
            // Also when it is listed twice.
            if found.remove(&(name, *accepted_by)).is_none() {
                stale.push(format!("{name}: accepted by {accepted_by:?} alone, since {reason}"));
            }
        }
    }
    ensure!(
        found.is_empty() && stale.is_empty(),
        "differences that are not listed, with algorithms: {found:#?}\nlisted, and not so: {stale:#?}"
    );
    Ok(())
}

#[test]
fn the_verdicts_are_envoys_but_for_what_is_listed() {
    system_test(compare);
}
