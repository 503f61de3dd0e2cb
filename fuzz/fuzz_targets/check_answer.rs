//! What a server answers to a check (`http`, `send_expect`), whole and cut into parts: read without a panic, and the parts
//! make no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (part, answer) = input;
    lb_core::internal::read_answer(answer, part.into());
});
