//! The text of a configuration file: read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = lb_bin::config::parse_config(text);
});
