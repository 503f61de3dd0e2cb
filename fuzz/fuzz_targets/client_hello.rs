//! What a client says first, as a TLS ClientHello, whole and cut into parts: read without a panic, the parts make no
//! difference, and where rustls reads a server name, it is the same one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (part, bytes) = input;
    lb_core::internal::check_client_hello(bytes, part.into());
});
