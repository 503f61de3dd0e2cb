//! How many connections the process may have, by its descriptors.

use crate::config::Config;
use crate::sys::limits;
use crate::table::counters::{ProcessLimit, SpareDescriptors};

/// Streams with a slow reader that a shard splices; further ones are copied.
const PIPES_MAX: u64 = 128;
/// Sockets to servers that a shard keeps: as many as end between two turns of a busy one.
const SOCKETS_MAX: u64 = 64;
/// Checks of servers at once: they take about a millisecond each, and two seconds if the server hangs.
const CHECKS_MAX: u64 = 1024;

/// What the configuration says, or what the descriptor limit allows: two for each connection and pipe, one for each socket
/// that is kept, and some for listeners, files, checks and the admin socket.
pub(super) fn process_limit(config: &Config, shards: usize) -> ProcessLimit {
    let descriptors = limits::raise_descriptors();
    let (possible, warning) = connections_possible(config, shards, descriptors);
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    let (pipes, sockets) = spare(shards, descriptors);
    let checks = (descriptors / 128).clamp(4, CHECKS_MAX);
    let spare = SpareDescriptors { pipes: pipes as usize, sockets: sockets as usize, checks: checks as usize };
    ProcessLimit::new(config.max_connections.unwrap_or(possible).min(possible), spare)
}

/// How many connections so many descriptors are enough for, and what is to be said if the configuration wants more.
pub(crate) fn connections_possible(config: &Config, shards: usize, descriptors: u64) -> (u32, Option<String>) {
    const KEPT_FREE: u64 = 1_200;
    let (pipes, sockets) = spare(shards, descriptors);
    let listeners = config.frontends.len() as u64 * shards as u64;
    let kept_free = KEPT_FREE.min(descriptors / 4) + listeners + (2 * pipes + sockets) * shards as u64;
    let possible = u32::try_from(descriptors.saturating_sub(kept_free) / 2).unwrap_or(u32::MAX).max(1);
    let wanted = config.max_connections.filter(|wanted| *wanted > possible);
    let warning = wanted.map(|wanted| {
        format!(
            "max_connections is {wanted}, but {descriptors} descriptors are enough for {possible} only, \
             which is the limit now: raise `ulimit -n`"
        )
    });
    (possible, warning)
}

/// Pipes and sockets that a shard may keep. No more than a 32nd of the descriptors for pipes, and half of that for sockets.
fn spare(shards: usize, descriptors: u64) -> (u64, u64) {
    let share = descriptors / 64 / shards as u64;
    (share.min(PIPES_MAX), share.min(SOCKETS_MAX))
}
