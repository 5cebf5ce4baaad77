//! The engine from outside. A new test goes where its question stands:
//!
//! - `policy`: what may a policy say?
//! - `decide`: where does a request go?
//! - `flags`: what always holds of percentages?
//! - `hostile`: does anything a client sends hurt?
//! - `providers`: what may a provider ask of its tokens?
//! - `tokens`: which tokens are believed?

mod decide;
mod flags;
mod hostile;
mod policy;
mod providers;
mod tokens;
mod world;
