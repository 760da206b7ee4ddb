// SPDX-License-Identifier: GPL-2.0

//! What `kernel::sync::rcu` does not have: a cell that readers follow under
//! [`Guard`](kernel::sync::rcu::Guard), and the waits.
//!
//! Whatever is dropped by RCU here (a replaced value of an [`RcuCell`], an entry that left an
//! `RhashTable`) is dropped in softirq context, by code of this module. So the last act of the
//! module must be [`barrier`], or that code is gone before it is called.

use super::bindings;
use core::{marker::PhantomData, ptr};
use kernel::{
    alloc::{AllocError, Flags},
    container_of,
    prelude::*,
    sync::{
        atomic::{ordering::Full, Atomic},
        rcu::Guard,
    },
    task::might_sleep,
    types::Opaque,
};

/// Waits until every reader that might see what was unpublished before is done. Sleeps.
pub(crate) fn synchronize() {
    might_sleep();
    // SAFETY: `synchronize_rcu()` has no requirement but that it may sleep.
    unsafe { bindings::synchronize_rcu() }
}

/// Waits until every deferred drop that was begun before has been done. Sleeps.
///
/// To be called once nothing can begin another, before the module's text goes.
pub(crate) fn barrier() {
    might_sleep();
    // SAFETY: `rcu_barrier()` has no requirement but that it may sleep.
    unsafe { bindings::rcu_barrier() }
}

/// Calls [`barrier`] when it is dropped: to be the last field of the module.
pub(crate) struct Barrier;

impl Drop for Barrier {
    fn drop(&mut self) {
        barrier();
    }
}

/// A published value, with the room that its deferred drop needs.
#[repr(C)]
struct Node<T> {
    rcu: Opaque<bindings::callback_head>,
    value: T,
}

/// A pointer to a value that is read without a lock and replaced as a whole.
///
/// For what every packet reads and hardly anyone changes: tables of services, configuration.
/// Writers that build the new value from the old one need a lock among themselves.
///
/// # Invariants
///
/// `node` is null or came from `KBox::into_raw`, and is owned by this cell.
pub(crate) struct RcuCell<T: Send + Sync + 'static> {
    node: Atomic<*mut Node<T>>,
    _owns: PhantomData<KBox<Node<T>>>,
}

// SAFETY: The cell hands out `&T` to many threads, and drops `T` on any.
unsafe impl<T: Send + Sync + 'static> Send for RcuCell<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync + 'static> Sync for RcuCell<T> {}

impl<T: Send + Sync + 'static> RcuCell<T> {
    /// An empty cell.
    pub(crate) const fn empty() -> Self {
        // INVARIANT: Null is permitted.
        Self {
            node: Atomic::new(ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// A cell that holds `value`.
    pub(crate) fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        let cell = Self::empty();
        cell.replace(value, flags)?;
        Ok(cell)
    }

    /// The current value, for as long as the RCU read lock is held. Any context.
    #[inline]
    pub(crate) fn load<'a>(&'a self, _guard: &'a Guard) -> Option<&'a T> {
        // SAFETY: The pointer to an atomic of this cell is valid, and writers use atomic operations.
        // A volatile read, whose value the reads below depend on, is what `rcu_dereference()` is on
        // every architecture that Rust for Linux knows; `Atomic::load` would be a call.
        let node = unsafe { self.node.as_ptr().read_volatile() };
        if node.is_null() {
            return None;
        }
        // SAFETY: By the type invariant `node` was valid when it was loaded. A writer that takes
        // it out defers the drop past a grace period, which cannot end before the guard is
        // dropped; and the cell itself cannot be dropped during `'a`.
        Some(unsafe { &(*node).value })
    }

    /// Publishes `value`. The old value is dropped after a grace period, in softirq context.
    ///
    /// The context is what `flags` permits.
    pub(crate) fn replace(&self, value: T, flags: Flags) -> Result<(), AllocError> {
        let node = KBox::new(
            Node {
                rcu: Opaque::uninit(),
                value,
            },
            flags,
        )?;
        self.publish(KBox::into_raw(node));
        Ok(())
    }

    /// Empties the cell; as [`RcuCell::replace`], but cannot fail. Any context.
    pub(crate) fn clear(&self) {
        self.publish(ptr::null_mut());
    }

    fn publish(&self, new: *mut Node<T>) {
        // INVARIANT: `new` is null or comes from `replace`, which gave up its ownership.
        let old = self.node.xchg(new, Full);
        if !old.is_null() {
            // SAFETY: By the type invariant `old` was owned by the cell, and the exchange made it
            // ours alone. The callback frees it, once, after all readers.
            unsafe { bindings::call_rcu((*old).rcu.get(), Some(Self::drop_node)) }
        }
    }

    /// # Safety
    ///
    /// `rcu` must be that of a `Node<T>` from `KBox::into_raw` that nobody else can reach.
    unsafe extern "C" fn drop_node(rcu: *mut bindings::callback_head) {
        let rcu = Opaque::cast_from(rcu).cast_mut();
        // SAFETY: By the contract of this function.
        drop(unsafe { KBox::from_raw(container_of!(rcu, Node<T>, rcu)) });
    }
}

impl<T: Send + Sync + 'static> Drop for RcuCell<T> {
    fn drop(&mut self) {
        let node = *self.node.get_mut();
        if !node.is_null() {
            // SAFETY: By the type invariant the node is ours. No reader can be left: what `load`
            // returns borrows the cell.
            drop(unsafe { KBox::from_raw(node) });
        }
    }
}
