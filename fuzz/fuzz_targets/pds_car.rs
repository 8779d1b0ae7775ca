#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atcr_fuzz::pds::car(bytes));
