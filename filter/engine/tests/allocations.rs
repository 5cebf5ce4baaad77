//! How often a decision asks for memory. In a binary of its own, because the allocator that counts
//! is the whole binary's.
#![expect(unsafe_code, reason = "an allocator is unsafe by its signature")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rampart_engine::decide::{Context, decide};
use rampart_engine::decision::Decision;
use rampart_engine::policy::Policy;
use rampart_engine::token_cache::TokenCache;
use rampart_engine::verify::PureRust;
use serde_json::json;
use world::{NOW, World, claims};

#[path = "engine/world.rs"]
#[expect(dead_code, reason = "the other binary uses the rest of it")]
mod world;

/// The system's allocator, counting per thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the last of several equal requests, and the flags that were on.
fn allocations(world: &World, path: &str, token: &str) -> (usize, usize) {
    let policy = Policy::from_json(world.policy.to_string().as_bytes()).unwrap();
    let bearer = format!("Bearer {token}");
    let headers: &[(&str, &str)] =
        &[(":method", "GET"), (":path", path), ("user-agent", "test"), ("authorization", &bearer)];
    let mut tokens = TokenCache::new([7; 16]);
    let mut last = (0, 0);
    for _ in 0..3 {
        let mut context = Context { now: NOW, verifier: &PureRust, tokens: &mut tokens };
        let before = COUNT.get();
        let decision = decide(&policy, &headers, &mut context);
        let count = COUNT.get() - before;
        let Decision::Forward(forward) = decision else { panic!("{decision:?}") };
        last = (count, forward.flags.len());
    }
    last
}

#[test]
fn a_request_with_a_known_token_allocates_for_its_flags_only() {
    let mut world = World::new();
    world.flag("rollout", |flag| flag["percentage"] = json!(100));
    let token = world.token(&claims("acme"));
    // The list of flags that are on; and nothing where there are none.
    assert_eq!(allocations(&world, "/api/v1/modules/v1/analytics/data", &token), (1, 2));
    assert_eq!(allocations(&world, "/api/v1/modules/v1/levels/basic", &token), (0, 0));
    assert_eq!(allocations(&world, "/api/v1/modules/v1/levels/none", ""), (0, 0));
    // Decoding an escape takes a copy.
    assert_eq!(allocations(&world, "/api/v1/modules/v1/levels/b%61sic", &token), (2, 0));
}
