// SPDX-License-Identifier: GPL-2.0

//! Cutting packets: a super-packet into its segments, a segment at any byte.
//!
//! Needed where one packet straddles a position at which the translation changes. That is rare,
//! so these copy without regret.

use super::{
    bindings,
    skbuff::{DropReason, SkBuff, Skb},
};
use core::ptr::{self, NonNull};
use kernel::{error::from_err_ptr, prelude::*};

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
        // SAFETY: By the type invariant; null is allowed.
        unsafe {
            bindings::hf_kfree_skb_list_reason(self.head, DropReason::NETFILTER.as_raw());
        }
    }
}

impl Skb<'_> {
    /// The segments that a super-packet stands for, each a linear packet of its own with its own
    /// headers and complete checksum. The super-packet itself may be freed afterwards, and must
    /// not be used for anything else: its header is spoilt.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is no super-packet or the kernel cannot segment it, `ENOMEM`.
    pub(crate) fn segment(&mut self) -> Result<SkBuffList> {
        if !self.is_gso() || self.network_offset() != 0 {
            return Err(EINVAL);
        }
        // As `nf_queue` does: no device feature assumed, so that all is done in software here.
        // SAFETY: By the invariants of `Skb`; `data` is at the network header, and
        // `__skb_gso_segment()` takes what lies before it for the link-layer header.
        let head = from_err_ptr(unsafe { bindings::__skb_gso_segment(self.as_ptr(), 0, true) })?;
        // Null means: need not be segmented.
        if head.is_null() {
            return Err(EINVAL);
        }
        let mut tail = head;
        loop {
            // SAFETY: Each is a packet that `__skb_gso_segment()` returned, until null.
            let next = unsafe { bindings::hf_skb_next(tail) };
            if next.is_null() {
                break;
            }
            tail = next;
        }
        // INVARIANT: The chain is ours, and each packet in it is new, hence not shared.
        Ok(SkBuffList { head, tail })
    }

    /// A copy of the first `headers` bytes and of the payload bytes `from..to` behind them, with
    /// device, mark, route and conntrack entry of the original.
    ///
    /// Lengths, sequence number and flags in the headers are those of the original: the caller
    /// corrects them, and calls [`Skb::fill_tcp_checksum`] then.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a super-packet or a range that is not there, `ENOMEM`.
    pub(crate) fn copy_range(&self, headers: usize, from: usize, to: usize) -> Result<SkBuff> {
        let end = headers.checked_add(to).ok_or(EINVAL)?;
        if self.is_gso() || self.network_offset() != 0 || from > to || end > self.len() {
            return Err(EINVAL);
        }
        // SAFETY: By the invariants of `Skb`.
        let copy = unsafe { bindings::skb_copy(self.as_ptr(), bindings::GFP_ATOMIC) };
        let copy = NonNull::new(copy).ok_or(ENOMEM)?;
        // SAFETY: `skb_copy()` returned a new packet, ours alone, all of it linear.
        let copy = unsafe { SkBuff::from_raw(copy) };
        // SAFETY: The copy's bytes are linear, private, and as many as the original's; the check
        // above bounds both ranges.
        unsafe {
            let payload = (*copy.as_ptr()).data.add(headers);
            ptr::copy(payload.add(from), payload, to - from);
        }
        // SAFETY: As above; shortening a linear packet cannot fail.
        kernel::error::to_result(unsafe {
            bindings::hf_pskb_trim(copy.as_ptr(), (headers + to - from) as u32)
        })?;
        Ok(copy)
    }
}
