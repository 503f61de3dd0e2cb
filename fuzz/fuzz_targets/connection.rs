//! A whole connection, simulated: the bytes decide what peers, servers and kernel do. No byte is lost, doubled or
//! reordered, no buffer and no operation leaks, and it ends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|decisions: &[u8]| {
    lb_core::internal::simulate_connection(decisions);
});
