//! The proxy-wasm shell around the decision engine: it reads the request, asks, writes the answer.
//! It decides nothing.
//!
//! One get-all of the request headers, one decision, then the writes, last and together: every
//! header write makes Envoy forget its route, and reading in between would make it search again.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod apply;
mod header_map;
mod host;
mod host_verifier;
mod metrics;
mod worker;

use std::cell::Cell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use rampart_engine::decide::{self, decide};
use rampart_engine::decision::{Decision, Reason, Refusal};
use rampart_engine::policy::Policy;
use rampart_engine::token_cache::TokenCache;

use header_map::HeaderMap;
use host_verifier::HostVerifier;

/// Private, since the macro writes an undocumented public function.
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(super::Root::default()));
    }}
}

thread_local! {
    /// One cache for all policies this VM has seen: a change of flags must not cost the verified
    /// tokens. Its digests carry the key generation, so a change of keys does.
    static TOKENS: Cell<Option<TokenCache>> = const { Cell::new(None) };
}

/// One plugin configuration.
#[derive(Default)]
struct Root {
    running: Option<Rc<Running>>,
}

/// What a request needs of its configuration; it outlives the root while requests are in flight.
struct Running {
    policy: Policy,
    /// The policy's revision, as every request's filter state tells it.
    revision: String,
    verifier: HostVerifier,
}

impl Context for Root {}

impl RootContext for Root {
    /// A pure and total function of the configuration's bytes: Envoy tries it once on the main
    /// thread, and a worker that answered differently would be left without a filter.
    fn on_configure(&mut self, size: usize) -> bool {
        let json = host::plugin_configuration(size);
        match Policy::from_json(&json) {
            Ok(policy) => {
                let (revision, verifier) = (policy.revision.to_string(), HostVerifier::probe());
                let by = verifier.who();
                host::log_debug(&format!("rampart: revision {revision}, signatures verified by {by}"));
                worker::prepare();
                self.running = Some(Rc::new(Running { policy, revision, verifier }));
                true
            }
            Err(problems) => {
                for problem in problems.iter().take(20) {
                    host::log_error(&format!("rampart: policy refused: {problem}"));
                }
                false
            }
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { running: self.running.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// One request.
struct Request {
    running: Option<Rc<Running>>,
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let Some(running) = &self.running else {
            return apply::refuse(&Refusal::new(Reason::NoPolicy), None, "0");
        };
        let headers = HeaderMap::new(host::request_headers());
        let tokens = TOKENS.take().or_else(|| host::random_seed().map(TokenCache::new));
        let (Some(now), Some(mut tokens)) = (host::unix_seconds(), tokens) else {
            return apply::refuse(&Refusal::new(Reason::IncapableHost), None, &running.revision);
        };
        let mut context = decide::Context { now, verifier: &running.verifier, tokens: &mut tokens };
        let decision = decide(&running.policy, &headers, &mut context);
        TOKENS.set(Some(tokens));
        worker::decided(running.policy.revision, now);
        match decision {
            Decision::Pass => apply::pass(&headers, &running.revision),
            Decision::Forward(forward) => apply::forward(&headers, &forward, &running.revision),
            Decision::Refuse(refusal, place) => apply::refuse(&refusal, place, &running.revision),
        }
    }

    /// Asked only where there are some.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        apply::trailers(&HeaderMap::new(host::request_trailers()))
    }
}
