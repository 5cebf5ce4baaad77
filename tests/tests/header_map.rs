//! The host's header map at its limits and beyond them: what Envoy answers before a filter sees it, and
//! what no host should hand over. The filter makes a well-formed answer of whatever it reads.

use anyhow::{Result, ensure};
use rampart_tests::{
    issuer::Key,
    paths,
    shipped::example_policy,
    wasm_host::{Header, Outcome, WasmHost, serialise},
};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

/// A filter under the example policy with everybody on, and the headers of a request that the module
/// serves. The token is the last.
fn world() -> Result<(WasmHost, Vec<Header>)> {
    let mut host = WasmHost::load(&paths::filter()?)?;
    host.set_time(NOW);
    let (key, mut policy) = (Key::p256("ec")?, example_policy()?);
    policy["flags"][0]["percentage"] = json!(100);
    let provider = &mut policy["providers"][0];
    provider["jwks"] = json!({ "keys": [key.jwk()] });
    let token = key.sign(&json!({
        "iss": provider["issuer"], "aud": provider["audiences"], "exp": NOW + 3_600,
        "org_id": "acme", "permissions": ["analytics:read"],
    }))?;
    ensure!(host.configure(policy.to_string().as_bytes())?, "{:?}", host.log());
    let bearer = format!("Bearer {token}");
    let headers =
        [(":method", "GET"), (":path", "/api/v1/modules/v1/analytics/reports"), ("authorization", &bearer)];
    Ok((host, headers.map(|(name, value)| (name.into(), value.into())).into()))
}

/// The decision that was attested, or the reason of a refusal in RFC 9457's form.
fn verdict(outcome: &Outcome) -> Result<String> {
    let attested = outcome.property("rampart.decision").map(str::to_owned);
    let Some(reply) = &outcome.reply else {
        ensure!(outcome.continues && attested.is_some(), "neither judged nor answered: {outcome:?}");
        return Ok(attested.unwrap_or_default());
    };
    ensure!(!outcome.continues && attested.is_none(), "answered and passed on: {outcome:?}");
    let body: Value = serde_json::from_slice(&reply.body)?;
    ensure!(body["status"] == reply.status && body["reason"] == *reply.details, "{reply:?}");
    let plain = |bytes: &[u8]| bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
    ensure!(reply.headers.iter().all(|(name, value)| plain(name) && plain(value)), "{reply:?}");
    Ok(reply.details.clone())
}

#[test]
fn headers_beyond_what_envoy_takes_are_judged_like_any() -> Result<()> {
    let (mut host, good) = world()?;
    let many = |name: &str| (0..1_000).map(|n| (format!("{name}-{n}").into(), b"x".to_vec())).collect();
    let one = |name: &[u8], value: Vec<u8>| vec![(name.to_vec(), value)];
    let long = vec![b'a'; 64 << 10];
    let second = [b"Bearer ", &long[..]].concat();
    for (what, more, expected) in [
        ("1,000 headers", many("x-any"), "module"),
        ("1,000 private headers", many("x-rampart"), "module"),
        ("a value of 64 KiB", one(b"x-any", long.clone()), "module"),
        ("a name of 64 KiB", one(&long, b"x".to_vec()), "module"),
        ("a second token of 64 KiB", one(b"authorization", second), "multiple_tokens"),
        ("a name that is no UTF-8", one(b"x-\xff\xfe", b"x".to_vec()), "module"),
        ("a private name that is no UTF-8", one(b"x-rampart-\xff", b"x".to_vec()), "module"),
        ("no name", one(b"", b"x".to_vec()), "module"),
        ("NUL in name and value", one(b"x-\0", b"\0".to_vec()), "module"),
    ] {
        let headers: Vec<Header> = more.into_iter().chain(good.clone()).collect();
        let outcome = host.request(&headers)?;
        assert_eq!(verdict(&outcome)?, expected, "{what}");
        let sent = |(name, value): &Header| name.starts_with(b"x-rampart-") && value == b"x";
        assert!(!outcome.headers.iter().any(sent), "{what}: {:?}", outcome.headers);
    }
    for (name, expected) in [(":path", "malformed_path"), ("authorization", "oversized_token")] {
        let mut headers = good.clone();
        for (_, value) in headers.iter_mut().filter(|(known, _)| known == name.as_bytes()) {
            value.extend(&long);
        }
        assert_eq!(verdict(&host.request(&headers)?)?, expected);
    }
    Ok(())
}

#[test]
fn a_map_cut_short_has_fewer_headers() -> Result<()> {
    let (mut host, good) = world()?;
    let map = serialise(&good);
    assert_eq!(verdict(&host.request_map(map.clone())?)?, "module");
    for length in 0..map.len() {
        let verdict = verdict(&host.request_map(map[..length].to_vec())?)?;
        // The token is what it lost first.
        assert!(matches!(&*verdict, "pass" | "missing_token" | "method_not_allowed"), "{length}: {verdict}");
    }
    Ok(())
}

#[test]
fn a_map_that_lies_about_itself_lets_nobody_in() -> Result<()> {
    let (mut host, good) = world()?;
    let map = serialise(&good);
    // The count, then two lengths for each header.
    for field in (0..4 + 8 * good.len()).step_by(4) {
        let (before, rest) = map.split_at(field);
        let (number, after) = rest.split_at(4);
        let honest = u32::from_le_bytes([number[0], number[1], number[2], number[3]]);
        for lie in [0, honest - 1, honest + 1, 1 << 29, 1 << 31, u32::MAX] {
            let lying = [before, &lie.to_le_bytes(), after].concat();
            let verdict = verdict(&host.request_map(lying)?)?;
            assert_ne!(verdict, "module", "{lie} in place of {honest}");
        }
    }
    let (numbers, text) = map.split_at(4 + 8 * good.len());
    let unended = text.iter().copied().filter(|byte| *byte != 0);
    let unended = numbers.iter().copied().chain(unended).collect();
    assert_ne!(verdict(&host.request_map(unended)?)?, "module", "names and values without a NUL");
    Ok(())
}
