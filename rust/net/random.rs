// SPDX-License-Identifier: GPL-2.0

//! Random numbers, and a keyed hash for tables that a remote host must not steer. Any context.

use super::bindings;

/// A random number that nobody can guess.
pub(crate) fn u32() -> u32 {
    // SAFETY: No requirements.
    unsafe { bindings::get_random_u32() }
}

/// A random number that nobody can guess.
pub(crate) fn u64() -> u64 {
    // SAFETY: No requirements.
    unsafe { bindings::get_random_u64() }
}

/// A SipHash key.
pub(crate) struct SipKey(bindings::siphash_key_t);

impl SipKey {
    /// A random key.
    pub(crate) fn new() -> Self {
        Self::from_words(u64(), u64())
    }

    /// A key that several machines share.
    pub(crate) fn from_words(k0: u64, k1: u64) -> Self {
        Self(bindings::siphash_key_t { key: [k0, k1] })
    }

    /// SipHash-2-4 of `data`.
    pub(crate) fn hash(&self, data: &[u8]) -> u64 {
        // SAFETY: Both are valid for the call.
        unsafe { bindings::hf_siphash(data.as_ptr().cast(), data.len(), &self.0) }
    }
}
