//! What a client says first, as a PROXY header of either version: read without a panic, it makes no difference how much of
//! it has come, and it is read back as it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    lb_core::internal::check_proxy_header(bytes);
});
