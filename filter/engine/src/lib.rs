//! The decision engine: bytes in, decision out.
//!
//! [`decide()`] takes a compiled [`Policy`](policy::Policy), a borrowed view of one request, and a
//! [`Context`](decide::Context) with the time and the means to verify a signature; it returns a
//! [`Decision`](decision::Decision). The engine reads no clock, draws no random number, makes no
//! call, logs nothing and never panics, so that Envoy (as WebAssembly) and the flag service
//! (natively) run the same code and get the same answer.
// Descriptions of wire types are derived with the standard library; Envoy's build has neither.
#![cfg_attr(not(feature = "schema"), no_std)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc
)]

extern crate alloc;

pub mod auth;
pub mod bucket;
mod claims;
pub mod decide;
pub mod decision;
pub mod enablement;
pub mod flag;
pub mod identity;
mod json;
pub mod jwks;
pub mod jwt;
pub mod path;
pub mod policy;
pub mod request;
pub mod route;
pub mod tenant;
pub mod token_cache;
pub mod token_source;
pub mod verify;

pub use decide::decide;
