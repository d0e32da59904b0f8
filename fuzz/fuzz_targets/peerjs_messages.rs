#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| switchboard::testing::peerjs_messages(octets));
