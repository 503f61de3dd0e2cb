//! The lines of a state file, as they come and under a checksum that is right: read or set aside, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xxhash_rust::xxh3::xxh3_64;

fuzz_target!(|bytes: &[u8]| {
    let _ = lb_bin::state::parse_state(bytes);
    // A fuzzer does not find checksums, and what is behind one is to be tried too.
    let mut whole = bytes.to_vec();
    whole.push(b'\n');
    let checksum = xxh3_64(&whole);
    whole.extend_from_slice(format!("Checksum(\"{checksum:016x}\")\n").as_bytes());
    let _ = lb_bin::state::parse_state(&whole);
});
