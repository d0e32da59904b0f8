#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| switchboard::fuzzing::peerdrop_messages(octets));
