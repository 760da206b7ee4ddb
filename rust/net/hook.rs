// SPDX-License-Identifier: GPL-2.0

//! Netfilter hooks.
//!
//! A [`Handler`] gets each packet as a [`Packet`] and must give back a [`Verdict`], which it can
//! obtain only by consuming that packet: one packet, one fate, and none forgotten.
//!
//! Context of a handler: RCU read section; mostly softirq, but LOCAL_OUT and POST_ROUTING run in
//! process context too, with bottom halves on. It must not sleep.

use super::{
    bindings,
    errno::{errno, ESHUTDOWN},
    held::Held,
    pernet::Net,
    skbuff::{DropReason, SkBuff, Skb, IPPROTO_TCP},
};
use core::{ffi::c_void, marker::PhantomData, mem::ManuallyDrop, ops, ptr::NonNull};
use kernel::{
    error::{code, to_result},
    prelude::*,
    sync::{rcu, Arc},
};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `NFPROTO_IPV4`.
    V4 = bindings::NFPROTO_IPV4 as isize,
    /// `NFPROTO_IPV6`.
    V6 = bindings::NFPROTO_IPV6 as isize,
}

/// Where in the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// All that came in, before routing.
    PreRouting = bindings::nf_inet_hooks_NF_INET_PRE_ROUTING as isize,
    /// What is for this machine.
    LocalIn = bindings::nf_inet_hooks_NF_INET_LOCAL_IN as isize,
    /// What passes through.
    Forward = bindings::nf_inet_hooks_NF_INET_FORWARD as isize,
    /// What this machine sends.
    LocalOut = bindings::nf_inet_hooks_NF_INET_LOCAL_OUT as isize,
    /// All that goes out.
    PostRouting = bindings::nf_inet_hooks_NF_INET_POST_ROUTING as isize,
}

/// One hook: family, point, and priority (ascending; of equal ones the order is undefined).
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Packets of this family,
    pub(crate) family: Family,
    /// at this point,
    pub(crate) point: Point,
    /// in this order.
    pub(crate) priority: i32,
}

/// Between defragmentation (-400) and raw (-300).
pub(crate) const PRIORITY_AFTER_DEFRAG: i32 = -350;
/// Behind all that may change a packet; just before conntrack's confirmation (`INT_MAX`), as
/// the order among equals is undefined.
pub(crate) const PRIORITY_LAST: i32 = i32::MAX - 1;

/// Sees packets.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Decides about a packet that was met at `point`. `guard` shows the RCU read section in which
    /// netfilter calls hooks. Must not sleep. Compiled once for each point.
    fn packet<'a>(&self, packet: Packet<'a>, point: Point, guard: &rcu::Guard) -> Verdict<'a>;
}

/// What has become of a packet. Made by [`Packet::accept`] and its siblings only.
#[must_use]
pub(crate) struct Verdict<'a> {
    raw: u32,
    // Invariant in 'a, so that the verdict of one packet cannot serve for another.
    _packet: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl Verdict<'_> {
    fn new(raw: u32) -> Self {
        Self {
            raw,
            _packet: PhantomData,
        }
    }
}

/// A packet in a hook. Its bytes begin with the network header. Two words, so that it is handed on in
/// registers.
pub(crate) struct Packet<'a> {
    skb: Skb<'a>,
    state: &'a bindings::nf_hook_state,
}

impl Point {
    /// The point of this number.
    #[inline(always)]
    const fn of(hook: u32) -> Self {
        match hook {
            bindings::nf_inet_hooks_NF_INET_PRE_ROUTING => Point::PreRouting,
            bindings::nf_inet_hooks_NF_INET_LOCAL_IN => Point::LocalIn,
            bindings::nf_inet_hooks_NF_INET_FORWARD => Point::Forward,
            bindings::nf_inet_hooks_NF_INET_LOCAL_OUT => Point::LocalOut,
            _ => Point::PostRouting,
        }
    }
}

impl<'a> Packet<'a> {
    /// The same packet, for a while.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> Packet<'_> {
        Packet {
            skb: self.skb.reborrow(),
            state: self.state,
        }
    }

    /// IPv4 or IPv6.
    pub(crate) fn family(&self) -> Family {
        if u32::from(self.state.pf) == bindings::NFPROTO_IPV4 {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// The network namespace.
    pub(crate) fn net(&self) -> &'a Net {
        // SAFETY: A hook is called with a valid namespace, which lives as long as the call.
        unsafe { Net::from_raw(self.state.net) }
    }

    /// Index of the device by which the packet came, where that is known at this point.
    pub(crate) fn in_ifindex(&self) -> Option<u32> {
        // SAFETY: Null, or valid during the call.
        unsafe { ifindex(self.state.in_) }
    }

    /// Index of the device by which it will leave, where that is known at this point.
    pub(crate) fn out_ifindex(&self) -> Option<u32> {
        // SAFETY: Null, or valid during the call.
        unsafe { ifindex(self.state.out) }
    }

    /// Does a socket of this machine send it? (Not so for answers without a socket.)
    pub(crate) fn has_socket(&self) -> bool {
        !self.state.sk.is_null()
    }

    /// Is the TCP checksum right, or known to be (by the device, or since this machine made the
    /// packet)? `l4` is where the TCP header begins. At PRE_ROUTING and LOCAL_IN only; for
    /// PRE_ROUTING, the IP length must be that of the packet, as IP input has made sure.
    ///
    /// At worst one pass over the bytes, whose result is remembered for the local socket:
    /// [`IpSummed::Complete`](super::skbuff::IpSummed::Complete) then.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `ENOMEM`: the headers up to `l4` are not there.
    pub(crate) fn tcp_checksum_ok(&mut self, l4: usize) -> Result<bool> {
        match self.tcp_checksum_known() {
            true => Ok(true),
            false => sum_tcp(self.skb.reborrow(), self.state, l4),
        }
    }

    /// Whether [`Packet::tcp_checksum_ok`] says yes at once.
    #[inline(always)]
    pub(crate) fn tcp_checksum_known(&self) -> bool {
        self.skb.sum().is_known()
    }

    /// What [`Packet::tcp_checksum_ok`] says if that is not known; also `false` if the headers are
    /// not there.
    #[inline(always)]
    pub(crate) fn sum_tcp(&mut self, l4: usize) -> bool {
        sum_tcp(self.skb.reborrow(), self.state, l4).unwrap_or(false)
    }

    /// Lets the packet pass, as it is now.
    pub(crate) fn accept(self) -> Verdict<'a> {
        Verdict::new(bindings::NF_ACCEPT)
    }

    /// Frees the packet as lost. A local sender sees `EPERM`, and TCP stops sending for a while:
    /// for local output this is rarely what is wanted, see [`Packet::swallow`].
    pub(crate) fn drop(self, reason: DropReason) -> Verdict<'a> {
        self.into_skb().drop_with(reason);
        Verdict::new(bindings::NF_STOLEN | code::EPERM.to_errno().unsigned_abs() << 16)
    }

    /// Frees the packet; to the sender it has been sent.
    pub(crate) fn swallow(self) -> Verdict<'a> {
        self.into_skb().consume();
        Verdict::new(bindings::NF_STOLEN)
    }

    /// Takes the packet out of the stack, to go on, or not, later: behind `handler`, which was
    /// given it.
    ///
    /// # Errors
    ///
    /// Gives the packet back with the reason if it cannot be held: `ENETDOWN` if its route or
    /// its device is going, `ENOTCONN` if its socket is.
    pub(crate) fn hold<T: Handler>(
        mut self,
        handler: &T,
    ) -> Result<(Held, Verdict<'a>), (Self, Error)> {
        let guard = rcu::read_lock();
        // SAFETY: The state is the one that the hook was called with, for this very packet.
        let refs = unsafe { Held::take_refs(&mut self.skb, self.state, &guard) };
        drop(guard);
        match refs {
            Err(err) => Err((self, err)),
            Ok(refs) => {
                // Tells our entry from others in the hook's array.
                let private = core::ptr::from_ref(handler).cast_mut().cast();
                let held = Held::new(self.into_skb(), refs, private);
                Ok((held, Verdict::new(bindings::NF_STOLEN)))
            }
        }
    }

    /// Takes ownership, which a hook may as long as it returns `NF_STOLEN`.
    fn into_skb(self) -> SkBuff {
        // PANIC: The pointer comes from a `NonNull`.
        let ptr = NonNull::new(self.skb.as_ptr()).unwrap();
        // SAFETY: The packet in a hook is unshared, and all callers return `NF_STOLEN`, by which
        // it is ours.
        unsafe { SkBuff::from_raw(ptr) }
    }
}

impl<'a> ops::Deref for Packet<'a> {
    type Target = Skb<'a>;

    fn deref(&self) -> &Self::Target {
        &self.skb
    }
}

impl ops::DerefMut for Packet<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.skb
    }
}

/// As [`Packet::tcp_checksum_ok`], of a packet about which [`Skb::ip_summed`] says nothing. By its parts:
/// a packet whose address is asked for cannot stay in registers.
#[inline(never)]
fn sum_tcp(mut skb: Skb<'_>, state: &bindings::nf_hook_state, l4: usize) -> Result<bool> {
    skb.header(l4)?;
    // SAFETY: The packet is valid, and so is its IP header after the call above, which begins
    // where the data do. `l4` fits, as it is within the packet.
    Ok(unsafe {
        bindings::nf_checksum(
            skb.as_ptr(),
            state.hook.into(),
            l4 as u32,
            IPPROTO_TCP,
            state.pf.into(),
        )
    } == 0)
}

/// # Safety
///
/// `dev` must be null or valid.
#[inline]
unsafe fn ifindex(dev: *const bindings::net_device) -> Option<u32> {
    // SAFETY: By the requirements of this function the structure is valid; at this offset of it
    // there is an `int`, as gcc says. It changes while the device is moved to another namespace
    // only, which no packet outlives.
    (!dev.is_null()).then(|| unsafe {
        dev.byte_add(bindings::NET_DEVICE_IFINDEX)
            .cast::<u32>()
            .read_volatile()
    })
}

/// Lets `skb` continue behind the hook entry that `private` belongs to, and behind the last one
/// to where the stack wanted it, in the manner of `nf_reinject()`.
///
/// # Errors
///
/// `ESHUTDOWN` if our entry is not there any more: the packet is freed.
///
/// # Safety
///
/// Must be called in an RCU read section, with a state as `skb` was met with and all pointers in
/// it valid.
pub(super) unsafe fn go_on(
    skb: SkBuff,
    state: &mut bindings::nf_hook_state,
    private: *mut c_void,
) -> Result {
    let hook = u32::from(state.hook);
    // SAFETY: Under RCU and with a valid namespace by the requirements of this function; the
    // hook number is one that netfilter itself called us with.
    let entries = unsafe {
        if u32::from(state.pf) == bindings::NFPROTO_IPV4 {
            bindings::hf_nf_hooks_ipv4(state.net, hook)
        } else {
            bindings::hf_nf_hooks_ipv6(state.net, hook)
        }
    };
    let ours = if entries.is_null() {
        None
    } else {
        // SAFETY: Under RCU the array stays, and it has as many entries as it says.
        let hooks = unsafe {
            core::slice::from_raw_parts(
                (*entries).hooks.as_ptr(),
                usize::from((*entries).num_hook_entries),
            )
        };
        hooks.iter().position(|entry| entry.priv_ == private)
    };
    let Some(ours) = ours else {
        skb.drop_with(DropReason::NETFILTER);
        return Err(errno(ESHUTDOWN));
    };
    let skb = skb.into_raw();
    // SAFETY: As above. `nf_hook_slow()` either returns 1 and leaves us the packet, or has taken
    // care of it.
    if unsafe { bindings::nf_hook_slow(skb, state, entries, ours as u32 + 1) } == 1 {
        if let Some(okfn) = state.okfn {
            // SAFETY: This is the function that the hook's caller named, with its arguments.
            unsafe { okfn(state.net, state.sk, skb) };
        }
    }
    Ok(())
}

/// Hooks of a handler in one network namespace.
///
/// They must be unregistered before the namespace ends, in
/// [`PerNet::pre_exit`](super::pernet::PerNet::pre_exit) at the latest. The value itself may live
/// longer; its drop waits for calls under way, if that is still necessary (and may sleep then).
///
/// # Invariants
///
/// While `registered`, netfilter holds the addresses of `ops[..]` and of `*handler`.
pub(crate) struct Hooks<T: Handler> {
    ops: KVec<bindings::nf_hook_ops>,
    net: *mut bindings::net,
    registered: bool,
    /// RCU state at the time when they were unregistered: one grace period later nobody is in
    /// them any more.
    unregistered_at: usize,
    handler: ManuallyDrop<Arc<T>>,
}

// SAFETY: Registration and its end may happen in different threads, and the handler is `Send`
// and `Sync`.
unsafe impl<T: Handler> Send for Hooks<T> {}
// SAFETY: `&Hooks` gives access to the handler only, which is `Sync`.
unsafe impl<T: Handler> Sync for Hooks<T> {}

impl<T: Handler> Hooks<T> {
    /// Calls `handler` at all `places` of `net` from now on. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if two places differ only in priority (a packet that goes on would not know
    /// where), `ENOMEM`, `E2BIG` if the hook is full.
    pub(crate) fn register(net: &Net, handler: Arc<T>, places: &[Place]) -> Result<Self> {
        let mut ops = KVec::with_capacity(places.len(), GFP_KERNEL)?;
        for (i, place) in places.iter().enumerate() {
            let same = |other: &Place| other.family == place.family && other.point == place.point;
            if places[..i].iter().any(same) {
                return Err(EINVAL);
            }
            ops.push(
                bindings::nf_hook_ops {
                    hook: Some(match place.point {
                        Point::PreRouting => entry::<T, { Point::PreRouting as u32 }>,
                        Point::LocalIn => entry::<T, { Point::LocalIn as u32 }>,
                        Point::Forward => entry::<T, { Point::Forward as u32 }>,
                        Point::LocalOut => entry::<T, { Point::LocalOut as u32 }>,
                        Point::PostRouting => entry::<T, { Point::PostRouting as u32 }>,
                    }),
                    priv_: core::ptr::from_ref(&*handler).cast_mut().cast(),
                    pf: place.family as u8,
                    hooknum: place.point as u32,
                    priority: place.priority,
                    ..Default::default()
                },
                GFP_KERNEL,
            )?;
        }
        // SAFETY: `ops` lives on the heap and as long as the hooks are registered, by the type
        // invariant, and so does the handler that `entry` finds by `priv`.
        to_result(unsafe {
            bindings::nf_register_net_hooks(net.as_ptr(), ops.as_ptr(), ops.len() as u32)
        })?;
        // INVARIANT: They are registered now.
        Ok(Self {
            ops,
            net: net.as_ptr(),
            registered: true,
            unregistered_at: 0,
            handler: ManuallyDrop::new(handler),
        })
    }

    /// Who is called.
    pub(crate) fn handler(&self) -> &Arc<T> {
        &self.handler
    }

    /// Ends the calls, but for those that are under way. Does nothing if they are ended, or if
    /// `net` is not where they were registered. May sleep, but waits for no grace period: a
    /// namespace's exit has one of its own between `pre_exit` and the state's release.
    pub(crate) fn unregister(&mut self, net: &Net) {
        if net.as_ptr() != self.net || !core::mem::take(&mut self.registered) {
            return;
        }
        // SAFETY: They were registered so, and the reference shows that the namespace is alive.
        unsafe {
            bindings::nf_unregister_net_hooks(self.net, self.ops.as_ptr(), self.ops.len() as u32);
            self.unregistered_at = bindings::get_state_synchronize_rcu();
        }
    }
}

impl<T: Handler> Drop for Hooks<T> {
    fn drop(&mut self) {
        if self.registered {
            // The namespace may be gone, and may be not: leave what netfilter may still use.
            pr_err!("netfilter hooks were not unregistered; leaking them\n");
            core::mem::forget(core::mem::take(&mut self.ops));
            return;
        }
        // Calls that are under way use the handler. They run in RCU sections that began before
        // `unregistered_at`.
        // SAFETY: May sleep here; the cookie is from `get_state_synchronize_rcu()`. Nobody uses
        // `handler` any more, and it is dropped only here.
        unsafe {
            bindings::cond_synchronize_rcu(self.unregistered_at);
            ManuallyDrop::drop(&mut self.handler);
        }
    }
}

/// What netfilter calls.
///
/// # Safety
///
/// Only for netfilter, with the `priv` that [`Hooks::register`] gave for this `T`.
unsafe extern "C" fn entry<T: Handler, const POINT: u32>(
    private: *mut c_void,
    skb: *mut bindings::sk_buff,
    state: *const bindings::nf_hook_state,
) -> u32 {
    // SAFETY: `private` is a `T`, which `Hooks` keeps until a grace period after the last call
    // began. Netfilter calls with a valid, unshared packet whose network header is set (IP input
    // and output see to that), and with a valid state; both stay until we return.
    let (handler, packet) = unsafe {
        (
            &*private.cast::<T>(),
            Packet {
                skb: Skb::from_raw(NonNull::new_unchecked(skb)),
                state: &*state,
            },
        )
    };
    const { assert!(core::mem::size_of::<rcu::Guard>() == 0) };
    // SAFETY: A guard has no bytes; that one exists says that this is an RCU read section, which
    // it is: `nf_hook()` and its like call hooks in one, and so does `go_on()`. It is only lent,
    // so nothing ends that section by dropping it.
    let guard = unsafe { NonNull::<rcu::Guard>::dangling().as_ref() };
    handler
        .packet(packet, const { Point::of(POINT) }, guard)
        .raw
}
