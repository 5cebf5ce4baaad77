//! The flag service: operators' changes in, Envoy configuration out.

pub mod published;
pub mod xds;
