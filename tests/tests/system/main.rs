//! System tests: real Envoys, real processes, one binary. A test is a function that calls
//! `system_test` and works in the folder it is given.
//!
//! Where a new test goes:
//!
//! - `harness`: the harness itself does what tests rely on.
//! - `attestation`: what a filter that is absent, broken or half configured means for a request.
//!
//! One file per behaviour; a regression is named after what went wrong. A new behaviour is a new
//! file, listed here.

mod attestation;
mod harness;
