//! Who may do what: keys, tokens, roles, and what is never told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use jwt_simple::prelude::{Claims, ECDSAP256KeyPairLike as _, ES256KeyPair};
use rampart::access::right::ROUTES;
use serde_json::{Value, json};

use crate::command::{command, ran};
use crate::support::{Answer, Service, answer};

const ROLES: [&str; 5] = ["envoy", "evaluator", "viewer", "operator", "admin"];

/// Which of [`ROLES`] is the least that has a right; none where anybody may ask.
fn least(right: Option<rampart::access::Right>) -> Option<usize> {
    right.map(|right| 1 + right as usize)
}

#[tokio::test]
async fn every_route_is_open_to_the_roles_of_its_row_and_to_no_other() {
    let service = Service::start().await;
    let mut keys = Vec::new();
    for role in ROLES {
        keys.push(service.key(role, role).await);
    }
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/access.md")).unwrap();
    let document = answer(service.anonymous("GET", "/openapi.json")).await.ok();
    let described =
        document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len());
    // Of events, the document does not tell.
    assert_eq!(described.sum::<usize>() + 1, ROUTES.len(), "every route has its row");
    for (method, path, right) in ROUTES {
        let place = path.replace("{revision}", "99").replace("{*key}", "x");
        let place = place.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
        let place = place.collect::<Vec<_>>().join("/");
        let ask = |key: Option<&str>| {
            let request = service.anonymous(method, &place).body("{}");
            let request = match key {
                Some(key) => request.bearer_auth(key),
                None => request,
            };
            // Not to its end: events have none.
            async { request.send().await.unwrap().status().as_u16() }
        };
        assert_eq!(ask(None).await == 401, right.is_some(), "{method} {path}");
        for (number, key) in keys.iter().enumerate() {
            let refused = ask(Some(key)).await == 403;
            let may = least(*right).is_none_or(|least| number >= least);
            assert_eq!(refused, !may, "{method} {path} as {}", ROLES[number]);
        }
        if *path != "/ofrep/v1/events" {
            let operation = &document["paths"][path.replace("{*", "{")][method.to_lowercase()];
            assert_eq!(operation["security"].is_array(), right.is_some(), "{method} {path}: {operation}");
        }
        let right = least(*right).map_or("anybody", |least| ROLES[least]);
        let row =
            page.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{method} {path}`")));
        assert!(row.is_some_and(|row| row.contains(right)), "docs/access.md: `{method} {path}` for {right}");
    }
}

#[tokio::test]
async fn a_secret_is_told_once_and_opens_until_it_is_replaced_or_revoked() {
    let service = Service::start().await;
    let url = "/api/v1/keys/ci";
    let made = service.send("PUT", url, &json!({"role": "operator"})).await.ok();
    let first = made["resource"]["secret"].as_str().unwrap().to_owned();
    assert_eq!(made["summary"], "key ci added");
    service.flag("f", 10).await;
    let kill = |key: &str| answer(service.anonymous("POST", "/api/v1/flags/f/kill").bearer_auth(key));
    kill(&first).await.ok();
    let newest = service.get("/api/v1/history?limit=1").await.ok();
    assert_eq!(newest["changes"][0]["actor"], "key/ci");
    // Made again, its bearer would be locked out.
    let again = service.send("PUT", url, &json!({"role": "admin"})).await.problem(412);
    assert!(again["detail"].as_str().unwrap().ends_with("use `rampart key rotate`"), "{again}");

    let rotated = service.send("POST", &format!("{url}/rotate"), &json!({"overlap": 3600})).await.ok();
    let second = rotated["resource"]["secret"].as_str().unwrap().to_owned();
    assert_eq!(rotated["resource"]["secrets"].as_array().unwrap().len(), 2);
    kill(&first).await.ok();
    kill(&second).await.ok();
    let rotated = service.send("POST", &format!("{url}/rotate"), &json!({})).await.ok();
    let third = rotated["resource"]["secret"].as_str().unwrap().to_owned();
    for ended in [&first, &second] {
        let refused = kill(ended).await;
        assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"rampart\", error=\"invalid_token\"");
        refused.problem(401);
    }
    kill(&third).await.ok();

    // No secret, whole or in part, and no way from what is stored to one.
    for place in ["/api/v1/keys", url, "/api/v1/history", "/api/v1/policy", "/api/v1/settings"] {
        let told = service.get(place).await.ok().to_string();
        for secret in [&first, &second, &third] {
            assert!(!told.contains(&secret[17..]), "{place}: {told}");
        }
    }
    let history = service.get("/api/v1/history").await.ok();
    let stored = history["changes"][0]["edits"][0]["after"]["secrets"][0]["sha256"].as_str().unwrap();
    kill(stored).await.problem(401);

    answer(service.request("DELETE", url)).await.ok();
    kill(&third).await.problem(401);
    // Going back does not bring it back.
    answer(service.write("POST", "/api/v1/revert/1").await).await.ok();
    kill(&third).await.problem(401);
    assert!(service.writer.head().state.keys.is_empty());
}

#[tokio::test]
async fn what_makes_no_good_key_is_refused() {
    let service = Service::start().await;
    let put =
        async |name: &str, body: Value| service.send("PUT", &format!("/api/v1/keys/{name}"), &body).await;
    for (name, body, field) in [
        ("local", json!({"role": "admin"}), "name"),
        ("a%20b", json!({"role": "admin"}), "name"),
        ("edge", json!({"role": "envoy"}), "node"),
        ("edge", json!({"role": "envoy", "node": "*"}), "node"),
        ("ci", json!({"role": "viewer", "node": "edge-1"}), "node"),
        ("ci", json!({"role": "root"}), "role"),
        ("ci", json!({"role": "viewer", "secrets": []}), "secrets"),
    ] {
        let refused = put(name, body.clone()).await.problem(422);
        assert_eq!(refused["errors"][0]["field"], field, "{body}: {refused}");
    }
    put("ci", json!({"role": "viewer", "expires_at": 1})).await.problem(422);
    put("ci", json!({"role": "viewer", "expires_at": 253_402_300_800_u64})).await.problem(422);
    let dry = service.send("PUT", "/api/v1/keys/ci?dry_run=true", &json!({"role": "viewer"})).await.ok();
    assert!(dry["resource"].get("secret").is_none(), "{dry}");
    assert_eq!(service.writer.head().revision, 0);
}

#[tokio::test]
async fn a_revert_needs_what_each_of_its_changes_does() {
    let service = Service::start().await;
    let operator = service.key("oncall", "operator").await;
    service.flag("f", 10).await;
    service.flag("f", 20).await;
    let revert = |to: u64| {
        let url = format!("/api/v1/revert/{to}");
        answer(service.anonymous("POST", &url).bearer_auth(&operator).header("if-match", "*"))
    };
    revert(2).await.ok();
    service.module("m", json!({})).await.ok();
    let refused = revert(2).await.problem(403);
    let said = "the module m is for an admin to change, and this is asked in the role operator";
    assert_eq!(refused["detail"], said);
    assert_eq!(service.writer.head().revision, 5);
}

#[tokio::test]
async fn an_operator_switches_everything_off_and_on_and_sets_nothing_else() {
    let service = Service::start().await;
    let operator = service.key("oncall", "operator").await;
    for key in ["f", "g", "h"] {
        service.flag(key, 10).await;
    }
    let ask = async |method: &str, path: &str, body: Value| {
        let request = service.anonymous(method, path).bearer_auth(&operator).header("if-match", "*");
        answer(request.json(&body)).await
    };
    let why = || json!({"reason": "an outage"});
    let disabled = |service: &Service| service.writer.head().state.settings.disabled.clone();
    ask("POST", "/disable-all", why()).await.ok();
    assert_eq!(disabled(&service).len(), 3);
    // Each of these takes a flag out of what was disabled together, which stands beside the settings.
    ask("POST", "/api/v1/flags/f/restore", json!(null)).await.ok();
    ask("POST", "/api/v1/flags/g/kill", json!(null)).await.ok();
    ask("DELETE", "/api/v1/flags/g", json!(null)).await.ok();
    assert_eq!(disabled(&service), ["h".to_owned()].into());
    ask("POST", "/restore", why()).await.ok();
    assert!(disabled(&service).is_empty());
    ask("PUT", "/api/v1/settings", json!({})).await.problem(403);
}

#[tokio::test]
async fn what_is_applied_together_needs_what_each_of_its_resources_does() {
    let service = Service::start().await;
    let operator = service.key("oncall", "operator").await;
    let apply = async |resources: Value| {
        let request =
            service.anonymous("POST", "/api/v1/apply").bearer_auth(&operator).header("if-match", "*");
        answer(request.json(&json!({"resources": resources, "set": "team"}))).await
    };
    let flag = json!({"kind": "flag", "key": "f"});
    let segment = json!({"kind": "segment", "name": "pilots", "organisations": ["acme"]});
    apply(json!([flag, segment])).await.ok();
    let jwks = json!({"keys": []});
    let provider = json!({"kind": "provider", "name": "idp", "issuer": "https://idp.example", "jwks": jwks});
    let settings = json!({"kind": "settings", "default": "deny"});
    for (resource, what) in [(provider, "the provider idp"), (settings, "the settings")] {
        let refused = apply(json!([flag, resource])).await.problem(403);
        let said = format!("{what} is for an admin to change, and this is asked in the role operator");
        assert_eq!(refused["detail"], said);
    }
    // A key is in no document, whoever brings one.
    let key = json!({"kind": "key", "name": "mine", "role": "admin", "secrets": []});
    let request = service.request("POST", "/api/v1/apply").header("if-match", "*");
    answer(request.json(&json!({"resources": [key]}))).await.problem(422);
    let export = service.get("/api/v1/export").await.ok().to_string();
    assert!(!export.contains("oncall") && !export.contains("sha256"), "{export}");
    assert_eq!(service.writer.head().revision, 2);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_locks_out_no_key() {
    let service = Service::start().await;
    let guess =
        |credential: String| answer(service.anonymous("GET", "/api/v1/flags").bearer_auth(credential));
    let wrong = "rampart_00000000_".to_owned() + &"0".repeat(72);
    for _ in 0..20 {
        guess(wrong.clone()).await.problem(401);
    }
    let limited = guess(wrong.clone()).await;
    assert_eq!(limited.header("retry-after"), "60");
    limited.problem(429);
    // Tokens cost a signature each.
    guess("eyJhbGciOiJFUzI1NiJ9.e30.AA".to_owned()).await.problem(429);
    service.get("/api/v1/flags").await.ok();
    // To come with nothing is no guess.
    answer(service.anonymous("GET", "/api/v1/flags")).await.problem(401);
}

#[tokio::test]
async fn a_credential_comes_once_and_whole() {
    let service = Service::start().await;
    let secret = service.local.secret().to_owned();
    let ask = |values: &[String]| {
        let request = service.anonymous("GET", "/api/v1/flags");
        answer(values.iter().fold(request, |request, value| request.header("authorization", value)))
    };
    let good = format!("Bearer {secret}");
    ask(std::slice::from_ref(&good)).await.ok();
    ask(&[format!("bearer  {secret} ")]).await.ok();
    for values in [
        vec![good.clone(), good.clone()],
        vec![format!("Basic {secret}")],
        vec!["Bearer ".to_owned()],
        vec![secret.clone()],
        vec![format!("Bearer {}", &secret[..80])],
    ] {
        let refused = ask(&values).await.problem(401);
        assert!(!refused.to_string().contains(&secret[17..60]), "{refused}");
    }
}

#[tokio::test]
async fn answers_tell_browsers_to_make_nothing_of_them() {
    let service = Service::start().await;
    let refused = answer(service.anonymous("GET", "/api/v1/flags")).await;
    for said in [service.get("/api/v1/flags").await, refused, service.get("/nowhere").await] {
        assert_eq!(said.header("x-content-type-options"), "nosniff");
        assert_eq!(said.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(said.header("referrer-policy"), "no-referrer");
        assert_eq!(said.header("cache-control"), "no-store");
        assert!(!said.headers.contains_key("strict-transport-security"), "this is no TLS");
    }
}

/// An issuer whose tokens the API takes.
struct Issuer(ES256KeyPair);

impl Issuer {
    async fn set_up(service: &Service, roles: Value) -> (Self, Answer) {
        let key = ES256KeyPair::generate().with_key_id("1");
        let mut jwk: Value = serde_json::from_str(&key.public_key().to_jwk()).unwrap();
        jwk["kid"] = json!("1");
        let provider = json!({
            "name": "corporate", "issuer": "https://login.example", "audiences": ["rampart"],
            "claims": {"roles": "groups"}, "jwks": {"keys": [jwk]},
        });
        let settings = json!({"issuers": [{"provider": provider, "roles": roles}]});
        let answer = service.send("PUT", "/api/v1/settings", &settings).await;
        (Self(key), answer)
    }

    fn token(&self, audience: &str, groups: &[&str]) -> String {
        let claims = Claims::with_custom_claims(
            json!({ "groups": groups }),
            jwt_simple::prelude::Duration::from_hours(1),
        );
        let claims =
            claims.with_issuer("https://login.example").with_subject("alice").with_audience(audience);
        self.0.sign(claims).unwrap()
    }
}

#[tokio::test]
async fn a_token_gives_the_highest_role_that_its_groups_mean() {
    let service = Service::start().await;
    let roles = json!({"admin": ["rampart-admins"], "operator": ["sre", "oncall"], "viewer": ["staff"]});
    let (issuer, set) = Issuer::set_up(&service, roles).await;
    set.ok();
    let put = |token: &str| {
        let request = service.anonymous("PUT", "/api/v1/flags/f").json(&json!({}));
        answer(request.header("x-rampart-actor", "bob").bearer_auth(token))
    };
    put(&issuer.token("rampart", &["staff", "sre"])).await.ok();
    let newest = service.get("/api/v1/history?limit=1").await.ok();
    // A token names its own bearer: whom it claims to act for does not count.
    assert_eq!(newest["changes"][0]["actor"], "corporate/alice");
    let refused = put(&issuer.token("rampart", &["staff"])).await;
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"rampart\", error=\"insufficient_scope\"");
    refused.problem(403);
    put(&issuer.token("rampart", &["guests"])).await.problem(403);
    let other = put(&issuer.token("billing", &["rampart-admins"])).await.problem(401);
    assert!(other["detail"].as_str().unwrap().contains("wrong_audience"), "{other}");
    let forger = Issuer(ES256KeyPair::generate().with_key_id("1"));
    let forged = put(&forger.token("rampart", &["rampart-admins"])).await.problem(401);
    assert!(forged["detail"].as_str().unwrap().contains("bad_signature"), "{forged}");

    let nobody =
        Claims::with_custom_claims(json!({"groups": ["sre"]}), jwt_simple::prelude::Duration::from_hours(1));
    let nobody = nobody.with_issuer("https://login.example").with_audience("rampart");
    let nobody = put(&issuer.0.sign(nobody).unwrap()).await.problem(401);
    assert!(nobody["detail"].as_str().unwrap().contains("missing_claim"), "{nobody}");

    // Whom the settings deny is refused here too; and without the issuer, all are.
    let mut settings = service.get("/api/v1/settings").await.ok();
    settings["denied"] = json!({"subjects": ["alice"]});
    service.send("PUT", "/api/v1/settings", &settings).await.ok();
    put(&issuer.token("rampart", &["rampart-admins"])).await.problem(401);
    service.send("PUT", "/api/v1/settings", &json!({})).await.ok();
    put(&issuer.token("rampart", &["rampart-admins"])).await.problem(401);
}

#[tokio::test]
async fn the_documented_issuers_are_taken_from_a_file() {
    let service = Service::start().await;
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/access.md")).unwrap();
    let (_, block) = page.split_once("```json\n").unwrap();
    let file = service.dir.path().join("issuers.json");
    fs::write(&file, block.split_once("```").unwrap().0).unwrap();
    let set = service.run(&["settings", "set", "--issuers", file.to_str().unwrap()]).await;
    assert_eq!(set.code, Some(0), "{}", set.stderr);
    assert_eq!(service.writer.head().state.settings.issuers[0].provider.name, "corporate");
    fs::write(&file, "[]").unwrap();
    service.run(&["settings", "set", "--issuers", file.to_str().unwrap()]).await;
    assert!(service.writer.head().state.settings.issuers.is_empty());
}

#[tokio::test]
async fn an_issuer_that_would_let_in_too_many_is_refused() {
    let service = Service::start().await;
    let (_, set) = Issuer::set_up(&service, json!({})).await;
    assert_eq!(set.problem(422)["errors"][0]["field"], "issuers[corporate].roles");
    let provider =
        json!({"name": "key", "issuer": "", "token_from": [{"cookie": "t"}], "jwks": {"keys": []}});
    let settings = json!({"issuers": [{"provider": provider, "roles": {"viewer": ["x"]}}]});
    let refused = service.send("PUT", "/api/v1/settings", &settings).await.problem(422);
    let fields: Vec<&str> =
        refused["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    for member in ["audiences", "token_from", "name", "issuer"] {
        assert!(fields.contains(&format!("issuers[key].provider.{member}").as_str()), "{fields:?}");
    }
}

#[tokio::test]
async fn the_command_makes_keys_and_says_what_to_do_without_one() {
    let service = Service::start().await;
    let file = service.dir.path().join("ci.key");
    let path = file.to_str().unwrap();
    let made =
        service.run(&["key", "create", "ci", "--role", "viewer", "--expires-in", "90d", "--out", path]).await;
    assert_eq!(made.stdout, format!("revision 1: key ci added\n{path}: the secret\n"), "{}", made.stderr);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let list = service.run(&["key", "list"]).await.stdout;
    assert!(list.contains("ci    viewer        "), "{list}");

    let with = async |name: &str, value: &str, arguments: &[&str]| {
        let mut command = command(service.dir.path(), &service.url, arguments);
        ran(command.env("XDG_STATE_HOME", "/nowhere").env(name, value).stdout(std::process::Stdio::piped()))
            .await
    };
    assert_eq!(with("RAMPART_API_KEY_FILE", path, &["flag", "list"]).await.code, Some(0));
    let secret = fs::read_to_string(&file).unwrap();
    assert_eq!(with("RAMPART_API_KEY", &secret, &["flag", "list"]).await.code, Some(0));
    let refused = with("RAMPART_API_KEY", &secret, &["flag", "create", "f"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("`key/ci` has the role viewer, which may not PUT"), "{}", refused.stderr);
    let nobody = with("NOTHING", "", &["flag", "list"]).await;
    assert!(
        nobody
            .stderr
            .starts_with("error: the flag service asks who you are: put an API key into RAMPART_API_KEY")
    );

    let rotated = service.run(&["key", "rotate", "ci"]).await;
    assert!(
        rotated.stdout.starts_with("rampart_") && rotated.stdout.lines().count() == 1,
        "{}",
        rotated.stdout
    );
    assert!(rotated.stderr.starts_with("revision 2: key ci: secrets changed\n"), "{}", rotated.stderr);
    let ended = with("RAMPART_API_KEY", &secret, &["flag", "list"]).await;
    assert!(ended.stderr.contains("it was revoked or rotated"), "{}", ended.stderr);
    assert_eq!(service.run(&["key", "revoke", "ci"]).await.stdout, "revision 3: key ci removed\n");
    for text in ["soon", "-1h", "90"] {
        let odd = service.run(&["key", "create", "x", "--role", "viewer", "--expires-in", text]).await;
        assert_eq!(odd.code, Some(2), "{text}: {}", odd.stderr);
    }
}

#[tokio::test]
async fn who_has_no_key_left_makes_one_in_the_database() {
    let service = Service::start().await;
    let lost = |arguments: &[&str]| {
        let mut command = command(service.dir.path(), "http://127.0.0.1:1", arguments);
        command.stdout(std::process::Stdio::piped());
        command
    };
    let made = ran(&mut lost(&["key", "create", "back", "--role", "admin", "--offline"])).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let secret = made.stdout.trim().to_owned();
    let follow = tokio::spawn({
        let writer = std::sync::Arc::clone(&service.writer);
        async move { writer.follow().await }
    });
    let ask = || answer(service.anonymous("GET", "/api/v1/history").bearer_auth(&secret));
    let taken_up = async {
        loop {
            let said = ask().await;
            if said.status == 200 {
                return said.ok();
            }
            tokio::task::yield_now().await;
        }
    };
    let history =
        tokio::time::timeout(Duration::from_secs(20), taken_up).await.expect("the service takes it up");
    assert_eq!(history["changes"][0]["actor"], "offline for amina");
    follow.abort();
    let nowhere =
        ran(&mut lost(&["key", "create", "x", "--role", "admin", "--offline", "--database", "no.db"])).await;
    assert!(nowhere.stderr.contains("no.db: there is no such database"), "{}", nowhere.stderr);
    assert!(!service.dir.path().join("no.db").exists());
}
