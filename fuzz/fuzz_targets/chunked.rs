//! Chunked bodies: see `proxyd::proto::http1::fuzz::chunked` for what must hold.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| proxyd::proto::http1::fuzz::chunked(data));
