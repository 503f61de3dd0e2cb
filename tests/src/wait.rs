//! Waiting for a condition.

use std::time::{Duration, Instant};

/// After this long something hangs. Never part of a promise, but below 30 s, when the balancer looks at every connection
/// and would set going again what it forgot.
pub const HANG: Duration = Duration::from_secs(20);

/// Returns when `condition` holds.
///
/// # Panics
/// If it does not within [`HANG`]; `what` says what was waited for.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(()));
}

/// Returns what `value` gives as soon as it gives something.
///
/// # Panics
/// If it does not within [`HANG`].
pub fn until_some<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + HANG;
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {HANG:?} in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Returns the number that `read` gives as soon as it has stayed the same for `time`.
///
/// # Panics
/// If it does not come to rest within [`HANG`].
pub fn until_still(what: &str, time: Duration, mut read: impl FnMut() -> u64) -> u64 {
    let (mut last, mut since) = (read(), Instant::now());
    until_some(what, || {
        let now = read();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() >= time).then_some(last)
    })
}

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);
