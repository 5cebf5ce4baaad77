//! Which tokens are believed. Each case changes one thing about a token that is.

use crate::world::{NOW, World, base64url, claims};
use serde_json::{Value, json};

const PATH: &str = "/v1/levels/basic";

#[test]
fn claims_are_judged() {
    let mut world = World::new();
    let cases: [(&str, Value, &str); 27] = [
        ("exp", (NOW + 1).into(), "module levels"),
        ("exp", (NOW - 59).into(), "module levels"),
        ("exp", (NOW - 60).into(), "401 expired_token"),
        ("exp", json!(-1), "401 malformed_token"),
        ("exp", json!("soon"), "401 malformed_token"),
        ("exp", json!(1e300), "401 malformed_token"),
        ("exp", json!(u64::MAX), "401 malformed_token"),
        ("exp", json!(1_u64 << 53), "module levels"),
        ("iat", json!("now"), "401 malformed_token"),
        ("jti", json!(7), "401 malformed_token"),
        ("aud", json!(["rampart", 7]), "401 malformed_token"),
        ("exp", json!(NOW as f64 - 60.5), "401 expired_token"),
        ("exp", Value::Null, "401 malformed_token"),
        ("nbf", (NOW + 60).into(), "module levels"),
        ("nbf", (NOW + 61).into(), "401 token_not_yet_valid"),
        ("nbf", json!([]), "401 malformed_token"),
        ("iss", json!("https://other.test"), "401 unknown_issuer"),
        ("iss", json!("https://issuer.test/"), "401 unknown_issuer"),
        ("iss", json!(["https://issuer.test"]), "401 unknown_issuer"),
        ("aud", json!("rampart"), "module levels"),
        ("aud", json!(["x", "rampart"]), "module levels"),
        ("aud", json!("Rampart"), "401 wrong_audience"),
        ("aud", json!([]), "401 wrong_audience"),
        ("aud", Value::Null, "401 malformed_token"),
        ("org_id", json!("a\r\nx-admin: 1"), "401 malformed_token"),
        ("org_id", json!(7), "401 malformed_token"),
        ("sub", json!("a\u{0}"), "401 malformed_token"),
    ];
    for (member, value, expected) in cases {
        let mut claims = claims("globex");
        claims[member] = value;
        let token = world.token(&claims);
        assert_eq!(world.get(PATH, &token), expected, "{claims}");
    }
    for (member, expected) in
        [("exp", "401 missing_expiry"), ("iss", "401 unknown_issuer"), ("aud", "401 wrong_audience")]
    {
        let mut claims = claims("globex");
        claims.as_object_mut().unwrap().remove(member);
        let token = world.token(&claims);
        assert_eq!(world.get(PATH, &token), expected, "without {member}");
    }
}

#[test]
fn headers_are_judged() {
    let mut world = World::new();
    for (header, expected) in [
        (json!({"alg": "ES256", "kid": "ec"}), "module levels"),
        (json!({"alg": "ES256"}), "module levels"),
        (json!({"alg": "ES256", "kid": "other"}), "401 unknown_key"),
        (json!({"alg": "none"}), "401 unsupported_algorithm"),
        (json!({"alg": "HS256", "kid": "ec"}), "401 unsupported_algorithm"),
        (json!({"alg": "ES384", "kid": "ec"}), "401 unsupported_algorithm"),
        (json!({"alg": "RS256", "kid": "ec"}), "401 unknown_key"),
        (json!({"alg": "es256", "kid": "ec"}), "401 unsupported_algorithm"),
        (json!({"alg": "ES256", "kid": 7}), "401 malformed_token"),
        (json!({"kid": "ec"}), "401 malformed_token"),
        (json!({"alg": "ES256", "kid": "ec", "crit": ["exp"]}), "401 malformed_token"),
        (json!({"alg": "ES256", "kid": "ec", "b64": false}), "401 malformed_token"),
        (json!({"alg": "ES256", "kid": "ec", "jku": "https://evil.test", "x5u": "x"}), "module levels"),
    ] {
        let token = world.sign(&header.to_string(), &claims("globex").to_string());
        assert_eq!(world.get(PATH, &token), expected, "{header}");
    }
}

#[test]
fn a_token_changed_in_any_byte_is_refused() {
    let mut world = World::new();
    let token = world.token(&claims("globex"));
    assert_eq!(world.get(PATH, &token), "module levels");
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(world.get(PATH, &changed).starts_with("401 "), "byte {at}");
    }
    for changed in [
        format!("{token}A"),
        format!("{token}="),
        format!("{token}."),
        format!("{token}.e30"),
        token[..token.len() - 1].into(),
    ] {
        assert!(world.get(PATH, &changed).starts_with("401 "), "{changed}");
    }
}

#[test]
fn the_form_of_a_token_is_judged() {
    let mut world = World::new();
    let twice = claims("globex").to_string().replacen('{', "{\"org_id\":\"victim\",", 1);
    let header = r#"{"alg":"ES256","kid":"ec"}"#;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    for payload in [twice.as_str(), "[]", "null", "{}x", "", &deep] {
        let token = world.sign(header, payload);
        assert!(world.get(PATH, &token).starts_with("401 "), "{payload:.80}");
    }
    let twice_alg = world.sign(r#"{"alg":"ES256","alg":"ES256"}"#, &claims("globex").to_string());
    assert_eq!(world.get(PATH, &twice_alg), "401 malformed_token");
    let long = world.sign(header, &format!("{{\"x\":\"{}\"}}", "y".repeat(16_384)));
    assert_eq!(world.get(PATH, &long), "401 oversized_token");
    for token in
        ["a.b", "a.b.c.d", "..", "!.!.!", &base64url(b"{}"), &format!("{0}.{0}.{0}", base64url(b"{}"))]
    {
        assert_eq!(world.get(PATH, token), "401 malformed_token", "{token}");
    }
}

#[test]
fn one_bearer_token_is_taken_and_no_more() {
    let mut world = World::new();
    let token = world.token(&claims("globex"));
    let path = format!("/api/v1/modules{PATH}");
    let request = [(":method", "GET"), (":path", &path)];
    for (values, expected) in [
        (vec![format!("Bearer {token}")], "module levels"),
        (vec![format!("bEARER   {token} ")], "module levels"),
        (vec![format!("Bearer {token}"), format!("Bearer {token}")], "401 multiple_tokens"),
        (vec![format!("Bearer {token},Bearer {token}")], "401 multiple_tokens"),
        (vec![format!("Bearer {token} x")], "401 malformed_token"),
        (vec![format!("Basic {token}")], "401 missing_token"),
        (vec![token.clone()], "401 missing_token"),
        (vec!["Bearer".into()], "401 missing_token"),
        (vec!["Bearer ".into()], "401 malformed_token"),
        (vec!["Bearer caf\u{e9}".into()], "401 malformed_token"),
        (vec![String::new()], "401 missing_token"),
        (vec![], "401 missing_token"),
    ] {
        let mut headers = request.to_vec();
        headers.extend(values.iter().map(|value| ("authorization", value.as_str())));
        assert_eq!(world.decide(&headers), expected, "{values:?}");
    }
}

#[test]
fn a_cached_token_is_judged_by_the_clock_on_every_use() {
    let mut world = World::new();
    let token = world.token(&claims("globex"));
    assert_eq!(world.get(PATH, &token), "module levels");
    assert_eq!(world.cached(), 1);
    world.now = NOW + 100;
    assert_eq!(world.get(PATH, &token), "module levels");
    world.now = NOW + 3_600 + 60;
    assert_eq!(world.get(PATH, &token), "401 expired_token");
    assert_eq!(world.signatures_checked(), 2, "once at first, once after 300 seconds");
}

#[test]
fn a_removed_key_ends_its_cached_tokens_at_once_and_a_flag_edit_does_not() {
    let mut world = World::new();
    let token = world.token(&claims("globex"));
    assert_eq!(world.get(PATH, &token), "module levels");
    world.flag("rollout", |flag| flag["percentage"] = 99.into());
    assert_eq!(world.get(PATH, &token), "module levels");
    assert_eq!(world.signatures_checked(), 1);
    world.policy["providers"][0]["jwks"]["keys"][0]["kid"] = "renamed".into();
    assert_eq!(world.get(PATH, &token), "401 unknown_key");
    world.policy["providers"][0]["jwks"]["keys"] = json!([]);
    assert_eq!(world.get(PATH, &token), "503 no_keys");
    world.policy["providers"] = json!([]);
    assert_eq!(world.get(PATH, &token), "503 no_keys");
}

#[test]
fn every_algorithm_is_verified_with_its_own_key_and_no_other() {
    use jwt_simple::prelude::*;

    let rsa = RS256KeyPair::generate(2048).unwrap();
    let der = rsa.to_der().unwrap();
    let created = || {
        let mut claims = Claims::create(Duration::from_hours(1))
            .with_issuer("https://issuer.test")
            .with_audience("rampart");
        claims.expires_at = Some(Duration::from_secs(NOW + 60));
        claims
    };
    macro_rules! case {
        ($key:expr) => {{
            let key = $key;
            (key.public_key().to_jwk(), key.sign(created()).unwrap())
        }};
    }
    let cases = [
        ("RS256", case!(rsa)),
        ("RS384", case!(RS384KeyPair::from_der(&der).unwrap())),
        ("RS512", case!(RS512KeyPair::from_der(&der).unwrap())),
        ("PS256", case!(PS256KeyPair::from_der(&der).unwrap())),
        ("PS384", case!(PS384KeyPair::from_der(&der).unwrap())),
        ("PS512", case!(PS512KeyPair::from_der(&der).unwrap())),
        ("ES256", case!(ES256KeyPair::generate())),
        ("ES384", case!(ES384KeyPair::generate())),
        ("EdDSA", case!(Ed25519KeyPair::generate())),
    ];
    let mut world = World::new();
    for (name, (jwk, _)) in &cases {
        let jwk: Value = serde_json::from_str(jwk).unwrap();
        world.policy["providers"][0]["algorithms"] = json!([name]);
        world.policy["providers"][0]["jwks"]["keys"] = json!([jwk]);
        for (other, (_, token)) in &cases {
            let expected = if other == name { "module levels" } else { "401 unsupported_algorithm" };
            assert_eq!(world.get(PATH, token), expected, "{other} token, {name} key");
        }
    }
}
