// SPDX-License-Identifier: GPL-2.0

//! Several packets of our own, in order.

use super::{
    bindings,
    skbuff::{DropReason, SkBuff},
};
use core::ptr::{self, NonNull};
use kernel::prelude::*;

/// Packets in order, chained through `skb->next`: no allocation, no bound.
///
/// # Invariants
///
/// `head` is null or the first of a chain of packets, each as [`SkBuff`] owns one; `tail` is the
/// last of them if there is any.
pub(crate) struct SkBuffList {
    head: *mut bindings::sk_buff,
    tail: *mut bindings::sk_buff,
}

// SAFETY: The list owns its packets, and these may be sent.
unsafe impl Send for SkBuffList {}

impl SkBuffList {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        // INVARIANT: There are no packets.
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
        }
    }

    /// Is there nothing in it?
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Appends a packet.
    pub(crate) fn push(&mut self, skb: SkBuff) {
        let skb = skb.into_raw();
        // SAFETY: Both packets are ours by the invariants of the two types.
        unsafe {
            bindings::hf_skb_set_next(skb, ptr::null_mut());
            if self.head.is_null() {
                self.head = skb;
            } else {
                bindings::hf_skb_set_next(self.tail, skb);
            }
        }
        // INVARIANT: `skb` is the last now, and its `next` is null.
        self.tail = skb;
    }

    /// Takes the first packet out.
    pub(crate) fn pop(&mut self) -> Option<SkBuff> {
        let skb = NonNull::new(self.head)?;
        // SAFETY: By the type invariant.
        unsafe {
            self.head = bindings::hf_skb_next(skb.as_ptr());
            bindings::hf_skb_set_next(skb.as_ptr(), ptr::null_mut());
            Some(SkBuff::from_raw(skb))
        }
    }
}

impl Iterator for SkBuffList {
    type Item = SkBuff;

    fn next(&mut self) -> Option<SkBuff> {
        self.pop()
    }
}

impl Drop for SkBuffList {
    fn drop(&mut self) {
        if self.is_empty() {
            return;
        }
        // SAFETY: By the type invariant.
        unsafe {
            bindings::hf_kfree_skb_list_reason(self.head, DropReason::NETFILTER.as_raw());
        }
    }
}
