//! Configuration files: any text gives findings or a model, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| drop(proxyd::conf::load_str("fuzz.toml", text)));
