// SPDX-License-Identifier: GPL-2.0

//! Random numbers. Any context.

use super::bindings;

/// A random number that nobody can guess.
pub(crate) fn u32() -> u32 {
    // SAFETY: No requirements.
    unsafe { bindings::get_random_u32() }
}
