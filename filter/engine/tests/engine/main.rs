//! The engine from outside. A new test goes where its question stands:
//!
//! - `policy`: what may a policy say?
//! - `decide`: where does a request go?
//! - `definition`: what may flags and effects say?
//! - `flags`: what always holds of percentages?
//! - `targeting`: which rule of a flag decides?
//! - `modules`: what does a module's manifest say besides who may call?
//! - `enablement`: for whom is a module enabled?
//! - `tenancy`: is a request about the caller's own organisation?
//! - `effects`: what do flags change about a request?
//! - `hostile`: does anything a client sends hurt?
//! - `providers`: what may a provider ask of its tokens?
//! - `standards`: do the specifications' own examples verify?
//! - `tokens`: which tokens are believed?

mod decide;
mod definition;
mod effects;
mod enablement;
mod flags;
mod hostile;
mod modules;
mod policy;
mod providers;
mod standards;
mod targeting;
mod tenancy;
mod tokens;
mod world;
