//! The decision engine: bytes in, decision out.
#![no_std]
extern crate alloc;

pub mod bucket;
pub mod flag;
pub mod policy;
