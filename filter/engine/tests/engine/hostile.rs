//! Requests that no honest client sends: the engine answers each, in good form, and never panics.

use crate::world::{World, claims};
use rampart_engine::decision::Decision;

/// xorshift64*: the same requests on every run, so that a failure can be looked at.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }

    /// Something good as it is or with a byte or two replaced, removed or doubled.
    fn damage(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..self.below(4).saturating_sub(1) {
            let at = self.below(bytes.len().max(1));
            match (self.below(3), bytes.is_empty()) {
                (_, true) => {}
                (0, _) => bytes[at] = self.below(256) as u8,
                (1, _) => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes
    }
}

#[test]
fn hostile_requests_get_well_formed_answers() {
    let mut world = World::new();
    let token = world.token(&claims("globex"));
    let policy = world.compiled();
    let mut random = Random(0x5eed);
    let paths =
        ["/api/v1/modules/v1/analytics/data?x", "/api/v1/modules/v1/levels/admin", "/api/v1/modules/%2e./;/"];
    let names = ["authorization", ":path", ":method", "x-rampart-cluster", ""];
    let (mut passed, mut forwarded, mut refused) = (0, 0, 0);
    for _ in 0..50_000 {
        let path = paths[random.below(paths.len())];
        let mut headers = vec![
            (b":method".to_vec(), random.damage(b"GET")),
            (b":path".to_vec(), random.damage(path.as_bytes())),
            (b"authorization".to_vec(), random.damage(format!("Bearer {token}").as_bytes())),
        ];
        for _ in 0..random.below(3) {
            let name = names[random.below(names.len())].as_bytes().to_vec();
            let at = random.below(headers.len());
            headers.insert(at, (name, random.bytes(40)));
        }
        match world.decide_bytes(&policy, &headers) {
            Decision::Pass => passed += 1,
            Decision::Forward(_) => forwarded += 1,
            Decision::Refuse(refusal, _) => {
                refused += 1;
                let reply = refusal.reply();
                assert!((400..=503).contains(&reply.status));
                let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
                assert_eq!(body["reason"], refusal.reason.as_str());
                let plain = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
                assert!(reply.headers.iter().all(|(_, value)| plain(value)), "{reply:?}");
            }
        }
    }
    // All three happen often, or the requests are not what this test thinks they are.
    assert!(passed.min(forwarded).min(refused) > 1_000, "{passed} {forwarded} {refused}");
}
