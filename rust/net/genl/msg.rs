// SPDX-License-Identifier: GPL-2.0

//! Messages, as handlers write them.

use super::{bindings, Family, Gfp, Info};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};
use kernel::{error::to_result, ffi::c_void, prelude::*};

/// Appends attributes to a message. The same for replies, notifications and dumps, so that one
/// function can write an object for all of them.
///
/// All `put`s fail with `EMSGSIZE` when the message is full.
///
/// # Invariants
///
/// `skb` is a netlink message under construction that is ours alone during `'a`.
pub(crate) struct AttrWriter<'a> {
    skb: NonNull<bindings::sk_buff>,
    _skb: PhantomData<&'a mut bindings::sk_buff>,
}

impl AttrWriter<'_> {
    /// # Safety
    ///
    /// `skb` must be a netlink message under construction that nobody else uses during `'a`.
    pub(super) unsafe fn new(skb: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: By the contract of this function.
        Self {
            skb,
            _skb: PhantomData,
        }
    }

    /// Bytes as they are.
    pub(crate) fn put(&mut self, number: u16, bytes: &[u8]) -> Result {
        // The length field has 16 bits and counts the header.
        if bytes.len() > usize::from(u16::MAX) - core::mem::size_of::<bindings::nlattr>() {
            return Err(EMSGSIZE);
        }
        // SAFETY: By the type invariant; the length has been checked.
        to_result(unsafe {
            bindings::nla_put(
                self.skb.as_ptr(),
                number.into(),
                bytes.len() as i32,
                bytes.as_ptr().cast(),
            )
        })
    }

    /// An `u8`.
    pub(crate) fn put_u8(&mut self, number: u16, value: u8) -> Result {
        self.put(number, &value.to_ne_bytes())
    }

    /// An `u16` in host order.
    pub(crate) fn put_u16(&mut self, number: u16, value: u16) -> Result {
        self.put(number, &value.to_ne_bytes())
    }

    /// An `u32` in host order.
    pub(crate) fn put_u32(&mut self, number: u16, value: u32) -> Result {
        self.put(number, &value.to_ne_bytes())
    }

    /// An `i32` in host order.
    pub(crate) fn put_s32(&mut self, number: u16, value: i32) -> Result {
        self.put(number, &value.to_ne_bytes())
    }

    /// An `u64` in host order, aligned to four bytes only: `uint` is better in a new family.
    pub(crate) fn put_u64(&mut self, number: u16, value: u64) -> Result {
        self.put(number, &value.to_ne_bytes())
    }

    /// An unsigned integer in host order, in four bytes if it fits there, else in eight.
    pub(crate) fn put_uint(&mut self, number: u16, value: u64) -> Result {
        match u32::try_from(value) {
            Ok(value) => self.put_u32(number, value),
            Err(_) => self.put_u64(number, value),
        }
    }

    /// 16 bits in network order; `value` is in host order.
    pub(crate) fn put_be16(&mut self, number: u16, value: u16) -> Result {
        self.put(number, &value.to_be_bytes())
    }

    /// 32 bits in network order; `value` is in host order.
    pub(crate) fn put_be32(&mut self, number: u16, value: u32) -> Result {
        self.put(number, &value.to_be_bytes())
    }

    /// A string; its NUL is written too.
    pub(crate) fn put_string(&mut self, number: u16, value: &CStr) -> Result {
        self.put(number, value.to_bytes_with_nul())
    }

    /// A string without NUL in it.
    pub(crate) fn put_str(&mut self, number: u16, value: &str) -> Result {
        self.put(number, value.as_bytes())
    }

    /// A flag, if it is set.
    pub(crate) fn put_flag(&mut self, number: u16, set: bool) -> Result {
        if !set {
            return Ok(());
        }
        self.put(number, &[])
    }

    /// A nest of what `fill` writes. If that fails, nothing is left of the nest.
    pub(crate) fn nest(&mut self, number: u16, fill: impl FnOnce(&mut Self) -> Result) -> Result {
        let skb = self.skb.as_ptr();
        // SAFETY: By the type invariant.
        let nest = unsafe { bindings::hf_nla_nest_start(skb, number.into()) };
        if nest.is_null() {
            return Err(EMSGSIZE);
        }
        let filled = fill(self).and_then(|()| {
            // SAFETY: `nest` was begun in this message, and everything since is in it.
            to_result(unsafe { bindings::hf_nla_nest_end_safe(skb, nest) })
        });
        if filled.is_err() {
            // SAFETY: As above.
            unsafe { bindings::hf_nla_nest_cancel(skb, nest) };
        }
        filled
    }
}

/// A message that is being written. Dropping it throws it away.
///
/// # Invariants
///
/// The message is owned by this object, and `hdr` is the header that `genlmsg_put()` began in it.
pub(crate) struct Message {
    attrs: AttrWriter<'static>,
    hdr: NonNull<c_void>,
}

// SAFETY: It owns its memory, which is not bound to a thread.
unsafe impl Send for Message {}

impl Message {
    /// How many bytes of attributes fit in a message: about a page.
    const PAYLOAD: usize = 3584;

    /// The begin of a reply to a request. Process context; may sleep.
    pub(crate) fn reply(info: &Info<'_>, cmd: u8) -> Result<Self> {
        Self::reply_sized(info, cmd, Self::PAYLOAD)
    }

    /// As [`Message::reply`], with room for `payload` bytes of attributes, each with a header of 4
    /// bytes and padded to a multiple of 4.
    pub(crate) fn reply_sized(info: &Info<'_>, cmd: u8, payload: usize) -> Result<Self> {
        // SAFETY: The request is valid, and its family registered while it is handled.
        let family = unsafe { (*info.as_ptr()).family };
        // SAFETY: As above.
        unsafe { Self::begin(family, info.portid(), info.seq(), cmd, payload, Gfp::Kernel) }
    }

    /// The begin of a notification.
    pub(super) fn notification(family: &Family, cmd: u8, gfp: Gfp) -> Result<Self> {
        // SAFETY: The caller has found the family registered. If it is not any more, its structure
        // is still there.
        unsafe { Self::begin(family.as_ptr(), 0, 0, cmd, Self::PAYLOAD, gfp) }
    }

    /// # Safety
    ///
    /// `family` must be valid and have been registered.
    unsafe fn begin(
        family: *const bindings::genl_family,
        portid: u32,
        seq: u32,
        cmd: u8,
        payload: usize,
        gfp: Gfp,
    ) -> Result<Self> {
        // SAFETY: No requirement but that the context permits what `gfp` asks for.
        let skb = unsafe { bindings::hf_genlmsg_new(payload, gfp.as_raw()) };
        let skb = NonNull::new(skb).ok_or(ENOMEM)?;
        // SAFETY: `skb` is new, and by the contract of this function.
        let hdr = unsafe { bindings::genlmsg_put(skb.as_ptr(), portid, seq, family, 0, cmd) };
        let Some(hdr) = NonNull::new(hdr) else {
            // SAFETY: It is ours.
            unsafe { bindings::hf_nlmsg_free(skb.as_ptr()) };
            return Err(EMSGSIZE);
        };
        // INVARIANT: Just made.
        Ok(Self {
            // SAFETY: `skb` is owned by the message from here on.
            attrs: unsafe { AttrWriter::new(skb) },
            hdr,
        })
    }

    /// Ends the message and gives it away.
    pub(super) fn finish(self) -> *mut bindings::sk_buff {
        let this = ManuallyDrop::new(self);
        let skb = this.attrs.skb.as_ptr();
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_genlmsg_end(skb, this.hdr.as_ptr()) };
        skb
    }

    /// Sends the message to the requester. May sleep.
    pub(crate) fn send(self, info: &Info<'_>) -> Result {
        // SAFETY: The message is given away, the request valid.
        to_result(unsafe { bindings::hf_genlmsg_reply(self.finish(), info.as_ptr()) })
    }

    /// Sends the message, begun by [`Message::reply`], to group number `group` of the family in
    /// the requester's namespace; and to the requester itself if it asked for an echo. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such group. Nothing else is known of what becomes of it.
    pub(crate) fn notify(self, info: &Info<'_>, group: usize) -> Result {
        // SAFETY: The request is valid, and its family registered while it is handled.
        let family = unsafe { (*info.as_ptr()).family };
        // SAFETY: As above.
        if group >= usize::from(unsafe { (*family).n_mcgrps }) {
            return Err(EINVAL);
        }
        // SAFETY: The message is given away; the rest as above.
        unsafe {
            bindings::genl_notify(
                family,
                self.finish(),
                info.as_ptr(),
                group as u32,
                Gfp::Kernel.as_raw(),
            )
        };
        Ok(())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_nlmsg_free(self.attrs.skb.as_ptr()) };
    }
}

impl Deref for Message {
    type Target = AttrWriter<'static>;

    fn deref(&self) -> &Self::Target {
        &self.attrs
    }
}

impl DerefMut for Message {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.attrs
    }
}
