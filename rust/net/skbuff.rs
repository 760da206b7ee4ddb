// SPDX-License-Identifier: GPL-2.0

//! Packets: [`SkBuff`], which owns an `sk_buff`, and [`Skb`], which may use one that another owns.
//!
//! Everything counts bytes from the network header, which in the IP hooks, in packets built here
//! and in segments is where `skb->data` points to. Nothing here sleeps; allocations are
//! `GFP_ATOMIC`.
//!
//! A packet may be a super-packet (GSO, GRO) with most of its bytes in page fragments: only what
//! [`Skb::header`] and [`Skb::edit`] were asked for is in one piece.

use super::{
    bindings,
    errno::{errno, ENETDOWN},
};
use core::{marker::PhantomData, ops, ptr::NonNull};
use kernel::prelude::*;

/// `ETH_P_IP`, in host order.
pub(crate) const ETH_P_IP: u16 = bindings::ETH_P_IP as u16;
/// `ETH_P_IPV6`, in host order.
pub(crate) const ETH_P_IPV6: u16 = bindings::ETH_P_IPV6 as u16;

/// The protocol number.
pub(super) const IPPROTO_TCP: u8 = 6;
/// Bytes of a TCP header without options, and where its checksum is.
const TCP_HEADER: usize = 20;
const TCP_CHECK: usize = 16;

/// Why a packet is freed, as tracers (`perf trace -e skb:kfree_skb`, `dropwatch`) will see it.
#[derive(Clone, Copy)]
pub(crate) struct DropReason(bindings::skb_drop_reason);

impl DropReason {
    /// A filter decided so.
    pub(crate) const NETFILTER: Self =
        Self(bindings::skb_drop_reason_SKB_DROP_REASON_NETFILTER_DROP);
    /// The TCP checksum is wrong.
    pub(crate) const TCP_CSUM: Self = Self(bindings::skb_drop_reason_SKB_DROP_REASON_TCP_CSUM);
    /// The IP header, or an extension header, is wrong.
    pub(crate) const IP_HEADER: Self = Self(bindings::skb_drop_reason_SKB_DROP_REASON_IP_INHDR);
    /// The packet ends before its headers do.
    pub(crate) const TOO_SMALL: Self =
        Self(bindings::skb_drop_reason_SKB_DROP_REASON_PKT_TOO_SMALL);
    /// Out of memory.
    pub(crate) const NO_MEMORY: Self = Self(bindings::skb_drop_reason_SKB_DROP_REASON_NOMEM);
    /// A device went away under the packet.
    pub(crate) const DEVICE: Self = Self(bindings::skb_drop_reason_SKB_DROP_REASON_DEV_READY);

    pub(super) fn as_raw(self) -> bindings::skb_drop_reason {
        self.0
    }
}

/// What is known about the transport checksum (`skb->ip_summed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpSummed {
    /// Received: nothing. Sent: it is in the packet, and complete.
    None,
    /// The device has verified it (receive).
    Unnecessary,
    /// `skb->csum` is the sum of the packet from `skb->data` on (receive).
    Complete,
    /// The field holds the pseudo-header's sum only; whoever sends the packet adds the rest.
    /// Occurs on receive too: packets of this machine, and of guests.
    Partial,
}

/// [`IpSummed`] as C says it, for those who ask one thing only.
#[derive(Clone, Copy)]
pub(crate) struct Sum(u32);

impl Sum {
    /// Whether it is [`IpSummed::Partial`].
    #[inline(always)]
    pub(crate) fn is_partial(self) -> bool {
        self.0 == bindings::CHECKSUM_PARTIAL
    }

    /// Whether the checksum of a received packet is known to be right: it is
    /// [`IpSummed::Unnecessary`] or [`IpSummed::Partial`], as in `nf_checksum()`.
    #[inline(always)]
    pub(crate) fn is_known(self) -> bool {
        matches!(
            self.0,
            bindings::CHECKSUM_UNNECESSARY | bindings::CHECKSUM_PARTIAL
        )
    }
}

/// An `sk_buff` that is ours to read and change for `'a`, and another's to free.
///
/// # Invariants
///
/// `ptr` is a valid `sk_buff` for `'a`, not shared (`skb->users` is one), to which nobody else
/// has access meanwhile; its network header is set.
pub(crate) struct Skb<'a> {
    ptr: NonNull<bindings::sk_buff>,
    _borrow: PhantomData<&'a mut bindings::sk_buff>,
}

// SAFETY: An `sk_buff` is bound to no thread or CPU; `Skb` is the only access to it.
unsafe impl Send for Skb<'_> {}

impl<'a> Skb<'a> {
    /// # Safety
    ///
    /// `ptr` must satisfy the invariants of the type for as long as the value is used.
    pub(super) unsafe fn from_raw(ptr: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: By the requirements of this function.
        Self {
            ptr,
            _borrow: PhantomData,
        }
    }

    /// The C structure.
    pub(super) fn as_ptr(&self) -> *mut bindings::sk_buff {
        self.ptr.as_ptr()
    }

    /// Bytes in the packet, from `skb->data` (the network header) on.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { (*self.as_ptr()).len as usize }
    }

    /// Bytes of it that lie in one piece, rather than in page fragments.
    pub(crate) fn linear_len(&self) -> usize {
        // SAFETY: By the type invariant.
        let skb = unsafe { &*self.as_ptr() };
        skb.len.wrapping_sub(skb.data_len) as usize
    }

    /// EtherType, host order: [`ETH_P_IP`], [`ETH_P_IPV6`].
    pub(crate) fn protocol(&self) -> u16 {
        // SAFETY: By the type invariant.
        u16::from_be(unsafe { bindings::hf_skb_protocol(self.as_ptr()) })
    }

    /// Whether its bytes begin with the network header, as they do wherever this type is met.
    #[inline]
    pub(crate) fn begins_with_network(&self) -> bool {
        let skb = self.as_ptr();
        // SAFETY: By the type invariant the structure is valid; at this offset of it there is a
        // `u16`, as gcc says. `network_header` was set, so that it leads to a byte of the buffer
        // that `head` begins. Without a call: every packet of the machine asks for this.
        unsafe {
            let at = skb.byte_add(bindings::SK_BUFF_NETWORK_HEADER).cast::<u16>();
            (*skb).head.add(usize::from(*at)) == (*skb).data
        }
    }

    /// The first bytes, as many as lie in one piece. Costs nothing; for a packet that does not
    /// begin with its network header, which is met nowhere, there are none.
    #[inline]
    pub(crate) fn front(&self) -> &[u8] {
        if !self.begins_with_network() {
            return &[];
        }
        self.linear()
    }

    /// As [`Skb::front`], of a packet that was seen to begin with its network header.
    #[inline(always)]
    pub(crate) fn linear(&self) -> &[u8] {
        // SAFETY: By the type invariant: so many bytes from `data` on are linear, and they stay
        // where they are while `self` is borrowed.
        unsafe { core::slice::from_raw_parts((*self.as_ptr()).data, self.linear_len()) }
    }

    /// The first `n` bytes, brought into one piece.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the packet is shorter or does not begin with its network header, `ENOMEM`.
    pub(crate) fn header(&mut self, n: usize) -> Result<&[u8]> {
        if n > self.len() || !self.begins_with_network() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant. `n` fits, as `skb->len` does.
        if !unsafe { bindings::hf_pskb_may_pull(self.as_ptr(), n as u32) } {
            return Err(ENOMEM);
        }
        // SAFETY: By the type invariant; after the pull, `n` bytes from `data` on are linear, and
        // they stay where they are while `self` is borrowed.
        Ok(unsafe { core::slice::from_raw_parts((*self.as_ptr()).data, n) })
    }

    /// Lets `edit` change the first `n` bytes.
    ///
    /// The bytes are made private first (retransmission queues and taps hold clones), and
    /// `skb->csum` is kept true where [`IpSummed::Complete`] relies on it. Checksums *in* the
    /// packet are the business of `edit`: it must know [`Skb::ip_summed`] for it.
    ///
    /// # Errors
    ///
    /// As [`Skb::header`]; `edit` was not called then.
    pub(crate) fn edit<R>(&mut self, n: usize, edit: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        if n > self.len() || !self.begins_with_network() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant: in particular the packet is not shared, which
        // `pskb_expand_head()` asks for. `n` fits, as `skb->len` does.
        kernel::error::to_result(unsafe {
            bindings::skb_ensure_writable(self.as_ptr(), n as u32)
        })?;
        // SAFETY: By the type invariant.
        let data = unsafe { (*self.as_ptr()).data };
        // SAFETY: `skb_ensure_writable()` made `n` bytes from `data` on linear.
        unsafe { bindings::hf_skb_postpull_rcsum(self.as_ptr(), data.cast(), n as u32) };
        // SAFETY: As above, and no clone shares these bytes any more. Nothing in `edit` can
        // reach the packet but through this slice, since `self` is borrowed.
        let result = edit(unsafe { core::slice::from_raw_parts_mut(data, n) });
        // SAFETY: As before.
        unsafe { bindings::hf_skb_postpush_rcsum(self.as_ptr(), data.cast(), n as u32) };
        Ok(result)
    }

    /// The first `n` bytes, to be changed in a way that leaves their sum as it is, as one does that
    /// corrects the checksum of the TCP header: nothing else keeps `skb->csum` true. They were seen
    /// by [`Skb::front`]. `None`: they are not there, or without memory cannot be made private. With
    /// them comes what is known of the checksum.
    #[inline(always)]
    pub(crate) fn balanced_mut(&mut self, n: usize) -> Option<(&mut [u8], Sum)> {
        if n > self.linear_len() {
            return None;
        }
        // SAFETY: By the type invariant, as in `edit`; `n` bytes are linear.
        let sum = unsafe { bindings::hf_skb_try_make_writable(self.as_ptr(), n as u32) };
        if sum < 0 {
            return None;
        }
        // SAFETY: By the type invariant. `n` bytes from `data` on are linear, and no clone shares
        // them any more. Nothing else can reach them while `self` is borrowed.
        let bytes = unsafe { core::slice::from_raw_parts_mut((*self.as_ptr()).data, n) };
        Some((bytes, Sum(sum as u32)))
    }

    /// The same packet, for a while.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> Skb<'_> {
        // INVARIANT: Nobody else has access while `self` is borrowed.
        Skb {
            ptr: self.ptr,
            _borrow: PhantomData,
        }
    }

    /// Copies the bytes from `offset` on, wherever they lie, to `to`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the packet has no such bytes.
    pub(crate) fn copy_bits(&self, offset: usize, to: &mut [u8]) -> Result {
        // SAFETY: `to` is writable for its length.
        unsafe { self.copy_bits_raw(offset, to.as_mut_ptr(), to.len()) }
    }

    /// As [`Skb::copy_bits`], to memory that others may read meanwhile, as a mapped ring.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of `len` bytes, and no Rust reference may cover them.
    pub(super) unsafe fn copy_bits_raw(&self, offset: usize, to: *mut u8, len: usize) -> Result {
        if offset.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant, the requirements of this function, and the check above,
        // after which both numbers fit, as `skb->len` does.
        let err =
            unsafe { bindings::skb_copy_bits(self.as_ptr(), offset as i32, to.cast(), len as i32) };
        if err == 0 {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// What is known about the transport checksum.
    #[inline(always)]
    pub(crate) fn sum(&self) -> Sum {
        // SAFETY: By the type invariant.
        Sum(unsafe { bindings::hf_skb_ip_summed(self.as_ptr()) }.into())
    }

    /// What is known about the transport checksum.
    pub(crate) fn ip_summed(&self) -> IpSummed {
        match self.sum().0 {
            bindings::CHECKSUM_UNNECESSARY => IpSummed::Unnecessary,
            bindings::CHECKSUM_COMPLETE => IpSummed::Complete,
            bindings::CHECKSUM_PARTIAL => IpSummed::Partial,
            _ => IpSummed::None,
        }
    }

    fn set_ip_summed(&mut self, value: u32) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_skb_set_ip_summed(self.as_ptr(), value as u8) };
    }

    /// Computes the TCP checksum of the whole packet anew, for one whose payload has changed.
    ///
    /// `l4` is where the TCP header begins; the IP length must be right already. Cost: one pass
    /// over the bytes. Not for super-packets, whose checksum covers the pseudo-header alone.
    ///
    /// # Errors
    ///
    /// `EINVAL` if this is a super-packet, or no TCP header fits behind `l4`; `ENOMEM`.
    pub(crate) fn fill_tcp_checksum(&mut self, l4: usize) -> Result {
        let end = l4.checked_add(TCP_HEADER).ok_or(EINVAL)?;
        if self.is_gso() || end > self.len() {
            return Err(EINVAL);
        }
        // What the sum in `skb->csum` covered is gone with the old payload.
        self.set_ip_summed(bindings::CHECKSUM_NONE);
        self.edit(end, |header| header[l4 + TCP_CHECK..][..2].fill(0))?;
        let len = (self.len() - l4) as u32;
        // SAFETY: By the type invariant; `l4 + len` is `skb->len`.
        let sum = unsafe { bindings::skb_checksum(self.as_ptr(), l4 as i32, len as i32, 0) };
        let v6 = self.protocol() == ETH_P_IPV6;
        self.edit(end, |header| {
            let check = if v6 {
                let saddr = header[8..24].as_ptr();
                let daddr = header[24..40].as_ptr();
                // SAFETY: Both addresses are valid for the call, and are as aligned as in any
                // packet that the stack itself reads.
                unsafe {
                    bindings::hf_csum_ipv6_magic(saddr.cast(), daddr.cast(), len, IPPROTO_TCP, sum)
                }
            } else {
                let word = |at: usize| {
                    u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
                };
                // SAFETY: Arithmetic on its arguments only.
                unsafe { bindings::hf_csum_tcpudp_magic(word(12), word(16), len, IPPROTO_TCP, sum) }
            };
            header[l4 + TCP_CHECK..][..2].copy_from_slice(&check.to_ne_bytes());
        })
    }

    /// `skb->mark`.
    #[inline]
    pub(crate) fn mark(&self) -> u32 {
        // SAFETY: By the type invariant the structure is valid; at this offset of it there is a
        // `u32`, as gcc says.
        unsafe {
            self.as_ptr()
                .byte_add(bindings::SK_BUFF_MARK)
                .cast::<u32>()
                .read()
        }
    }

    /// Sets `skb->mark`.
    pub(crate) fn set_mark(&mut self, mark: u32) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_skb_set_mark(self.as_ptr(), mark) };
    }

    /// `PACKET_HOST` and so on: whom the link layer addressed.
    pub(crate) fn pkt_type(&self) -> u8 {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_skb_pkt_type(self.as_ptr()) }
    }

    /// Index of the device on which the packet came in; 0 if this machine made it.
    pub(crate) fn iif(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_skb_iif(self.as_ptr()) as u32 }
    }

    /// Is this a super-packet, to be cut into segments by whoever sends it?
    pub(crate) fn is_gso(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_skb_is_gso(self.as_ptr()) }
    }

    /// Payload bytes of each segment of a super-packet (the last may have fewer); 0 if none.
    pub(crate) fn gso_size(&self) -> u16 {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_skb_gso_size(self.as_ptr()) }
    }

    /// How many segments a super-packet stands for; 0 if it is none, or nobody has counted.
    pub(crate) fn gso_segs(&self) -> u16 {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_skb_gso_segs(self.as_ptr()) }
    }

    /// Takes the packet from its socket's account, as netem does with what it keeps: it is no longer in the
    /// way of others. It still names its socket, which sees by that where it is. Any context.
    pub(crate) fn uncharge(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_skb_uncharge(self.as_ptr()) }
    }

    /// Makes the packet hold its route, so that it may outlive the current RCU section.
    ///
    /// # Errors
    ///
    /// `ENETDOWN` if the route is being torn down. The packet has none then.
    pub(super) fn dst_force(&mut self, _rcu: &kernel::sync::rcu::Guard) -> Result {
        // SAFETY: By the type invariant; the guard shows the RCU section that makes a route
        // without a reference still valid here.
        unsafe {
            if bindings::hf_skb_has_dst(self.as_ptr()) && !bindings::hf_skb_dst_force(self.as_ptr())
            {
                return Err(errno(ENETDOWN));
            }
        }
        Ok(())
    }
}

/// An `sk_buff` of our own. Dropping it frees it as *consumed*: nothing was lost by it, and
/// drop monitors stay silent. [`SkBuff::drop_with`] is for the other case.
///
/// # Invariants
///
/// The `Skb` is the only pointer to a packet that this value must free.
pub(crate) struct SkBuff(Skb<'static>);

impl SkBuff {
    /// # Safety
    ///
    /// `ptr` must satisfy the invariants of [`Skb`], and the caller's ownership moves here.
    pub(super) unsafe fn from_raw(ptr: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: By the requirements of this function.
        // SAFETY: By the requirements of this function; an owned packet lives as long as we like.
        Self(unsafe { Skb::from_raw(ptr) })
    }

    /// Gives the packet to C, which must free it.
    pub(super) fn into_raw(self) -> *mut bindings::sk_buff {
        let ptr = self.0.as_ptr();
        core::mem::forget(self);
        ptr
    }

    /// A packet of the given parts, one after the other, the IP header first.
    ///
    /// `headroom` bytes stay free in front, for link-layer headers. Checksums are taken as they
    /// are ([`IpSummed::None`]), the EtherType from the IP version.
    ///
    /// # Errors
    ///
    /// `EINVAL` if this is no IP packet or longer than 64 KiB, `ENOMEM`.
    pub(crate) fn alloc_with(headroom: usize, parts: &[&[u8]]) -> Result<Self> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let version = parts.iter().find_map(|part| part.first()).ok_or(EINVAL)? >> 4;
        let (protocol, l4) = match version {
            4 => (ETH_P_IP, 20),
            6 => (ETH_P_IPV6, 40),
            _ => return Err(EINVAL),
        };
        if len < l4 || len > usize::from(u16::MAX) || headroom > usize::from(u16::MAX) {
            return Err(EINVAL);
        }
        // SAFETY: No requirements; any context, as `GFP_ATOMIC` does not sleep.
        let ptr = unsafe { bindings::hf_alloc_skb((headroom + len) as u32, bindings::GFP_ATOMIC) };
        let ptr = NonNull::new(ptr).ok_or(ENOMEM)?;
        // SAFETY: `ptr` is a fresh packet with room for what is reserved and put.
        let data = unsafe {
            bindings::hf_skb_reserve(ptr.as_ptr(), headroom as i32);
            bindings::hf_skb_reset_network_header(ptr.as_ptr());
            bindings::hf_skb_set_transport_header(ptr.as_ptr(), l4 as i32);
            bindings::hf_skb_set_protocol(ptr.as_ptr(), protocol.to_be());
            bindings::skb_put(ptr.as_ptr(), len as u32).cast::<u8>()
        };
        let mut at = 0;
        for part in parts {
            // SAFETY: `skb_put()` returned `len` bytes of room; the parts are that long together.
            unsafe { core::ptr::copy_nonoverlapping(part.as_ptr(), data.add(at), part.len()) };
            at += part.len();
        }
        // SAFETY: The packet is ours alone, and its network header is set.
        Ok(unsafe { Self::from_raw(ptr) })
    }

    /// Frees the packet: it has served its purpose.
    pub(crate) fn consume(self) {}

    /// Frees the packet as lost.
    pub(crate) fn drop_with(self, reason: DropReason) {
        // SAFETY: The packet is ours, and `into_raw` ends our use.
        unsafe { bindings::hf_kfree_skb_reason(self.into_raw(), reason.as_raw()) };
    }
}

impl Drop for SkBuff {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::consume_skb(self.0.as_ptr()) };
    }
}

impl ops::Deref for SkBuff {
    type Target = Skb<'static>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl ops::DerefMut for SkBuff {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
