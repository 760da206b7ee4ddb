// SPDX-License-Identifier: GPL-2.0

//! Generic netlink.
//!
//! A [`Family`] is a `static` that lists its operations ([`Op`]) and multicast groups ([`Group`]).
//! An operation is a type that implements [`Do`] or [`Dump`]: its command, the [`Policy`] of its
//! attributes and the handler. The core validates strictly, by that policy and down into nests,
//! before the handler sees an [`Info`].
//!
//! Handlers run in process context and may sleep. The families made here set `parallel_ops`:
//! handlers of several requests run concurrently, in one namespace as in several, and do their own
//! locking. The alternative, one mutex over all of generic netlink, would let a handler that waits
//! for a grace period stop everybody else's families.

mod attr;
mod dump;
mod msg;
mod policy;

pub(crate) use attr::{Attr, Attrs, Info};
pub(crate) use dump::{Dump, Dumper};
pub(crate) use msg::{AttrWriter, Message};
pub(crate) use policy::{Policy, Range};

use super::{bindings, pernet::Net, series};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use kernel::{
    error::to_result,
    ffi::{c_char, c_int},
    prelude::*,
    sync::atomic::{
        ordering::{Acquire, Full, Release},
        Atomic,
    },
};

/// A value of zero bytes, for constants.
///
/// # Safety
///
/// `T` must be a type that they are a valid value of.
const unsafe fn zeroed<T>() -> T {
    // SAFETY: By the contract of this function.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// How a notification may be allocated. (The kernel crate does not say what its `Flags` are.)
#[derive(Clone, Copy)]
pub(crate) enum Gfp {
    /// In process context, without spinlocks: may sleep.
    Kernel,
    /// Anywhere.
    Atomic,
}

impl Gfp {
    const fn as_raw(self) -> bindings::gfp_t {
        match self {
            Self::Kernel => bindings::GFP_KERNEL,
            Self::Atomic => bindings::GFP_ATOMIC,
        }
    }
}

/// An operation that handles one request.
pub(crate) trait Do: 'static {
    /// The command.
    const CMD: u8;
    /// The attributes that the request may have, by number.
    const POLICY: &'static [Policy];
    /// Whether it takes `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
    const ADMIN: bool;

    /// Handles the request. May sleep.
    ///
    /// The error goes to the requester; what was wrong is said by [`Attrs::error`].
    fn handle(info: &Info<'_>) -> Result;
}

/// An entry in a family's table of operations.
#[repr(transparent)]
pub(crate) struct Op(bindings::genl_split_ops);

// SAFETY: It is never changed, and what it points to is static.
unsafe impl Sync for Op {}

/// The `flags` of an operation.
const fn op_flags(what: u32, admin: bool) -> u8 {
    let admin = if admin {
        bindings::GENL_UNS_ADMIN_PERM
    } else {
        0
    };
    (what | admin) as u8
}

impl Op {
    /// The operation `H`.
    ///
    /// In a table, operations are in ascending order of their commands, and where a command has
    /// both, the [`Do`] precedes the [`Dump`] and both have the same `ADMIN`.
    pub(crate) const fn new_do<H: Do>() -> Self {
        // SAFETY: Integers, and pointers that may be null.
        let mut op: bindings::genl_split_ops = unsafe { zeroed() };
        op.__bindgen_anon_1.__bindgen_anon_1.doit = Some(doit::<H>);
        op.policy = Policy::table(H::POLICY);
        op.maxattr = Policy::max_attr(H::POLICY);
        op.cmd = H::CMD;
        op.flags = op_flags(bindings::GENL_CMD_CAP_DO, H::ADMIN);
        Self(op)
    }

    /// The dump `H`. See [`Op::new_do`].
    pub(crate) const fn new_dump<H: Dump>() -> Self {
        // SAFETY: Integers, and pointers that may be null.
        let mut op: bindings::genl_split_ops = unsafe { zeroed() };
        op.__bindgen_anon_1.__bindgen_anon_2 = dump::callbacks::<H>();
        op.policy = Policy::table(H::POLICY);
        op.maxattr = Policy::max_attr(H::POLICY);
        op.cmd = H::CMD;
        op.flags = op_flags(bindings::GENL_CMD_CAP_DUMP, H::ADMIN);
        Self(op)
    }
}

/// # Safety
///
/// To be called by generic netlink for a request that was validated by `H::POLICY`.
unsafe extern "C" fn doit<H: Do>(
    _skb: *mut bindings::sk_buff,
    info: *mut bindings::genl_info,
) -> c_int {
    // SAFETY: By the contract of this function.
    match H::handle(&unsafe { Info::from_raw(info, H::POLICY.len()) }) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// A multicast group.
#[repr(transparent)]
pub(crate) struct Group(bindings::genl_multicast_group);

// SAFETY: It is never changed.
unsafe impl Sync for Group {}

impl Group {
    /// A group that only those may join who have `CAP_NET_ADMIN` in the user namespace that owns
    /// the network namespace.
    pub(crate) const fn admin(name: &CStr) -> Self {
        Self(bindings::genl_multicast_group {
            name: group_name(name),
            flags: bindings::GENL_MCAST_CAP_NET_ADMIN,
        })
    }
}

/// A name as in a `struct genl_multicast_group`.
const fn group_name(name: &CStr) -> [c_char; NAME_LEN] {
    let bytes = name.to_bytes_with_nul();
    assert!(bytes.len() <= NAME_LEN);
    let mut to = [0; NAME_LEN];
    let mut i = 0;
    while i < bytes.len() {
        to[i] = bytes[i] as c_char;
        i += 1;
    }
    to
}

const NAME_LEN: usize = bindings::GENL_NAMSIZ as usize;

/// A generic netlink family; to be a `static`.
pub(crate) struct Family {
    family: UnsafeCell<MaybeUninit<bindings::genl_family>>,
    state: Atomic<u32>,
    name: &'static CStr,
    version: u8,
    ops: &'static [Op],
    groups: &'static [Group],
}

/// The states of a [`Family`]. Only in `REGISTERED` may others than who registers it touch `family`.
mod state {
    pub(super) const UNREGISTERED: u32 = 0;
    pub(super) const CHANGING: u32 = 1;
    pub(super) const REGISTERED: u32 = 2;
}

// SAFETY: `family` is changed by who moved `state` to `CHANGING` only, and by generic netlink,
// under its own locks; the rest is never changed.
unsafe impl Sync for Family {}

impl Family {
    /// A family that is not registered yet.
    pub(crate) const fn new(
        name: &'static CStr,
        version: u8,
        ops: &'static [Op],
        groups: &'static [Group],
    ) -> Self {
        assert!(name.to_bytes_with_nul().len() <= NAME_LEN);
        assert!(ops.len() <= u8::MAX as usize && groups.len() <= u8::MAX as usize);
        Self {
            family: UnsafeCell::new(MaybeUninit::uninit()),
            state: Atomic::new(state::UNREGISTERED),
            name,
            version,
            ops,
            groups,
        }
    }

    /// Registers the family, in all network namespaces. May sleep.
    ///
    /// From here on handlers are called; what they need must be there.
    pub(crate) fn register(&'static self) -> Result<Registration> {
        if self
            .state
            .cmpxchg(state::UNREGISTERED, state::CHANGING, Full)
            .is_err()
        {
            return Err(EBUSY);
        }
        // SAFETY: In this state the family is ours. `Op` and `Group` are transparent, so their
        // slices are arrays of what C wants, static and never changed. The name fits.
        let ret = unsafe {
            bindings::hf_genl_family_init(
                self.as_ptr(),
                self.name.as_char_ptr(),
                self.version,
                self.ops.as_ptr().cast(),
                self.ops.len() as u8,
                self.groups.as_ptr().cast(),
                self.groups.len() as u8,
                series::this_module(),
            );
            bindings::genl_register_family(self.as_ptr())
        };
        let registered = to_result(ret);
        let next = match registered {
            Ok(()) => state::REGISTERED,
            Err(_) => state::UNREGISTERED,
        };
        self.state.store(next, Release);
        // INVARIANT: If it is `Ok`, it is registered.
        registered.map(|()| Registration(self))
    }

    /// Tells everyone in `net` who has joined group number `group` (its place in the table).
    ///
    /// `fill` writes the message; it is not called if nobody listens. The context is what `gfp`
    /// permits.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the family is not registered, `EINVAL` if there is no such group, `EMSGSIZE` if
    /// the message does not fit, `ENOMEM`, `ENOBUFS` if a listener's buffer is full. That nobody
    /// listens is none.
    pub(crate) fn multicast(
        &'static self,
        net: &Net,
        group: usize,
        cmd: u8,
        gfp: Gfp,
        fill: impl FnOnce(&mut AttrWriter<'_>) -> Result,
    ) -> Result {
        if self.state.load(Acquire) != state::REGISTERED {
            return Err(ENODEV);
        }
        if group >= self.groups.len() {
            return Err(EINVAL);
        }
        // SAFETY: The family is registered, the net valid, the group one of the family.
        if unsafe { bindings::hf_genl_has_listeners(self.as_ptr(), net.as_ptr(), group as u32) }
            == 0
        {
            return Ok(());
        }
        let mut message = Message::notification(self, cmd, gfp)?;
        fill(&mut message)?;
        let skb = message.finish();
        // SAFETY: As above; `skb` is a finished message of this family, given away here.
        match unsafe {
            bindings::hf_genlmsg_multicast_netns(
                self.as_ptr(),
                net.as_ptr(),
                skb,
                group as u32,
                gfp.as_raw(),
            )
        } {
            // Nobody listens any more.
            e if e == ESRCH.to_errno() => Ok(()),
            e => to_result(e),
        }
    }

    /// The C structure.
    fn as_ptr(&self) -> *mut bindings::genl_family {
        self.family.get().cast()
    }
}

/// A registered [`Family`]; dropping it takes the family away and waits for handlers. Sleeps.
///
/// A dump that is under way holds the module, so by the time the module may be removed there is
/// none.
///
/// # Invariants
///
/// The family is registered, and there is one `Registration` of it.
pub(crate) struct Registration(&'static Family);

impl Drop for Registration {
    fn drop(&mut self) {
        let family = self.0;
        family.state.store(state::CHANGING, Release);
        // SAFETY: By the type invariant the family is registered. The function waits for handlers.
        // What it returns is an error only for a family that is not.
        let _ = unsafe { bindings::genl_unregister_family(family.as_ptr()) };
        family.state.store(state::UNREGISTERED, Release);
    }
}
