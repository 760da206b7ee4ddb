// SPDX-License-Identifier: GPL-2.0

//! The monotonic clock. Any context.

use super::bindings;

/// Milliseconds since boot, exactly.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: No requirements.
    unsafe { bindings::hf_ktime_get_ms() as u64 }
}

/// Nanoseconds since boot, exactly.
pub(crate) fn now_ns() -> u64 {
    // SAFETY: No requirements.
    unsafe { bindings::hf_ktime_get_ns() as u64 }
}

/// Milliseconds since boot as of the last tick (1 to 10 ms ago): reads no hardware.
pub(crate) fn coarse_ms() -> u64 {
    // SAFETY: No requirements.
    unsafe { bindings::hf_ktime_get_coarse_ms() as u64 }
}
