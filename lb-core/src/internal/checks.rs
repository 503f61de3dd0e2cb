//! The checker by itself, for what it costs and for the fuzzer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use crate::config::Check;
use crate::control::StartError;
use crate::control::check::{self, Checked, Checker, Target};
use crate::control::health::Verdict;

/// Name of the checker's thread.
pub const CHECK_THREAD: &str = "lb-check";

/// Reads an answer, whole and in parts of this size, as checks do, and panics if the parts make a difference.
pub fn read_answer(answer: &[u8], part: usize) {
    check::read_answer(answer, part);
}

/// A checker that runs.
#[derive(Debug)]
pub struct Checks {
    _checker: Checker,
    up: Arc<AtomicUsize>,
    verdicts: mpsc::Receiver<()>,
}

impl Checks {
    /// Checks servers at these addresses.
    ///
    /// # Errors
    /// The kernel refuses a ring or a thread.
    pub fn start(addrs: impl Iterator<Item = SocketAddr>, check: Check) -> Result<Self, StartError> {
        let up = Arc::new(AtomicUsize::new(0));
        let (sender, verdicts) = mpsc::channel();
        let counted = Arc::clone(&up);
        let report = move |news: Vec<Checked>| {
            for checked in news {
                match checked.verdict {
                    Verdict::Up => counted.fetch_add(1, Ordering::Relaxed),
                    Verdict::Down => 0,
                };
                let _ = sender.send(());
            }
        };
        /// What the balancer gives it with 20 000 descriptors.
        const AT_ONCE: usize = 156;
        let checker = Checker::start(AT_ONCE, report, |why| eprintln!("{why}"))?;
        let check = Arc::new(check);
        let target = |(server, addr)| Target::plain(server, addr, Arc::clone(&check));
        checker.set_targets((0..).zip(addrs).map(target).collect());
        Ok(Self { _checker: checker, up, verdicts })
    }

    /// Waits for the first verdict on each of `servers` servers, and gives how many are up.
    pub fn wait_for_verdicts(&self, servers: usize) -> usize {
        let verdicts = self.verdicts.iter().take(servers).count();
        debug_assert_eq!(verdicts, servers, "the checker died");
        self.up.load(Ordering::Relaxed)
    }

    /// Verdicts that have changed since they were last waited for.
    pub fn changes(&self) -> usize {
        self.verdicts.try_iter().count()
    }
}
