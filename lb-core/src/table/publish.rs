//! Publishing a table and knowing when every shard uses it.
//!
//! The control plane replaces the table, rings every shard's doorbell, and waits until each shard has acknowledged the
//! table. A shard loads the table at the beginning of a turn, lets go of the listeners that are not in it any more,
//! acknowledges its generation, and uses that table for the whole turn. So once all have acknowledged, no shard can choose
//! by an older table again.

use crossbeam_utils::CachePadded;

use crate::sys::published::{Guard, Published};
use crate::sys::sync::{AtomicU64, Ordering};

/// The present table and the shards' acknowledgements.
pub(crate) struct Publication<T> {
    table: Published<T>,
    /// The generation that each shard uses, by shard; written by that shard only.
    acknowledged: Box<[CachePadded<AtomicU64>]>,
}

impl<T: Send + Sync> Publication<T> {
    pub(crate) fn new(table: T, shards: usize) -> Self {
        let acknowledged = (0..shards).map(|_| CachePadded::new(AtomicU64::new(0))).collect();
        Self { table: Published::new(table), acknowledged }
    }

    /// Puts `table` into effect for every turn that begins from now on.
    pub(crate) fn publish(&self, table: T) {
        self.table.replace(table);
    }

    /// The table for one turn.
    pub(crate) fn load<'g>(&self, guard: &'g Guard) -> &'g T {
        self.table.load(guard)
    }

    /// Says that `shard` uses the table of this generation: the turn before has ended, so nothing of the shard uses an older
    /// one from here on. Only `shard` itself may call this.
    pub(crate) fn acknowledge(&self, shard: usize, generation: u64) {
        // Release pairs with the acquire in `used_by`: what the shard did by older tables happened before.
        self.acknowledged[shard].store(generation, Ordering::Release);
    }

    /// The generation that `shard` uses.
    pub(crate) fn used_by(&self, shard: usize) -> u64 {
        self.acknowledged[shard].load(Ordering::Acquire)
    }

    /// Whether every shard uses `generation` or a later one.
    pub(crate) fn used_by_all(&self, generation: u64) -> bool {
        (0..self.acknowledged.len()).all(|shard| self.used_by(shard) >= generation)
    }
}

#[cfg(all(test, lb_loom))]
mod loom_model {
    use super::*;
    use crate::sys::published::pin;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    /// Two shards take turns while the control plane publishes revision 2: after it was acknowledged by both, no turn that
    /// chooses may do so by revision 1.
    #[test]
    fn loom_no_choice_by_an_old_table_after_the_confirmation() {
        loom::model(|| {
            let publication = Arc::new(Publication::new(1u64, 2));
            let confirmed = Arc::new(AtomicUsize::new(0));
            let shards: Vec<_> = (0..2)
                .map(|shard| {
                    let (publication, confirmed) = (Arc::clone(&publication), Arc::clone(&confirmed));
                    thread::spawn(move || {
                        for _ in 0..2 {
                            let guard = pin();
                            // A connection that is accepted after the confirmation...
                            let before = confirmed.load(Ordering::Acquire);
                            let revision = *publication.load(&guard);
                            publication.acknowledge(shard, revision);
                            // ...is balanced by the confirmed revision or a later one.
                            assert!(revision as usize >= before);
                            // A choice in the middle of the turn: nobody may have confirmed a newer revision meanwhile.
                            assert!(confirmed.load(Ordering::Acquire) <= revision as usize);
                            thread::yield_now();
                        }
                    })
                })
                .collect();
            publication.publish(2u64);
            if publication.used_by_all(2) {
                confirmed.store(2, Ordering::Release);
            }
            for shard in shards {
                shard.join().unwrap();
            }
        });
    }
}
