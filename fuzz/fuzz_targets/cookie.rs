//! Bytes as a Cookie and as a Set-Cookie field: read without a panic; what is taken out is gone, and everything else there.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    lb_core::internal::check_cookie(bytes);
});
