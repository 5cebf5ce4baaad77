//! Any bytes as a request under a policy. What must hold is in `rampart_fuzz::decide`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rampart_fuzz::decide(data));
