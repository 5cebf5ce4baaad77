//! The engine from outside. A new test goes where its question stands:
//!
//! - `policy`: what may a policy say?
//! - `decide`: where does a request go?
//! - `tokens`: which tokens are believed?

mod decide;
mod policy;
mod tokens;
mod world;
