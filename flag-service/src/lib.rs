//! The flag service: operators' changes in, Envoy configuration out.

pub mod access;
pub mod api;
pub mod blame;
pub mod cli;
pub mod conflict;
pub mod counts;
pub mod flagd;
pub mod head;
pub mod imported;
mod initial;
pub mod jwks;
pub mod model;
pub mod published;
pub mod registry;
pub mod running;
pub mod serve;
pub mod store;
pub mod tls;
pub mod unleash;
pub mod writer;
pub mod xds;
mod yaml;
