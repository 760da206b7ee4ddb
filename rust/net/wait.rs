// SPDX-License-Identifier: GPL-2.0

//! A wait queue for `poll()`, woken from softirqs.

use super::bindings;
use kernel::{prelude::*, sync::LockClassKey, types::Opaque};

/// Creates a [`Waker`] initialiser with a lock class of its own.
macro_rules! new_waker {
    ($name:literal) => {
        $crate::net::wait::Waker::new(::kernel::c_str!($name), ::kernel::static_lock_class!())
    };
}
pub(crate) use new_waker;

/// Who waits for a file to become ready.
#[pin_data]
pub(crate) struct Waker {
    #[pin]
    queue: Opaque<bindings::wait_queue_head>,
    #[pin]
    _pin: core::marker::PhantomPinned,
}

// SAFETY: A wait queue is only given to C functions, which take its lock.
unsafe impl Send for Waker {}
// SAFETY: As above.
unsafe impl Sync for Waker {}

impl Waker {
    /// A queue that nobody waits on. See [`new_waker!`].
    pub(crate) fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The slot may be written and is pinned as part of `Self`; name and key live
            // for ever.
            queue <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_waitqueue_head(slot, name.as_char_ptr(), key.as_ptr())
            }),
            _pin: core::marker::PhantomPinned,
        })
    }

    /// Wakes who waits for one of `events`. Any context.
    ///
    /// What they wait for must have been made true before; without waiters this is a barrier and
    /// a load.
    #[inline]
    pub(crate) fn wake(&self, events: Events) {
        // SAFETY: The queue is initialised.
        if unsafe { bindings::hf_wq_has_sleeper(self.queue.get()) } {
            // SAFETY: As above.
            unsafe { bindings::hf_wake_up_poll(self.queue.get(), events.0) }
        }
    }

    /// The C wait queue.
    pub(super) fn as_ptr(&self) -> *mut bindings::wait_queue_head {
        self.queue.get()
    }
}

/// A set of `EPOLL*` events.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events(u32);

impl Events {
    /// Nothing.
    pub(crate) const NONE: Self = Self(0);
    /// There is something to read.
    pub(crate) const READABLE: Self = Self(bindings::POLLIN | bindings::POLLRDNORM);
    /// Some of it does not bear waiting.
    pub(crate) const URGENT: Self = Self(bindings::POLLPRI);
    /// The other side is gone for good.
    pub(crate) const HANGUP: Self = Self(bindings::POLLHUP);
    /// Something is wrong that no waiting mends.
    pub(crate) const ERROR: Self = Self(bindings::POLLERR);

    /// Both.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As `poll()` returns it.
    pub(super) const fn bits(self) -> u32 {
        self.0
    }
}
