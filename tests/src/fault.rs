//! Faults in the system calls of a running process, and what tests need for them: root and strace.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::lb::signal;
use crate::{Lb, Log};

/// True if the test can't run here; then says so, past the test runner's capture of the output.
pub fn skipped(test: &str, possible: bool, needs: &str) -> bool {
    if !possible {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: needs {needs}");
    }
    !possible
}

/// True for root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// True if a program can be found.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// System calls of a process that fail or kill it, by strace; until dropped.
#[derive(Debug)]
pub struct Injection(Child);

impl Injection {
    /// Whether this can be done here.
    pub fn is_possible() -> bool {
        is_root() && has("strace")
    }

    /// Lets system calls of `lb` go wrong, written as strace does, for example `fsync:error=EIO:when=1`.
    ///
    /// # Panics
    /// If strace can't attach.
    pub fn into(lb: &Lb, inject: &str) -> Self {
        let calls = inject.split(':').next().unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-p", &lb.pid().to_string()]);
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::follow(child.stderr.take().unwrap());
        assert!(log.wait_for("attached").is_some(), "strace did not attach: {}", log.text());
        Self(child)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // It has ended if it killed its process.
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            signal(self.0.id(), "TERM");
        }
        let _ = self.0.wait();
    }
}

/// A small disk of its own, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts it; needs root.
    ///
    /// # Panics
    /// If that fails.
    pub fn mount() -> Self {
        let folder = TempDir::with_prefix("lb-test-disk-").unwrap();
        let mut command = Command::new("mount");
        let status = command.args(["-t", "tmpfs", "-o", "size=256k", "lb-test"]).arg(folder.path()).status().unwrap();
        assert!(status.success(), "can't mount a small disk");
        Self(folder)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it to the last byte; removing the file that this gives makes room again.
    ///
    /// # Panics
    /// If it can't be filled.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[0]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The process that used it may take a moment to let go of it.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !Command::new("umount").arg(self.path()).status().is_ok_and(|status| status.success()) {
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
