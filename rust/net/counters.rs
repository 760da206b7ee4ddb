// SPDX-License-Identifier: GPL-2.0

//! Counters that cost one instruction on the fast path: an array of `u64` on each CPU.

use super::bindings;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::prelude::*;

/// What there is to count: an enum whose values are 0 to `COUNT - 1`.
pub(crate) trait Index: Copy {
    /// How many there are.
    const COUNT: usize;

    /// Which one this is.
    fn index(self) -> usize;
}

/// A set of counters.
///
/// # Invariants
///
/// `array` is per-CPU memory for `I::COUNT` numbers, ours.
pub(crate) struct Counters<I> {
    array: NonNull<u64>,
    _index: PhantomData<fn(I)>,
}

// SAFETY: Each CPU adds to its own numbers, by an instruction that interrupts do not split;
// reading them races with that benignly, as they are aligned words.
unsafe impl<I> Send for Counters<I> {}
// SAFETY: As above.
unsafe impl<I> Sync for Counters<I> {}

impl<I: Index> Counters<I> {
    /// Counters at zero. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let size = I::COUNT * core::mem::size_of::<u64>();
        // SAFETY: No requirements; the memory comes zeroed.
        let array = unsafe {
            bindings::pcpu_alloc_noprof(
                size,
                core::mem::align_of::<u64>(),
                false,
                bindings::GFP_KERNEL,
            )
        };
        // INVARIANT: This is the size that the invariant names.
        Ok(Self {
            array: NonNull::new(array.cast()).ok_or(ENOMEM)?,
            _index: PhantomData,
        })
    }

    fn at(&self, which: I) -> *mut u64 {
        let index = which.index();
        assert!(index < I::COUNT);
        // A per-CPU address is an offset, not a pointer into anything here.
        self.array.as_ptr().wrapping_add(index)
    }

    /// Counts one. Any context.
    pub(crate) fn inc(&self, which: I) {
        self.add(which, 1);
    }

    /// Counts `n`. Any context.
    pub(crate) fn add(&self, which: I, n: u64) {
        // SAFETY: By the type invariant and the check in `at()`.
        unsafe { bindings::hf_this_cpu_add_u64(self.at(which), n) };
    }

    /// The sum over all CPUs: not a snapshot, but never less than what was counted before.
    pub(crate) fn sum(&self, which: I) -> u64 {
        let counter = self.at(which);
        let mut sum = 0u64;
        let mut cpu = -1;
        loop {
            // SAFETY: No requirements but `cpu >= -1`.
            cpu = unsafe { bindings::hf_cpumask_next_possible(cpu) } as i32;
            // SAFETY: No requirements.
            if cpu as u32 >= unsafe { bindings::hf_nr_cpu_ids() } {
                return sum;
            }
            // SAFETY: By the type invariant, and since the CPU is a possible one. Volatile, as
            // that CPU may be adding.
            sum = sum.wrapping_add(unsafe {
                bindings::hf_per_cpu_ptr_u64(counter, cpu).read_volatile()
            });
        }
    }
}

impl<I> Drop for Counters<I> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::free_percpu(self.array.as_ptr().cast()) };
    }
}
