//! Any bytes as a path. What must hold is in `rampart_fuzz::path`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rampart_fuzz::path(data));
