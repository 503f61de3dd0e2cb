//! A body in chunks, whole and cut into parts: read without a panic, the parts make no difference, httparse reads the same
//! sizes, and it is the same body when it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (part, bytes) = input;
    lb_core::internal::check_http_chunked(bytes, part.into());
});
