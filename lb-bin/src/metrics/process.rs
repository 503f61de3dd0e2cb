//! What is told of this process: by the kernel its CPU time, memory and descriptors, by the log what it lost.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::text::{Labels, Subject, Text};
use crate::log;

/// This process at one moment. What the kernel does not tell is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ProcessFacts {
    /// CPU time of all threads since the start.
    cpu_seconds: f64,
    /// Memory that is in RAM.
    resident_bytes: u64,
    /// Memory that is mapped.
    virtual_bytes: u64,
    threads: u64,
    open_descriptors: u64,
    /// The most that may be open; `None` without a limit.
    max_descriptors: Option<u64>,
    /// When it started, in seconds since 1970.
    started: f64,
    /// Lines of the log that were dropped.
    log_dropped: u64,
}

impl ProcessFacts {
    /// Reads them. Only the process itself knows when it started.
    pub(super) fn read(started: SystemTime) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: number_of("VmRSS:", &status) * 1024,
            virtual_bytes: number_of("VmSize:", &status) * 1024,
            threads: number_of("Threads:", &status),
            open_descriptors: open_descriptors(),
            max_descriptors: getrlimit(Resource::Nofile).current,
            started: started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            log_dropped: log::dropped(),
        }
    }
}

/// The number behind a name in `/proc/self/status` (proc_pid_status(5)).
fn number_of(name: &str, status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Since Linux 6.2 the folder's size is the number of its entries. Before that they have to be counted.
fn open_descriptors() -> u64 {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).map_or(0, |metadata| metadata.len()) {
        0 => fs::read_dir(folder).map_or(0, |entries| entries.count() as u64),
        size => size,
    }
}

/// But for the first, the names are those that all programs with metrics use for these.
pub(super) fn write(text: &mut Text, facts: &ProcessFacts) {
    let process = [Subject::new(facts, Labels::default())];
    let help = "Lines of the log that were dropped, because they were not written in time.";
    text.counter("lb_log_lines_dropped_total", help, &process, |facts| facts.log_dropped);
    text.counter("process_cpu_seconds_total", "CPU time of all threads.", &process, |facts| facts.cpu_seconds);
    text.gauge("process_resident_memory_bytes", "Memory in RAM.", &process, |facts| facts.resident_bytes);
    text.gauge("process_virtual_memory_bytes", "Memory that is mapped.", &process, |facts| facts.virtual_bytes);
    text.gauge("process_threads", "Threads.", &process, |facts| facts.threads);
    text.gauge("process_open_fds", "Descriptors that are open.", &process, |facts| facts.open_descriptors);
    text.gauge("process_max_fds", "Most descriptors that may be open.", &process, |facts| {
        facts.max_descriptors.map_or_else(|| "+Inf".to_owned(), |most| most.to_string())
    });
    text.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", &process, |facts| {
        facts.started
    });
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let before = ProcessFacts::read(SystemTime::now());
        let files: Vec<File> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let filled = vec![1_u8; 64 << 20];
        let after = ProcessFacts::read(SystemTime::now());
        assert!(after.open_descriptors >= before.open_descriptors.min(100), "{after:?}");
        assert!(after.open_descriptors >= files.len() as u64, "{after:?}");
        assert!(after.resident_bytes >= filled.len() as u64, "{after:?}");
        assert!(after.virtual_bytes >= after.resident_bytes && after.threads > 0, "{after:?}");
        assert!(after.cpu_seconds > before.cpu_seconds && after.started > 1.7e9, "{after:?}");
    }

    #[test]
    fn a_number_is_found_by_its_name() {
        let status = "Name:\tlb\nVmPeak:\t  99 kB\nVmSize:\t     3892 kB\nThreads:\t12\n";
        assert_eq!(number_of("VmSize:", status), 3892);
        assert_eq!(number_of("Threads:", status), 12);
        assert_eq!(number_of("VmRSS:", status), 0);
    }
}
