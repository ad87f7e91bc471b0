#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| streamgate::fuzzing::run("protobuf", input));
