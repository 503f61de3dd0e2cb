//! What a server says as HTTP, whole and cut into parts: read without a panic, the parts make no difference, and the most
//! lenient parser finds the same body in what is accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (part, bytes) = input;
    lb_core::internal::check_http_response(bytes, part.into());
});
