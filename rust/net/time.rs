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
