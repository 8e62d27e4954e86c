//! Response heads: see `proxyd::proto::http1::fuzz::response_head` for what must hold.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| proxyd::proto::http1::fuzz::response_head(data));
