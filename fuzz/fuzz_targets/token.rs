//! Any bytes as a token. What must hold is in `rampart_fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rampart_fuzz::token(data));
