//! What a provider may ask of its tokens, beyond a good signature.

use rampart_engine::policy::Policy;
use rampart_engine::token_source::without_cookie;
use serde_json::{Value, json};

use crate::world::{World, base64url, claims};

const PATH: &str = "/v1/levels/basic";
const LET_IN: &str = "module levels";

/// A world whose provider has these members too.
fn world(members: Value) -> World {
    let mut world = World::new();
    let provider = world.policy["providers"][0].as_object_mut().unwrap();
    provider.extend(members.as_object().unwrap().clone());
    world
}

fn with(member: &str, value: Value) -> Value {
    let mut claims = claims("globex");
    claims[member] = value;
    claims
}

#[test]
fn claims_are_found_by_name_and_by_path() {
    let world_of = |claims: Value| world(json!({ "claims": claims }));
    let url = "https://example.com/roles";
    let auditor = json!({"realm_access": {"roles": ["auditor"]}, "https://example.com/roles": "x auditor"});
    for (mapping, expected) in [
        (json!({"roles": ["realm_access", "roles"]}), LET_IN),
        (json!({ "roles": url }), LET_IN),
        (json!({"roles": [url]}), LET_IN),
        (json!({"roles": "realm_access"}), "403 missing_role"),
        (json!({"roles": ["realm_access", "groups"]}), "403 missing_role"),
        (json!({"roles": ["realm_access", "roles", "0"]}), "403 missing_role"),
        (json!({"roles": "realm_access.roles"}), "403 missing_role"),
    ] {
        let mut world = world_of(mapping.clone());
        let mut claims = claims("globex");
        claims.as_object_mut().unwrap().extend(auditor.as_object().unwrap().clone());
        let token = world.token(&claims);
        assert_eq!(world.get("/v1/levels/role", &token), expected, "{mapping}");
    }
}

#[test]
fn scopes_count_as_permissions_where_they_are_mapped() {
    let claims = with("scope", "openid read write".into());
    let mut unmapped = World::new();
    let token = unmapped.token(&claims);
    assert_eq!(unmapped.get("/v1/levels/permission", &token), "403 missing_permission");
    let mut mapped = world(json!({"claims": {"scopes": "scope"}}));
    let token = mapped.token(&claims);
    assert_eq!(mapped.get("/v1/levels/permission", &token), LET_IN);
}

#[test]
fn required_claims_are_required() {
    let mut world = world(json!({"required_claims": [
        {"claim": "email_verified", "any_of": [true]},
        {"claim": ["app", "tier"], "any_of": ["gold", "silver"]},
        {"claim": "present"}
    ]}));
    let good = json!({"email_verified": true, "app": {"tier": ["bronze", "gold"]}, "present": 0});
    for (member, value, expected) in [
        ("unrelated", json!(1), LET_IN),
        ("email_verified", json!(false), "401 missing_claim"),
        ("email_verified", json!("true"), "401 missing_claim"),
        ("email_verified", Value::Null, "401 missing_claim"),
        ("app", json!({"tier": "silver"}), LET_IN),
        ("app", json!({"tier": "bronze"}), "401 missing_claim"),
        ("app", json!("gold"), "401 missing_claim"),
        ("present", Value::Null, "401 missing_claim"),
    ] {
        let mut claims = claims("globex");
        claims.as_object_mut().unwrap().extend(good.as_object().unwrap().clone());
        claims[member] = value.clone();
        let token = world.token(&claims);
        assert_eq!(world.get(PATH, &token), expected, "{member} = {value}");
    }
}

#[test]
fn a_token_is_taken_from_where_its_issuer_says_and_only_one() {
    let sources = json!({"token_from": ["bearer", {"header": "X-Token"}, {"cookie": "session"}]});
    let mut world = world(sources);
    let token = world.token(&claims("globex"));
    let path = format!("/api/v1/modules{PATH}");
    let bearer = format!("Bearer {token}");
    let cookie = format!("a=b; session={token}; c=d");
    let quoted = format!("session=\"{token}\"");
    let doubled = format!("session={token}; session={token}");
    for (headers, expected) in [
        (vec![("authorization", &*bearer)], LET_IN),
        (vec![("x-token", &token)], LET_IN),
        (vec![("cookie", &cookie)], LET_IN),
        (vec![("cookie", &quoted)], LET_IN),
        (vec![("authorization", "Basic eDp5"), ("x-token", &token)], LET_IN),
        (vec![("authorization", "Bearers eDp5, bearish x"), ("x-token", &token)], LET_IN),
        // The upstream would find a bearer token there that nobody has judged.
        (vec![("authorization", "Basic eDp5, bearer x"), ("x-token", &token)], "401 multiple_tokens"),
        (vec![("authorization", "Basic eDp5,BEARER\tx"), ("x-token", &token)], "401 multiple_tokens"),
        (vec![("authorization", "Bearer\tx"), ("x-token", &token)], "401 malformed_token"),
        (vec![("x_token", &token)], "401 misplaced_token"),
        (vec![("x-token", &token), ("x_token", "other")], "401 misplaced_token"),
        (vec![("x-other", &token)], "401 missing_token"),
        (vec![("x-token", &bearer)], "401 malformed_token"),
        (vec![("cookie", "session=")], "401 malformed_token"),
        (vec![("cookie", "sessionx=1")], "401 missing_token"),
        (vec![("x-token", &token), ("x-token", &token)], "401 multiple_tokens"),
        (vec![("x-token", &token), ("authorization", &bearer)], "401 multiple_tokens"),
        (vec![("cookie", &doubled)], "401 multiple_tokens"),
        (vec![("cookie", &cookie), ("cookie", &cookie)], "401 multiple_tokens"),
    ] {
        let mut request = vec![(":method", "GET"), (":path", &*path)];
        request.extend(&headers);
        assert_eq!(world.decide(&request), expected, "{headers:?}");
    }
}

/// A made-up token must not cost a verification for each key that there is.
#[test]
fn a_token_that_names_no_key_is_tried_with_a_few() {
    let mut world = World::new();
    let good = world.policy["providers"][0]["jwks"]["keys"][0].clone();
    let strangers = (1..8).map(|number| {
        let mut key = World::new().policy["providers"][0]["jwks"]["keys"][0].clone();
        key["kid"] = format!("other-{number}").into();
        key
    });
    let strangers: Vec<Value> = strangers.collect();
    let payload = claims("globex").to_string();
    let nameless = world.sign(r#"{"alg":"ES256"}"#, &payload);
    for (place, expected, checked) in [(0, LET_IN, 1), (3, LET_IN, 4), (4, "401 bad_signature", 4)] {
        let mut keys = strangers.clone();
        keys.insert(place, good.clone());
        world.policy["providers"][0]["jwks"]["keys"] = json!(keys);
        let before = world.signatures_checked();
        assert_eq!(world.get(PATH, &nameless), expected, "{place}");
        assert_eq!(world.signatures_checked() - before, checked, "{place}");
        // One that names its key is tried with that one, wherever it stands.
        let before = world.signatures_checked();
        assert_eq!(world.get(PATH, &world.token(&claims("globex"))), LET_IN);
        assert_eq!(world.signatures_checked() - before, 1, "{place}");
    }
}

#[test]
fn one_issuers_source_is_not_anothers() {
    let mut world = world(json!({"token_from": [{"header": "x-token"}]}));
    let mut other = world.policy["providers"][0].clone();
    other["name"] = "other".into();
    other["issuer"] = "https://other.test".into();
    other["token_from"] = json!(["bearer"]);
    world.policy["providers"].as_array_mut().unwrap().push(other);
    let path = format!("/api/v1/modules{PATH}");
    let token = world.token(&claims("globex"));
    let request = [(":method", "GET"), (":path", &*path), ("x-token", &token)];
    assert_eq!(world.decide(&request), LET_IN);
    assert_eq!(world.get(PATH, &token), "401 misplaced_token", "and the cache must not know better");
    let token = world.token(&with("iss", "https://other.test".into()));
    assert_eq!(world.get(PATH, &token), LET_IN);
}

#[test]
fn who_is_denied_is_refused_at_once_though_the_token_was_cached() {
    for denied in
        [json!({"tokens": ["t-1"]}), json!({"subjects": ["alice"]}), json!({"organisations": ["globex"]})]
    {
        let mut world = World::new();
        let token = world.token(&with("jti", "t-1".into()));
        assert_eq!(world.get(PATH, &token), LET_IN);
        world.policy["denied"] = denied.clone();
        assert_eq!(world.get(PATH, &token), "401 denied_token", "{denied}");
        world.policy["denied"] = json!({"tokens": ["t-2"], "subjects": ["bob"], "organisations": ["acme"]});
        assert_eq!(world.get(PATH, &token), LET_IN);
    }
}

#[test]
fn a_member_given_twice_is_refused_wherever_it_stands() {
    let mut world = world(json!({"claims": {"roles": ["realm", "roles"]}}));
    let good = claims("globex").to_string();
    let nested = good.replacen('{', r#"{"realm":{"roles":["x"],"roles":["admin"]},"#, 1);
    let escaped = good.replacen('{', r#"{"\u006frg_id":"victim","#, 1);
    for payload in [&nested, &escaped] {
        let token = world.sign(r#"{"alg":"ES256","kid":"ec"}"#, payload);
        assert_eq!(world.get(PATH, &token), "401 malformed_token", "{payload}");
    }
    let token = world.sign(r#"{"alg":"ES256","kid":"ec","x":1,"x":2}"#, &good);
    assert_eq!(world.get(PATH, &token), "401 malformed_token");
}

#[test]
fn a_bad_key_costs_the_others_only_where_the_policy_says_so() {
    let mut world = World::new();
    let good = world.policy["providers"][0]["jwks"]["keys"][0].clone();
    let short = json!({"kty": "RSA", "kid": "short", "n": "AQAB", "e": "AQAB"});
    let mut twin = good.clone();
    twin["kid"] = "twin".into();
    for (bad, told) in [
        (short, "not a usable RSA key"),
        (good.clone(), "another key has this `kid`"),
        (twin, "listed twice"),
    ] {
        world.policy["providers"][0]["jwks"]["keys"] = json!([good, bad]);
        world.policy["providers"][0]["on_bad_key"] = "refuse".into();
        let problems = Policy::from_json(world.policy.to_string().as_bytes()).unwrap_err();
        assert!(problems.len() == 1 && problems[0].problem.contains(told), "{problems:?}");
        world.policy["providers"][0]["on_bad_key"] = "skip".into();
        let warnings = world.compiled().warnings().to_vec();
        assert!(warnings.len() == 1 && warnings[0].problem.contains(told), "{warnings:?}");
        let token = world.token(&claims("globex"));
        assert_eq!(world.get(PATH, &token), LET_IN);
    }
}

#[test]
fn es512_is_verified() {
    use p521::ecdsa::signature::Signer as _;
    use p521::ecdsa::{Signature, SigningKey};

    let mut secret = [0; 66];
    secret[65] = 7;
    let key = SigningKey::from_slice(&secret).unwrap();
    let point = p521::ecdsa::VerifyingKey::from(&key).to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(66);
    let jwk = json!({"kty": "EC", "crv": "P-521", "kid": "p521", "x": base64url(x), "y": base64url(y)});
    let mut world = world(json!({"algorithms": ["ES512"], "jwks": {"keys": [jwk]}}));
    let input = format!(
        "{}.{}",
        base64url(br#"{"alg":"ES512"}"#),
        base64url(claims("globex").to_string().as_bytes())
    );
    let signature: Signature = key.sign(input.as_bytes());
    let token = format!("{input}.{}", base64url(&signature.to_bytes()));
    assert_eq!(world.get(PATH, &token), LET_IN);
    let changed = format!("{input}.{}", base64url(&[1; 132]));
    assert_eq!(world.get(PATH, &changed), "401 bad_signature");
}

#[test]
fn providers_that_make_no_sense_are_refused() {
    for (member, value, told) in [
        ("token_from", json!([]), "providers[main].token_from: a token must come from somewhere"),
        ("token_from", json!([{"header": "x rampart"}]), "providers[main].token_from[0]: a header's name is"),
        (
            "token_from",
            json!([{"header": "X-Rampart-Roles"}]),
            "token_from[0]: this header has another meaning",
        ),
        ("token_from", json!([{"cookie": "a=b"}]), "token_from[0]: a cookie's name is"),
        ("token_from", json!(["query"]), "token_from[0]: unknown variant `query`"),
        ("claims", json!({"roles": []}), "providers[main].claims.roles: a claim is a name, or a list"),
        ("claims", json!({"organisation": ""}), "providers[main].claims.organisation: a claim is"),
        ("required_claims", json!([{"claim": [""]}]), "providers[main].required_claims[0].claim: a claim is"),
        ("on_bad_key", json!("ignore"), "providers[0].on_bad_key: unknown variant `ignore`"),
    ] {
        let policy = world(json!({ member: value })).policy;
        let problems = Policy::from_json(policy.to_string().as_bytes()).unwrap_err();
        assert!(problems.iter().any(|problem| problem.to_string().contains(told)), "{member}: {problems:?}");
    }
}

#[test]
fn a_cookie_is_taken_out_and_the_others_stay() {
    for (before, after) in [
        ("session=x", ""),
        ("a=b; session=x; c=d", "a=b; c=d"),
        ("session=\"x\";a=b", "a=b"),
        ("sessions=1; session=2; xsession=3", "sessions=1; xsession=3"),
        ("no pair; session=2", "no pair"),
        ("a=session=x", "a=session=x"),
    ] {
        assert_eq!(without_cookie(before.as_bytes(), "session"), after.as_bytes(), "{before}");
    }
}
