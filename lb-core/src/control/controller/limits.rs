//! How many connections the process may have, by its descriptors.

use crate::config::Config;
use crate::sys::limits;
use crate::table::counters::{ProcessLimit, SpareDescriptors};

/// What the configuration says, or what the descriptor limit allows: two for each connection and pipe, one for each socket
/// that is kept, and some for listeners, files, checks and the admin socket.
pub(super) fn process_limit(config: &Config, shards: usize) -> ProcessLimit {
    const KEPT_FREE: u64 = 1_200;
    /// Streams with a slow reader that a shard splices; further ones are copied.
    const PIPES_MAX: u64 = 128;
    /// Sockets to servers that a shard keeps: as many as end between two turns of a busy one.
    const SOCKETS_MAX: u64 = 64;
    /// Checks of servers at once: they take about a millisecond each, and two seconds if the server hangs.
    const CHECKS_MAX: u64 = 1024;
    let descriptors = limits::raise_descriptors();
    let shards = shards as u64;
    // No more than a 32nd of the descriptors for pipes, and half of that for sockets.
    let share = descriptors / 64 / shards;
    let (pipes, sockets) = (share.min(PIPES_MAX), share.min(SOCKETS_MAX));
    let listeners = config.frontends.len() as u64 * shards;
    let kept_free = KEPT_FREE.min(descriptors / 4) + listeners + (2 * pipes + sockets) * shards;
    let possible = u32::try_from(descriptors.saturating_sub(kept_free) / 2).unwrap_or(u32::MAX).max(1);
    let connections = config.max_connections.unwrap_or(possible);
    if connections > possible {
        tracing::warn!(
            "max_connections is {connections}, but {descriptors} descriptors are enough for {possible} only, \
             which is the limit now: raise `ulimit -n`"
        );
    }
    let checks = (descriptors / 128).clamp(4, CHECKS_MAX);
    let spare = SpareDescriptors { pipes: pipes as usize, sockets: sockets as usize, checks: checks as usize };
    ProcessLimit::new(connections.min(possible), spare)
}
