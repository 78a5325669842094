#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| khashmir_fuzz::targets::bencode(script));
