//! The fuzz targets, driven without a fuzzer: the same made-up input on every run, most of it good
//! input that was damaged. `scripts/fuzz` drives them for real.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a crate of its own elsewhere")]
mod targets;

use rampart_tests::{random::Random, shipped::example_policy};

/// How many inputs each target gets.
const INPUTS: usize = 5_000;

/// Some bytes, or something good with a few of its bytes changed, removed or doubled.
fn input(random: &mut Random, good: &[&[u8]]) -> Vec<u8> {
    if random.below(4) == 0 {
        return (0..random.below(200)).map(|_| random.below(256) as u8).collect();
    }
    let mut bytes = random.pick(good).to_vec();
    for _ in 0..random.below(5) {
        let at = random.below(bytes.len().max(1));
        match (random.below(3), bytes.is_empty()) {
            (_, true) => {}
            (0, _) => bytes[at] = random.below(256) as u8,
            (1, _) => drop(bytes.remove(at)),
            _ => bytes.insert(at, bytes[at]),
        }
    }
    bytes
}

fn drive(target: fn(&[u8]), good: &[&[u8]]) {
    let mut random = Random::new(0x5eed);
    good.iter().for_each(|good| target(good));
    (0..INPUTS).for_each(|_| target(&input(&mut random, good)));
}

#[test]
fn the_policy_target_holds() {
    let policy = example_policy().unwrap().to_string();
    drive(targets::policy, &[policy.as_bytes(), br#"{"schema":1,"flags":[{"key":"a","percentage":0.5}]}"#]);
}

#[test]
fn the_token_target_holds() {
    let claims = br#"{"iss":"i","aud":["a"],"exp":1800000060,"nbf":1,"org_id":"acme","roles":["x"]}"#;
    let payload = [&[2], &claims[..]].concat();
    let both = [&[1, 15], &br#"{"alg":"ES256"}"#[..], claims].concat();
    drive(targets::token, &[&payload, &both, b"\x00a.b.c", br#"0{"alg":"none","kid":"ec"}"#]);
}

#[test]
fn the_path_target_holds() {
    drive(targets::path, &[b"/api/v1/modules/v1/one/a%20b/c?q", b"/api/v1/modules/v1/%2e%2e/;x/", b"/else"]);
}

#[test]
fn the_decide_target_holds() {
    // Percentages, then headers: path, method, a token for an organisation (bearer, header, cookie), the
    // request's id, any other.
    let asks = |path: u8, token: u8, organisation: &[u8; 4]| {
        let start = [20, 60, path, 0, 4, 0, token, 4];
        [&start, &organisation[..], &[11, 1, b'i', 7, 1, b'x', 1, b'y']].concat()
    };
    let paths = [0x02, 0x12, 0x22, 0x32, 0x42, 0x52].map(|path| asks(path, 6, b"acme"));
    let others = [asks(0x12, 8, b"acme"), asks(0x42, 9, b"acme"), asks(0x52, 6, b"else")];
    let good: Vec<Vec<u8>> = paths.into_iter().chain(others).collect();
    drive(targets::decide, &good.iter().map(Vec::as_slice).collect::<Vec<_>>());
}
