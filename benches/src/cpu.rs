//! CPU time and memory of processes, from `/proc`, and the cores they run on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::Result;

/// The CPU time of a process, its threads (io_uring's workers are among them) and its child processes, to the
/// nanosecond where the kernel has it so: a thread that runs at this moment is counted up to its last tick.
///
/// # Errors
/// The process has ended.
pub fn used_by(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        // A thread or child that ends meanwhile is left out: here they live as long as their process.
        nanoseconds += on_cpu(&task).unwrap_or(0);
        for child in children(&task) {
            nanoseconds += u64::try_from(used_by(child)?.as_nanos())?;
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The CPU time of this thread, up to this moment.
pub fn used_by_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The memory of a process and its child processes that is in RAM, in bytes: `VmRSS` of `/proc/PID/status`. The kernel's own
/// memory for it (sockets, ring entries) is not in it; the rings themselves, mapped into the process, are.
///
/// # Errors
/// The process has ended.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    // The first thread starts the children.
    let children = children(Path::new(&format!("/proc/{pid}/task/{pid}"))).into_iter();
    Ok(kibibytes * 1024 + children.map(resident_bytes).sum::<Result<u64>>()?)
}

/// Keeps this thread, and the threads it starts from now on, on one core.
///
/// # Errors
/// There is no such core for this process.
pub fn pin_this_thread(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|error| format!("core {core}: {error}").into())
}

/// The first field of a task's `schedstat`: time on a CPU in nanoseconds.
///
/// # Errors
/// It has ended.
pub fn on_cpu(task: &Path) -> Result<u64> {
    let text = fs::read_to_string(task.join("schedstat"))?;
    Ok(text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?)
}

fn children(task: &Path) -> Vec<u32> {
    let text = fs::read_to_string(task.join("children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_cpu_time() {
        let before = used_by(std::process::id()).expect("/proc is there");
        let mut sum = 0_u64;
        for number in 0..50_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(number));
        }
        let used = used_by(std::process::id()).expect("/proc is there") - before;
        assert!(used > Duration::from_millis(1), "{used:?}");
    }

    #[test]
    fn a_process_has_memory() {
        assert!(resident_bytes(std::process::id()).expect("/proc is there") > 100 << 10);
    }
}
