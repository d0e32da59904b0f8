#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| switchboard::testing::run_chosen_target(bytes));
