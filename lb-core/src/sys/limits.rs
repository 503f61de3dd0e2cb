//! The process's resource limits (getrlimit(2)).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of descriptors to the hard one, as far as the kernel allows, and gives it. A balancer does so when it
/// starts; a program that receives listening sockets for it from elsewhere may need them before.
pub fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let limit = setrlimit(Resource::Nofile, raised).map_or(limit, |()| raised);
    // Without a number there is no limit.
    limit.current.unwrap_or(u64::MAX)
}

/// The soft limit of locked memory, in bytes.
pub(crate) fn locked_memory() -> u64 {
    getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX)
}
