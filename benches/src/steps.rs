//! Counts the instructions that a thread of another process executes in user space, or its system calls, by stepping through
//! them (ptrace(2)).
//!
//! Hardware counters would do it at once, but virtual machines rarely have any, and valgrind does not know that
//! `io_uring_enter` waits: it hangs. Stepping takes some 3 µs per instruction.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Result;

/// What has been counted so far, to be read while the counting goes on.
#[derive(Debug, Clone, Default)]
pub struct Steps(Arc<Shared>);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Instructions in user space. A system call counts as one.
    Instructions,
    /// System calls.
    SystemCalls,
}

#[derive(Debug, Default)]
struct Shared {
    count: AtomicU64,
    is_over: AtomicBool,
}

impl Steps {
    /// Instructions, or system calls, so far.
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Ends the counting as soon as the thread executes its next instruction, or system call.
    pub fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Counts what the thread called `thread` of process `pid` executes, until [`Steps::end`].
    ///
    /// # Errors
    /// The process has no such thread, or tracing it is forbidden.
    pub fn run(&self, pid: u32, thread: &str, unit: Unit) -> Result<()> {
        let thread = find(pid, thread)?;
        let forbidden = |error| format!("tracing lb: {error}; allow ptrace here (sysctl kernel.yama.ptrace_scope=1)");
        ptrace::seize(thread, Options::empty()).map_err(forbidden)?;
        ptrace::interrupt(thread)?;
        // A system call stops twice: before and after.
        let mut is_second = false;
        while !self.0.is_over.load(Ordering::Relaxed) {
            match (waitpid(thread, Some(WaitPidFlag::__WALL))?, unit) {
                (WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..), Unit::Instructions) => {
                    ptrace::step(thread, None)?;
                }
                (WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..), Unit::SystemCalls) => {
                    is_second = !is_second;
                    ptrace::syscall(thread, None)?;
                }
                (other, _) => return Err(format!("the traced thread has ended: {other:?}").into()),
            }
            self.0.count.fetch_add(u64::from(!is_second), Ordering::Relaxed);
        }
        // The last step ends with a stop too; only a stopped thread can be let go.
        waitpid(thread, Some(WaitPidFlag::__WALL))?;
        Ok(ptrace::detach(thread, None)?)
    }
}

fn find(pid: u32, name: &str) -> Result<Pid> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        if fs::read_to_string(task.path().join("comm"))?.trim() == name {
            return Ok(Pid::from_raw(task.file_name().to_string_lossy().parse()?));
        }
    }
    Err(format!("process {pid} has no thread {name:?}").into())
}
