//! One immutable value that many threads read without a lock while one replaces it.

#[cfg(not(lb_loom))]
mod epoch {
    use crossbeam_epoch::{Atomic, Guard, Owned, Shared};
    use std::sync::atomic::Ordering;

    /// A value behind one atomic pointer. Readers hold an epoch guard for as long as they use what they loaded.
    pub(crate) struct Published<T>(Atomic<T>);

    impl<T: Send + Sync> Published<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Atomic::new(value))
        }

        /// The present value, for as long as `guard` is held.
        pub(crate) fn load<'g>(&self, guard: &'g Guard) -> &'g T {
            // Acquire pairs with the release in `replace`: who sees the pointer sees what it points at.
            let shared = self.0.load(Ordering::Acquire, guard);
            // SAFETY: the pointer is never null: it starts as a value and is only replaced by values. A replaced value is
            // destroyed only after every guard that was pinned at the time of the replacement is gone, `guard` among them.
            unsafe { shared.deref() }
        }

        /// Puts `value` in place of the present one, which is dropped when its last reader is done.
        pub(crate) fn replace(&self, value: T) {
            let guard = crossbeam_epoch::pin();
            let old = self.0.swap(Owned::new(value), Ordering::AcqRel, &guard);
            // SAFETY: `old` came out of the only pointer to it just now, so no later reader can find it, and no one else
            // retires it: a swap gives each value to one caller.
            unsafe { guard.defer_destroy(old) };
            guard.flush();
        }
    }

    impl<T> Drop for Published<T> {
        fn drop(&mut self) {
            // SAFETY: `&mut self`: no reader has access any more, so the unprotected guard is enough and the value is ours.
            unsafe {
                let guard = crossbeam_epoch::unprotected();
                let last = self.0.swap(Shared::null(), Ordering::AcqRel, guard);
                drop(last.into_owned());
            }
        }
    }
}

#[cfg(not(lb_loom))]
pub(crate) use crossbeam_epoch::{Guard, pin};
#[cfg(not(lb_loom))]
pub(crate) use epoch::Published;

/// For loom, which explores orderings and not reclamation: replaced values are leaked.
#[cfg(lb_loom)]
mod model {
    use crate::sys::sync::{AtomicPtr, Ordering};

    #[derive(Debug)]
    pub(crate) struct Guard;

    pub(crate) fn pin() -> Guard {
        Guard
    }

    pub(crate) struct Published<T>(AtomicPtr<T>);

    impl<T: Send + Sync> Published<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(AtomicPtr::new(Box::into_raw(Box::new(value))))
        }

        pub(crate) fn load<'g>(&self, _: &'g Guard) -> &'g T {
            // SAFETY: values are leaked, so every pointer that was ever stored stays valid.
            unsafe { &*self.0.load(Ordering::Acquire) }
        }

        pub(crate) fn replace(&self, value: T) {
            self.0.swap(Box::into_raw(Box::new(value)), Ordering::AcqRel);
        }
    }
}

#[cfg(lb_loom)]
pub(crate) use model::{Guard, Published, pin};
