//! The checker's thread.

use std::io;

use super::{Checked, Orders};

/// Runs the checker on this thread until it is over.
pub(super) fn on_this_thread(
    orders: &Orders,
    _report: impl Fn(Vec<Checked>),
    _on_death: impl FnOnce(String),
    started: impl FnOnce(io::Result<()>),
) {
    started(Ok(()));
    while !orders.is_over() {
        let _ = orders.take_targets();
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
}
