// SPDX-License-Identifier: GPL-2.0

//! Housekeeping: a work item that runs again and again until it is stopped.
//!
//! `kernel::workqueue` has delayed work, but nothing that cancels it, and its items own a
//! reference to themselves while queued. What a network namespace needs at its end is the
//! opposite: *after this call it does not run and never will again*.

use super::bindings;
use core::{marker::PhantomPinned, ops::Deref};
use kernel::{
    container_of,
    prelude::*,
    task::might_sleep,
    time::{msecs_to_jiffies, Msecs},
    types::Opaque,
};

/// What a [`Periodic`] does.
pub(crate) trait Housekeeping: Send + Sync + 'static {
    /// One round, in process context; may sleep, but see `system_dfl_wq`: not for minutes.
    ///
    /// Returns the time until the next round, in milliseconds.
    fn run(&self) -> Msecs;
}

/// Runs [`Housekeeping::run`] of `*owner` until it is stopped or dropped.
///
/// Rounds never overlap. `P` keeps the object alive, commonly an `Arc`; since the `Periodic`
/// owns a `P`, it must not live inside of that object.
#[pin_data(PinnedDrop)]
pub(crate) struct Periodic<P>
where
    P: Deref<Target: Housekeeping> + Send + Sync + 'static,
{
    #[pin]
    dwork: Opaque<bindings::delayed_work>,
    owner: P,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: `dwork` is only given to workqueue functions, which may be called on any thread; the
// rest is `Send` itself.
unsafe impl<P: Deref<Target: Housekeeping> + Send + Sync + 'static> Send for Periodic<P> {}
// SAFETY: As above, and those functions may be called concurrently.
unsafe impl<P: Deref<Target: Housekeeping> + Send + Sync + 'static> Sync for Periodic<P> {}

impl<P> Periodic<P>
where
    P: Deref<Target: Housekeeping> + Send + Sync + 'static,
{
    /// Allocates one and starts it: the first round is in `first` milliseconds. May sleep.
    pub(crate) fn start(owner: P, first: Msecs) -> Result<Pin<KBox<Self>>> {
        let this = KBox::pin_init(
            pin_init!(Self {
                // SAFETY: The slot may be written, and is pinned as part of `Self`. `Self::work`
                // is only called with the work item of a `Self`.
                dwork <- Opaque::ffi_init(|slot| unsafe {
                    bindings::hf_init_delayed_work(slot, Some(Self::work))
                }),
                owner,
                _pin: PhantomPinned,
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: `dwork` is initialised and pinned, and `drop` waits until it is idle.
        unsafe { bindings::hf_queue_delayed_work(this.dwork.get(), msecs_to_jiffies(first)) };
        Ok(this)
    }

    /// Has the next round begin in `delay` milliseconds from now, in place of when it would have.
    /// Not in hard interrupts. Does nothing once stopped.
    pub(crate) fn kick(&self, delay: Msecs) {
        // SAFETY: `dwork` is initialised and pinned, and `drop` waits until it is idle. A disabled
        // item is not queued.
        unsafe { bindings::hf_mod_delayed_work(self.dwork.get(), msecs_to_jiffies(delay)) };
    }

    /// Stops for good: when this returns no round is running and none will. Sleeps.
    ///
    /// Must not be called from a round.
    pub(crate) fn stop(&self) {
        might_sleep();
        // Disabling counts and is never undone, so a second time is harmless. From here on the work
        // function's own requeueing fails.
        // SAFETY: `dwork` is initialised, and the caller may sleep.
        unsafe { bindings::disable_delayed_work_sync(self.dwork.get()) };
    }

    /// # Safety
    ///
    /// `work` must be the work item of a `Periodic<P>` that was started and is not dropped.
    unsafe extern "C" fn work(work: *mut bindings::work_struct) {
        // SAFETY: By the contract of this function, `work` is that of a delayed work.
        let dwork = unsafe { bindings::hf_to_delayed_work(work) };
        // SAFETY: That delayed work is the field of a `Self`, which is alive because its `drop`
        // waits for this function.
        let this = unsafe { &*container_of!(Opaque::cast_from(dwork), Self, dwork) };
        let next = this.owner.run();
        // A `kick` during the round has priority: then the item is queued already, and this does
        // nothing, as it does after `stop`.
        // SAFETY: As in `start`.
        unsafe { bindings::hf_queue_delayed_work(dwork, msecs_to_jiffies(next)) };
    }
}

#[pinned_drop]
impl<P> PinnedDrop for Periodic<P>
where
    P: Deref<Target: Housekeeping> + Send + Sync + 'static,
{
    fn drop(self: Pin<&mut Self>) {
        self.stop();
    }
}

/// Lets another task run if one waits, in long loops of process context.
pub(crate) fn cond_resched() {
    // SAFETY: No requirement but process context, where the kernel checks for itself.
    unsafe { bindings::hf_cond_resched() }
}
