//! Any bytes as a policy. What must hold is in `rampart_fuzz::policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rampart_fuzz::policy(data));
