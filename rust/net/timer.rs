// SPDX-License-Identifier: GPL-2.0

//! Timers inside of refcounted objects.
//!
//! The shape is that of `kernel::workqueue`: an object embeds a [`Timer`], says so with
//! [`impl_has_timer!`], and implements [`TimerCallback`]. An armed timer owns a reference to the
//! object, so it cannot outlive it; the reference goes to the callback, or is given back by
//! [`Timer::cancel`].
//!
//! Lock order: a timer's own lock is innermost but for the timer wheel's.

use super::{bindings, lock::SpinLockBh};
use core::{
    marker::{PhantomData, PhantomPinned},
    ptr::NonNull,
};
use kernel::{
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        LockClassKey,
    },
    task::might_sleep,
    time::{msecs_to_jiffies, Jiffies, Msecs},
    types::Opaque,
};

/// Creates a [`Timer`] initialiser with lock classes of its own.
macro_rules! new_timer {
    ($name:literal) => {
        $crate::net::timer::Timer::new(
            ::kernel::c_str!($name),
            ::kernel::static_lock_class!(),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_timer;

/// Declares which field of a type is its [`Timer`], as `impl_has_work!` does.
///
/// ```ignore
/// impl_has_timer! { impl HasTimer<0> for Flow { self.timer } }
/// ```
macro_rules! impl_has_timer {
    (impl HasTimer<$id:literal> for $self:ty { self.$field:ident }) => {
        // SAFETY: Both functions compute with the offset of the same field, whose type says that
        // it is the timer of this type with this number.
        // (Clippy does not see the comment above through the macro.)
        #[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
        unsafe impl $crate::net::timer::HasTimer<$id> for $self {
            #[inline]
            unsafe fn raw_get_timer(
                this: *const Self,
            ) -> *const $crate::net::timer::Timer<Self, $id> {
                // SAFETY: The caller promises that `this` is a valid object.
                unsafe { &raw const (*this).$field }
            }

            #[inline]
            unsafe fn timer_container_of(
                timer: *const $crate::net::timer::Timer<Self, $id>,
            ) -> *const Self {
                // SAFETY: The caller promises that `timer` is in a valid object.
                unsafe { ::kernel::container_of!(timer, Self, $field) }
            }
        }
    };
}
pub(crate) use impl_has_timer;

/// A type that has a [`Timer`]; `ID` tells several of them apart. See [`impl_has_timer!`].
///
/// # Safety
///
/// The two functions must be inverses of each other.
pub(crate) unsafe trait HasTimer<const ID: u64 = 0>: Sized {
    /// The timer of an object.
    ///
    /// # Safety
    ///
    /// `this` must point at a valid object.
    unsafe fn raw_get_timer(this: *const Self) -> *const Timer<Self, ID>;

    /// The object of a timer.
    ///
    /// # Safety
    ///
    /// `timer` must point at the timer in a valid object.
    unsafe fn timer_container_of(timer: *const Timer<Self, ID>) -> *const Self;
}

/// What happens when a timer expires.
pub(crate) trait TimerCallback<const ID: u64 = 0>:
    HasTimer<ID> + AlwaysRefCounted + Send + Sync + 'static
{
    /// Runs in softirq context, with the reference that the armed timer owned. May arm again.
    fn expired(this: ARef<Self>);
}

/// A timer of the timer wheel (jiffy resolution, never early) inside of an object behind `ARef<T>`s.
///
/// It is in one of three states:
///
/// - *idle*: not in the wheel. The callback of an earlier expiry may still be running.
/// - *armed*: in the wheel, and owning one reference to the object.
/// - *shut down*: idle for ever.
#[pin_data]
#[repr(C)]
pub(crate) struct Timer<T, const ID: u64 = 0> {
    #[pin]
    timer: Opaque<bindings::timer_list>,
    /// Whether it was shut down. `mod_timer()` does not tell a timer that it started from one that
    /// it refused to start (it returns 0 for both), and we must know who owns the reference.
    /// So both decisions are made under this lock.
    #[pin]
    shut_down: SpinLockBh<bool>,
    _object: PhantomData<fn(T)>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: `timer` is only given to timer functions, which may be called on any thread. An object
// that is not `Send` cannot be in an armed timer, because `TimerCallback` requires it.
unsafe impl<T, const ID: u64> Send for Timer<T, ID> {}
// SAFETY: As above, and those functions may be called concurrently.
unsafe impl<T, const ID: u64> Sync for Timer<T, ID> {}

impl<T: TimerCallback<ID>, const ID: u64> Timer<T, ID> {
    /// An idle timer. See [`new_timer!`].
    pub(crate) fn new(
        name: &'static CStr,
        timer_key: Pin<&'static LockClassKey>,
        lock_key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The slot may be written and is pinned as part of `Self`; name and key live
            // for ever.
            timer <- Opaque::ffi_init(|slot| unsafe {
                bindings::timer_init_key(
                    slot,
                    Some(Self::expired),
                    0,
                    name.as_char_ptr(),
                    timer_key.as_ptr(),
                )
            }),
            shut_down <- SpinLockBh::new(false, name, lock_key),
            _object: PhantomData,
            _pin: PhantomPinned,
        })
    }

    /// Arms the timer of `object` to expire in `delay` milliseconds, or moves its expiry there.
    ///
    /// Any context but hard interrupts. Does nothing, and returns false, after
    /// [`Timer::shutdown_sync`].
    pub(crate) fn arm(object: &T, delay: Msecs) -> bool {
        Self::arm_at(object, jiffies().wrapping_add(msecs_to_jiffies(delay)))
    }

    /// As [`Timer::arm`], at a given time of [`jiffies`].
    pub(crate) fn arm_at(object: &T, expires: Jiffies) -> bool {
        let this = Self::of(object);
        let reference: ARef<T> = object.into();
        let shut_down = this.shut_down.lock();
        if *shut_down {
            return false;
        }
        // SAFETY: The timer is initialised and pinned. If this arms it, it is given a reference
        // below, before it can be taken back, as that is done under the lock. The callback may
        // come first, on another CPU; it takes a reference that exists already.
        if unsafe { bindings::mod_timer(this.timer.get(), expires) } == 0 {
            let _ = ARef::into_raw(reference);
        }
        true
    }

    /// Disarms the timer of `object`. Returns whether it was armed.
    ///
    /// Any context but hard interrupts. The callback may be running still.
    pub(crate) fn cancel(object: &T) -> bool {
        let this = Self::of(object);
        let _shut_down = this.shut_down.lock();
        // SAFETY: The timer is initialised.
        let armed = unsafe { bindings::timer_delete(this.timer.get()) } != 0;
        if armed {
            // SAFETY: It was armed, so it owned a reference, which is now ours.
            unsafe { Self::put(object) };
        }
        armed
    }

    /// Disarms the timer of `object` for good: when this returns, the callback is not running and
    /// never will again. Sleeps. Must not be called by the callback, nor with a lock held that the
    /// callback takes.
    pub(crate) fn shutdown_sync(object: &T) {
        might_sleep();
        let this = Self::of(object);
        *this.shut_down.lock() = true;
        // SAFETY: The timer is initialised. From the store above on, nobody arms it.
        if unsafe { bindings::timer_delete_sync(this.timer.get()) } != 0 {
            // SAFETY: It was armed, so it owned a reference, which is now ours.
            unsafe { Self::put(object) };
        }
    }

    /// The timer of an object.
    fn of(object: &T) -> &Self {
        // SAFETY: `object` is valid, and the timer in it as long.
        unsafe { &*T::raw_get_timer(object) }
    }

    /// Gives back the reference of a timer that was armed. The caller has another one.
    ///
    /// # Safety
    ///
    /// The timer's reference must be the caller's to drop.
    unsafe fn put(object: &T) {
        // SAFETY: By the contract of this function; `arm_at` leaked it by `ARef::into_raw`.
        drop(unsafe { ARef::from_raw(NonNull::from(object)) });
    }

    /// # Safety
    ///
    /// `timer` must be the `timer_list` of a `Self` that was armed by `arm_at`.
    unsafe extern "C" fn expired(timer: *mut bindings::timer_list) {
        let this = Opaque::cast_from(timer).cast::<Self>();
        // SAFETY: `timer` is the first field of a `Self` (which is `repr(C)`) in an object that
        // the armed timer's reference keeps alive; that reference goes to the callback.
        T::expired(unsafe {
            ARef::from_raw(NonNull::new_unchecked(
                T::timer_container_of(this).cast_mut(),
            ))
        });
    }
}

/// The kernel's clock of timers: it wraps, and counts on from any value.
#[inline]
pub(crate) fn jiffies() -> Jiffies {
    // SAFETY: No requirement.
    unsafe { bindings::hf_jiffies() }
}
