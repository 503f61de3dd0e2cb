//! What the system says of the process's threads (proc(5)).

use std::fs;

/// CPU time that a thread of this process has used, in microseconds (`schedstat`). 0 if the system does not say: the file
/// can be hidden, and a thread can be gone.
pub(crate) fn thread_cpu(thread: u64) -> u64 {
    let read = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok();
    let nanos = read.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    nanos.unwrap_or(0) / 1_000
}
