// SPDX-License-Identifier: GPL-2.0

//! Dumps: answers of any length, written in parts.

use super::{bindings, msg::AttrWriter, Info, Policy};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{ffi::c_int, prelude::*};

/// An operation that answers with many messages.
pub(crate) trait Dump: 'static {
    /// The command.
    const CMD: u8;
    /// The attributes that the request may have, by number.
    const POLICY: &'static [Policy];
    /// Whether it takes `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
    const ADMIN: bool;

    /// What to remember between the parts: how far the dump has come.
    type Cursor: Send + 'static;

    /// The request has come. May sleep.
    fn start(info: &Info<'_>) -> Result<Self::Cursor>;

    /// Writes the next part. May sleep.
    ///
    /// Calls [`Dumper::entry`] for one object after the other and moves the cursor on after each
    /// that succeeded. Its `EMSGSIZE`, returned by this function too, means that the part is full:
    /// then it is called again for the next one. `Ok` means that there is no more.
    fn dump(cursor: &mut Self::Cursor, info: &Info<'_>, out: &mut Dumper<'_>) -> Result;
}

/// One part of a dump.
///
/// # Invariants
///
/// `skb` is the part, and `cb` the dump that it belongs to; both ours alone during `'a`.
pub(crate) struct Dumper<'a> {
    skb: NonNull<bindings::sk_buff>,
    cb: *mut bindings::netlink_callback,
    info: *mut bindings::genl_info,
    _part: PhantomData<&'a mut bindings::sk_buff>,
}

impl Dumper<'_> {
    /// Says which generation of the objects is being dumped: a number that grows with each change.
    /// If it is another one than in an earlier part, the reader is told that the dump is
    /// inconsistent (`NLM_F_DUMP_INTR`). To be called in each part, before its first entry.
    pub(crate) fn generation(&mut self, generation: u32) {
        // 0 means that there is no such number.
        // SAFETY: By the type invariant.
        unsafe { (*self.cb).seq = generation.max(1) };
    }

    /// Appends a message with what `fill` writes. If that fails, nothing is left of the message.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` if the part is full, or what `fill` returns.
    pub(crate) fn entry(
        &mut self,
        cmd: u8,
        fill: impl FnOnce(&mut AttrWriter<'_>) -> Result,
    ) -> Result {
        let skb = self.skb.as_ptr();
        // SAFETY: By the type invariant; the family is valid because a dump holds the module.
        let hdr = unsafe {
            bindings::genlmsg_put(
                skb,
                (*self.info).snd_portid,
                (*self.info).snd_seq,
                (*self.info).family,
                bindings::NLM_F_MULTI as c_int,
                cmd,
            )
        };
        if hdr.is_null() {
            return Err(EMSGSIZE);
        }
        // SAFETY: `hdr` was begun in this part. It must be marked before the callback's sequence
        // number changes, so right here.
        unsafe { bindings::hf_genl_dump_check_consistent(self.cb, hdr) };
        // SAFETY: By the type invariant, `skb` is ours while `self` is borrowed.
        let filled = fill(&mut unsafe { AttrWriter::new(self.skb) });
        match filled {
            // SAFETY: As above.
            Ok(()) => unsafe { bindings::hf_genlmsg_end(skb, hdr) },
            // SAFETY: As above.
            Err(_) => unsafe { bindings::hf_genlmsg_cancel(skb, hdr) },
        }
        filled
    }
}

/// The C callbacks of a dump.
pub(super) const fn callbacks<H: Dump>() -> bindings::genl_split_ops__bindgen_ty_1__bindgen_ty_2 {
    bindings::genl_split_ops__bindgen_ty_1__bindgen_ty_2 {
        start: Some(start::<H>),
        dumpit: Some(dumpit::<H>),
        done: Some(done::<H>),
    }
}

/// Where a dump keeps the pointer to its cursor.
///
/// # Safety
///
/// `cb` must be valid.
unsafe fn slot<C>(cb: *mut bindings::netlink_callback) -> *mut *mut C {
    // SAFETY: By the contract of this function. The context has 48 bytes and is aligned for `long`.
    unsafe { (&raw mut (*cb).__bindgen_anon_1.ctx).cast() }
}

/// # Safety
///
/// To be called by generic netlink for a request that was validated by `H::POLICY`.
unsafe extern "C" fn start<H: Dump>(cb: *mut bindings::netlink_callback) -> c_int {
    // SAFETY: By the contract of this function.
    let info = unsafe { Info::from_raw(bindings::hf_genl_info_dump(cb), H::POLICY.len()) };
    match H::start(&info).and_then(|cursor| Ok(KBox::new(cursor, GFP_KERNEL)?)) {
        Ok(cursor) => {
            // SAFETY: The context is the dump's to use.
            unsafe { *slot(cb) = KBox::into_raw(cursor) };
            0
        }
        Err(e) => e.to_errno(),
    }
}

/// # Safety
///
/// To be called by generic netlink after `start`, and not concurrently for one dump.
unsafe extern "C" fn dumpit<H: Dump>(
    skb: *mut bindings::sk_buff,
    cb: *mut bindings::netlink_callback,
) -> c_int {
    // SAFETY: By the contract of this function.
    let raw = unsafe { bindings::hf_genl_info_dump(cb) };
    // SAFETY: As above; the request is kept until the end of the dump.
    let info = unsafe { Info::from_raw(raw, H::POLICY.len()) };
    // SAFETY: `start` stored a cursor there, and netlink calls for one part at a time.
    let cursor = unsafe { &mut **slot::<H::Cursor>(cb) };
    let Some(skb) = NonNull::new(skb) else {
        return EINVAL.to_errno();
    };
    // INVARIANT: By the contract of this function.
    let mut out = Dumper {
        skb,
        cb,
        info: raw,
        _part: PhantomData,
    };
    // What netlink makes of EMSGSIZE: if there is something in the part, send it and go on; else
    // (one object is larger than a whole part) tell the reader.
    match H::dump(cursor, &info, &mut out) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// # Safety
///
/// To be called by generic netlink once after `start` has succeeded.
unsafe extern "C" fn done<H: Dump>(cb: *mut bindings::netlink_callback) -> c_int {
    // SAFETY: `start` stored a cursor there, and this is the end of it.
    drop(unsafe { KBox::from_raw(*slot::<H::Cursor>(cb)) });
    0
}
