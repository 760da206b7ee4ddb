// SPDX-License-Identifier: GPL-2.0

//! A spinlock for data that both softirqs and process context touch.
//!
//! The kernel crate's `SpinLock` leaves softirqs on while it is held: taken in process context it
//! deadlocks with a packet that arrives on the same CPU. This one is the same [`Lock`], so guards,
//! `Pin` projections and lockdep behave alike; only the C functions differ
//! (`spin_lock_bh()`, `spin_unlock_bh()`).

use super::bindings;
use kernel::{
    ffi::c_char,
    sync::lock::{Backend, Guard, Lock},
};

/// Creates a [`SpinLockBh`] initialiser with a lock class of its own.
///
/// The class, and with it what lockdep knows, is that of the place in the source, as with
/// `new_spinlock!`.
macro_rules! new_spinlock_bh {
    ($inner:expr $(, $name:literal)? $(,)?) => {
        $crate::net::lock::SpinLockBh::new(
            $inner,
            ::kernel::optional_name!($($name)?),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_spinlock_bh;

/// A spinlock that turns softirqs off on this CPU while it is held.
///
/// To be taken in process context or in softirq, never in a hard interrupt. What happens under it
/// must not sleep.
pub(crate) type SpinLockBh<T> = Lock<T, SpinLockBhBackend>;

/// The guard of a [`SpinLockBh`].
pub(crate) type SpinLockBhGuard<'a, T> = Guard<'a, T, SpinLockBhBackend>;

/// `spinlock_t`, taken with softirqs off.
pub(crate) struct SpinLockBhBackend;

// SAFETY: A `spinlock_t` has at most one owner. `relock` is the default implementation, which
// calls `lock`.
unsafe impl Backend for SpinLockBhBackend {
    type State = bindings::spinlock_t;
    type GuardState = ();

    #[inline]
    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: By the contract of this function `ptr` may be written, and `name` and `key`
        // live for ever.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: By the contract of this function, the lock has been initialised.
        unsafe { bindings::hf_spin_lock_bh(ptr) }
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, _guard_state: &Self::GuardState) {
        // SAFETY: By the contract of this function the caller owns the lock, and it was taken by
        // `spin_lock_bh()` or `spin_trylock_bh()`, as there is no other way.
        unsafe { bindings::hf_spin_unlock_bh(ptr) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        // SAFETY: By the contract of this function, the lock has been initialised.
        (unsafe { bindings::hf_spin_trylock_bh(ptr) } != 0).then_some(())
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // Asked with each lock that is taken; without lockdep it is an empty call.
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: By the contract of this function, the lock has been initialised.
            unsafe { bindings::spin_assert_is_held(ptr) }
        }
    }
}
