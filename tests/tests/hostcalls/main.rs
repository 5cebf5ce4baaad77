//! What a request costs, in counts: the built filter in a host that keeps account of every call and
//! every instruction. Times are for `scripts/bench`.

use anyhow::{Context as _, Result};
use rampart_tests::{
    corpus::keys::{ALGORITHMS, Keys},
    issuer::{Key, base64url, unsigned},
    paths,
    shipped::example_policy,
    wasm_host::{Outcome, WasmHost},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

mod counting;

const NOW: u64 = 1_800_000_000;
const REPORTS: &str = "/api/v1/modules/v1/analytics/reports";

/// The most that a forwarded request writes: seven headers (cluster, module, organisation, subject,
/// roles, permissions, flags) and six properties (module, route, organisation, flags, revision,
/// decision).
const WRITES: usize = 13;

/// The most that a cached request executes, in the interpreter's units, and one with a new token
/// besides the host's cryptography. The tests' own requests take 36,000 and 184,000 at the time of
/// writing; a change that needs more should know what for.
const INSTRUCTIONS: u64 = 40_000;
const NEW_INSTRUCTIONS: u64 = 210_000;

/// Tokens that stay cached, whatever else comes, and what they may take of a VM's memory.
const WORKING_SET: usize = 10_240;
const CACHE: usize = 10 << 20;

/// By which the host's cryptography is asked.
const ASKING: &str = "proxy_call_foreign_function";

/// What changes the request or leaves something behind.
const WRITING: [&str; 4] = [
    "proxy_add_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_set_property",
];

/// What every decision reads: all headers at once, and the clock.
const READS: [(&str, usize); 2] =
    [("proxy_get_current_time_nanoseconds", 1), ("proxy_get_header_map_pairs", 1)];

struct World {
    host: WasmHost,
    key: Key,
    policy: Value,
}

impl World {
    fn new() -> Result<Self> {
        let mut host = WasmHost::load(&paths::filter()?)?;
        host.set_time(NOW);
        let key = Key::p256("ec")?;
        let mut policy = example_policy()?;
        policy["providers"][0]["jwks"] = json!({ "keys": [key.jwk()] });
        policy["flags"][0]["percentage"] = json!(100);
        // The module is told of a flag too: the longest list of headers there is.
        policy["modules"][0]["flags"] = json!(["analytics_module"]);
        Ok(Self { host, key, policy })
    }

    /// The same, with the policy in force.
    fn configured() -> Result<Self> {
        let mut world = Self::new()?;
        world.configure()?;
        Ok(world)
    }

    fn configure(&mut self) -> Result<()> {
        let accepted = self.host.configure(self.policy.to_string().as_bytes())?;
        anyhow::ensure!(accepted, "refused: {:?}", self.host.log());
        // A VM's first request draws the random key of its cache, and is like no other.
        self.get(REPORTS, "").map(drop)
    }

    fn claims(&self, subject: &str) -> Value {
        let provider = &self.policy["providers"][0];
        json!({
            "iss": provider["issuer"], "aud": provider["audiences"], "exp": NOW + 3_600, "sub": subject,
            "org_id": "acme", "permissions": ["analytics:read"], "roles": ["analyst"],
        })
    }

    fn token(&self, subject: &str) -> Result<String> {
        self.key.sign(&self.claims(subject))
    }

    fn get(&mut self, path: &str, token: &str) -> Result<Outcome> {
        self.host.request(&[
            (":method", "GET"),
            (":path", path),
            (":scheme", "http"),
            (":authority", "api.example"),
            ("user-agent", "test"),
            ("authorization", &format!("Bearer {token}")),
        ])
    }
}

/// The calls that write, together, and all others by name.
fn split(outcome: &Outcome) -> (usize, BTreeMap<&str, usize>) {
    let writes = WRITING.iter().map(|name| outcome.calls_of(name)).sum();
    let calls = outcome.calls.iter().map(|(name, count)| (name.as_str(), *count));
    (writes, calls.filter(|(name, _)| !WRITING.contains(name)).collect())
}

#[test]
fn a_cached_request_reads_once_asks_nobody_and_writes_little() -> Result<()> {
    let mut world = World::configured()?;
    let token = world.token("alice")?;
    world.get(REPORTS, &token)?;
    let cached = world.get(REPORTS, &token)?;
    assert!(cached.continues && cached.reply.is_none(), "{:?}", cached.reply);
    assert_eq!(cached.header("x-rampart-cluster"), Some("analytics-v1"));
    assert_eq!(cached.header("x-rampart-organisation"), Some("acme"));
    assert_eq!(cached.property("rampart.decision"), Some("module"));

    // Nothing else at all: no second read, no foreign call, no shared data, no log line.
    let (writes, others) = split(&cached);
    assert_eq!(others, BTreeMap::from(READS));
    assert!((1..=WRITES).contains(&writes), "{writes}: {:?}", cached.calls);
    assert!(cached.instructions <= INSTRUCTIONS, "{} instructions", cached.instructions);
    Ok(())
}

#[test]
fn a_new_token_costs_one_call_of_the_hosts_cryptography() -> Result<()> {
    let mut world = World::configured()?;
    for subject in ["alice", "bob"] {
        let token = world.token(subject)?;
        let new = world.get(REPORTS, &token)?;
        assert_eq!(new.header("x-rampart-subject"), Some(subject));
        let (writes, mut others) = split(&new);
        assert_eq!(others.remove(ASKING), Some(1));
        assert_eq!(others, BTreeMap::from(READS));
        assert!(writes <= WRITES, "{:?}", new.calls);
        assert!(new.instructions <= NEW_INSTRUCTIONS, "{} instructions", new.instructions);
        let cached = world.get(REPORTS, &token)?;
        assert!(cached.instructions < new.instructions);
    }
    Ok(())
}

#[test]
fn trailers_lose_what_is_private_or_go_no_further() -> Result<()> {
    const SENT: [(&str, &[u8]); 5] = [
        ("grpc-status", b"0"),
        ("x-rampart-organisation", b"acme"),
        ("x_rampart_roles", b"\xff"),
        ("x-request-id", b"7"),
        ("x-envoy-original-path", b"/"),
    ];
    let mut world = World::configured()?;
    let (left, goes_on) = world.host.trailers(&SENT)?;
    let names: Vec<_> = left.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
    assert_eq!((names, goes_on), (vec!["grpc-status".into(), "x-request-id".into()], true));
    world.host.withhold("proxy_remove_header_map_value");
    assert!(!world.host.trailers(&SENT)?.1);
    assert!(world.host.trailers(&SENT[..1])?.1);
    Ok(())
}

#[test]
fn without_the_hosts_cryptography_the_filter_verifies_itself() -> Result<()> {
    let mut world = World::new()?;
    world.host.offer_verification(false);
    world.configure()?;
    let token = world.token("alice")?;
    let new = world.get(REPORTS, &token)?;
    assert!(new.continues, "{:?}", new.reply);
    assert_eq!(split(&new).1, BTreeMap::from(READS));
    Ok(())
}

#[test]
fn each_algorithm_is_the_hosts_to_verify_where_the_host_knows_it() -> Result<()> {
    let (mut world, keys) = (World::new()?, Keys::generate()?);
    let provider = &mut world.policy["providers"][0];
    provider["jwks"] = keys.jwks.clone();
    provider["algorithms"] = json!(ALGORITHMS);
    world.configure()?;
    for signer in &keys.honest {
        let header = json!({ "alg": signer.algorithm, "kid": signer.kid });
        let text = unsigned(&header, &world.claims(signer.algorithm));
        let [good, other] = [text.as_bytes(), b"something else"].map(|text| signer.sign(text));
        let asked = usize::from(!signer.algorithm.starts_with("PS") && signer.algorithm != "EdDSA");
        for (signature, refused) in [(good?, None), (other?, Some("bad_signature"))] {
            let outcome = world.get(REPORTS, &format!("{text}.{}", base64url(&signature)))?;
            let reason = outcome.reply.as_ref().map(|reply| reply.details.as_str());
            assert_eq!((reason, outcome.calls_of(ASKING)), (refused, asked), "{}", signer.algorithm);
        }
    }
    Ok(())
}

#[test]
fn ten_thousand_usual_tokens_stay_cached_in_little_memory() -> Result<()> {
    let mut world = World::configured()?;
    let token = |number| world.token(&format!("user-{number}@acme.example"));
    let tokens = (0..WORKING_SET).map(token).collect::<Result<Vec<String>>>()?;
    let before = world.host.memory()?;
    for (round, asked) in [("new", 1), ("cached", 0)] {
        for token in &tokens {
            let outcome = world.get(REPORTS, token)?;
            assert!(outcome.continues, "{:?}", outcome.reply);
            assert_eq!(outcome.calls_of(ASKING), asked, "{round}");
        }
    }
    let grown = world.host.memory()? - before;
    assert!((1..CACHE).contains(&grown), "{grown} bytes for {WORKING_SET} tokens");
    Ok(())
}

#[test]
fn a_denial_ends_a_token_that_is_cached() -> Result<()> {
    let mut world = World::configured()?;
    let mut claims = world.claims("alice");
    claims["jti"] = json!("once");
    let token = world.key.sign(&claims)?;
    for denied in
        [json!({"tokens": ["once"]}), json!({"subjects": ["alice"]}), json!({"organisations": ["acme"]})]
    {
        world.get(REPORTS, &token)?;
        let cached = world.get(REPORTS, &token)?;
        assert!(cached.continues && cached.calls_of(ASKING) == 0, "{:?}", cached.calls);
        for (denied, reason) in [(denied, Some("denied_token")), (json!({}), None)] {
            world.policy["denied"] = denied;
            world.configure()?;
            let outcome = world.get(REPORTS, &token)?;
            assert_eq!(outcome.reply.as_ref().map(|reply| reply.details.as_str()), reason);
        }
    }
    Ok(())
}

#[test]
fn a_modules_own_path_and_pace_cost_one_write_each() -> Result<()> {
    let mut world = World::configured()?;
    let token = world.token("alice")?;
    world.get(REPORTS, &token)?;
    let (plain, _) = split(&world.get(REPORTS, &token)?);
    let module = &mut world.policy["modules"][0];
    module["rewrite"] = json!({ "prefix": "/internal" });
    module["tenant"] = json!({ "header": "x-organisation-id" });
    module["timeout_ms"] = json!(5_000);
    world.configure()?;
    let path = format!("{REPORTS}?q=%2F");
    let bearer = format!("Bearer {token}");
    let rewritten = world.host.request(&[
        (":method", "GET"),
        (":path", &*path),
        ("authorization", &*bearer),
        ("x-envoy-original-path", "/forged"),
        ("x-organisation-id", "acme"),
    ])?;
    assert!(rewritten.continues, "{:?}", rewritten.reply);
    assert_eq!(rewritten.header(":path"), Some("/internal/reports?q=%2F"));
    let told = rewritten.headers.iter().filter(|(name, _)| name == b"x-envoy-original-path");
    assert_eq!(told.map(|(_, value)| &value[..]).collect::<Vec<_>>(), [path.as_bytes()]);
    // The path, the path it was, the timeout, and the forgery's removal; whose data it is costs no call.
    assert_eq!(split(&rewritten), (plain + 4, BTreeMap::from(READS)));
    Ok(())
}

#[test]
fn a_name_that_a_header_would_change_is_not_told() -> Result<()> {
    let mut world = World::configured()?;
    let provider = &world.policy["providers"][0];
    let token = world.key.sign(&json!({
        "iss": provider["issuer"], "aud": provider["audiences"], "exp": NOW + 3_600, "sub": " admin",
        "org_id": "acme ", "permissions": ["analytics:read"], "roles": ["user", " admin", "owner "],
    }))?;
    let outcome = world.get(REPORTS, &token)?;
    assert!(outcome.continues, "{:?}", outcome.reply);
    assert_eq!([outcome.header("x-rampart-organisation"), outcome.header("x-rampart-subject")], [None; 2]);
    assert_eq!(outcome.header("x-rampart-roles"), Some("user"));
    // What was decided, was decided about the name as it is.
    assert_eq!(outcome.property("rampart.organisation"), Some("acme "));
    Ok(())
}

#[test]
fn a_refusal_reads_once_and_answers_once() -> Result<()> {
    let mut world = World::configured()?;
    let good = world.token("alice")?;
    let (text, _) = good.rsplit_once('.').context("no signature")?;
    let forged = format!("{text}.{}", "A".repeat(86));
    for (path, token, status, asked) in [
        (REPORTS, "", 401, 0),
        (REPORTS, forged.as_str(), 401, 1),
        ("/api/v1/modules/v1/analytics/nothing", good.as_str(), 404, 0),
    ] {
        let refused = world.get(path, token)?;
        let reply = refused.reply.as_ref().context("it passed")?;
        assert!(!refused.continues && reply.status == status, "{path}: {reply:?}");
        assert_eq!(refused.property("rampart.decision"), None, "a refused request is not attested");
        let (writes, mut others) = split(&refused);
        assert_eq!(others.remove("proxy_send_local_response"), Some(1));
        assert_eq!(others.remove("proxy_increment_metric"), Some(1));
        assert!(others.remove("proxy_define_metric").unwrap_or_default() <= 1, "{path}");
        assert_eq!(others.remove(ASKING).unwrap_or_default(), asked, "{path}");
        assert_eq!(others, BTreeMap::from(READS), "{path}");
        assert!(writes <= WRITES, "{:?}", refused.calls);
    }
    Ok(())
}

#[test]
fn a_request_costs_the_same_however_large_the_policy_is() -> Result<()> {
    let mut world = World::configured()?;
    let token = world.token("alice")?;
    world.get(REPORTS, &token)?;
    let small = world.get(REPORTS, &token)?;

    let names: Vec<String> = (0..1_000).map(|number| format!("other-{number}")).collect();
    let modules = world.policy["modules"].as_array_mut().context("no modules")?;
    modules.extend(names.iter().map(|name| {
        json!({"id": name, "version": "v1", "namespace": name, "cluster": name, "routes": [{"path": "/a"}]})
    }));
    let flags = world.policy["flags"].as_array_mut().context("no flags")?;
    flags[0]["organisations"] = json!({ "on": names, "off": [] });
    flags.extend(names.iter().map(|name| json!({"key": name, "percentage": 50})));
    world.configure()?;
    world.get(REPORTS, &token)?;
    let large = world.get(REPORTS, &token)?;

    assert_eq!(large.calls, small.calls);
    // A lookup in a larger table may probe a little further. It never walks the table.
    let (small, large) = (small.instructions, large.instructions);
    assert!(large < small + small / 5, "{small} instructions, and {large} with a thousand of everything");
    Ok(())
}

#[test]
fn cached_requests_leave_the_memory_as_it_is() -> Result<()> {
    let mut world = World::configured()?;
    let token = world.token("alice")?;
    let mut ask = |times: usize| -> Result<usize> {
        (0..times).try_for_each(|_| world.get(REPORTS, &token).map(drop))?;
        world.host.memory()
    };
    let (before, after) = (ask(100)?, ask(2_000)?);
    assert_eq!(before, after);
    Ok(())
}

#[test]
fn without_a_policy_every_request_is_refused() -> Result<()> {
    let mut world = World::new()?;
    let good = world.token("alice")?;
    anyhow::ensure!(!world.host.configure(b"{}")?, "it took an empty policy");
    for path in [REPORTS, "/outside"] {
        let outcome = world.get(path, &good)?;
        let reply = outcome.reply.as_ref().context("it passed")?;
        assert_eq!((reply.status, reply.details.as_str()), (503, "no_policy"));
        assert!(!outcome.continues && outcome.property("rampart.decision").is_none());
    }
    assert_eq!(world.host.metrics(), [("rampart.refused.no_policy".to_owned(), 2)]);
    Ok(())
}

/// At a time of 0 no token would ever have expired, and a cache whose key is known to all is no cache.
#[test]
fn without_time_or_random_numbers_nobody_is_judged() -> Result<()> {
    for withheld in ["proxy_get_current_time_nanoseconds", "random_get"] {
        let mut world = World::new()?;
        world.host.withhold(withheld);
        world.configure()?;
        let token = world.token("alice")?;
        for path in [REPORTS, "/outside"] {
            let outcome = world.get(path, &token)?;
            let reply = outcome.reply.as_ref().with_context(|| format!("it passed without {withheld}"))?;
            assert_eq!((reply.status, reply.details.as_str()), (503, "incapable_host"));
            assert!(!outcome.continues && outcome.property("rampart.decision").is_none());
        }
    }
    Ok(())
}

/// Envoy does nothing else on the worker while a policy is read.
#[test]
fn a_policy_is_read_in_a_time_that_grows_with_its_length() -> Result<()> {
    let mut world = World::new()?;
    let mut cost = |names: usize| -> Result<u64> {
        let flag = |key: &str, from: u32| {
            let on: Vec<String> = (0..names).map(|number| format!("{key}-{number}")).collect();
            json!({"key": key, "exclusive_group": {"name": "g", "from": from, "to": from + 30},
                "organisations": {"on": on}})
        };
        world.policy["flags"] =
            json!([{"key": "analytics_module"}, flag("a", 0), flag("b", 30), flag("c", 60)]);
        anyhow::ensure!(world.host.configure(world.policy.to_string().as_bytes())?);
        world.host.instructions()
    };
    let (few, many) = (cost(500)?, cost(2_000)?);
    assert!(many < few * 6, "{few} instructions, and {many} with four times as many names");
    Ok(())
}
