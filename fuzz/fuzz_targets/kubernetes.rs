#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pericarp::fuzzing::kubernetes(data));
