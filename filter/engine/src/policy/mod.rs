//! What the filter decides by.

pub mod wire;
