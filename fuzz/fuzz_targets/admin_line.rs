//! A line sent to the admin socket: read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let _ = lb_bin::admin::parse_request(line);
});
