// SPDX-License-Identifier: GPL-2.0

//! A packet taken out of the stack, to go on later: what `nf_queue` does, without a queue.
//!
//! A held packet pins its devices (their removal waits for it: flush on
//! [`device::Watcher`](super::device::Watcher)), its route, and its socket, whose send budget it
//! uses up unless it is [uncharged](Skb::uncharge): TCP small queues stop a sender with two such packets
//! (`tcp_small_queue_check()`). Hold few, and briefly.

use super::{
    bindings,
    errno::{errno, ENETDOWN, ENOTCONN},
    hook::go_on,
    skbuff::{DropReason, SkBuff, Skb},
};
use core::ffi::c_void;
use kernel::{prelude::*, sync::rcu};

/// References to all that a packet needs to go on.
///
/// # Invariants
///
/// We hold references to `skb_dev`, and to `in`, `out` and `sk` of the state, where not null. A
/// device is among them: it cannot go, so its namespace cannot either, and `state.net` is valid.
pub(super) struct Refs {
    state: bindings::nf_hook_state,
    skb_dev: *mut bindings::net_device,
}

impl Drop for Refs {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; `dev_put()` ignores null.
        unsafe {
            bindings::hf_dev_put(self.skb_dev);
            bindings::hf_dev_put(self.state.in_);
            bindings::hf_dev_put(self.state.out);
            if !self.state.sk.is_null() {
                bindings::sock_gen_put(self.state.sk);
            }
        }
    }
}

/// A packet out of the stack. To drop it frees the packet.
pub(crate) struct Held {
    // Before the references, so that it is freed first.
    skb: SkBuff,
    refs: Refs,
    /// Our hook's `priv`: never followed, only compared.
    private: *mut c_void,
}

// SAFETY: Packet, devices and socket are bound to no thread; `private` is only compared.
unsafe impl Send for Held {}

impl Held {
    /// Takes what a packet in a hook needs to survive the hook, as `__nf_queue()`.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the socket is going, `ENETDOWN` if the route is or no device is known.
    ///
    /// # Safety
    ///
    /// `state` must be what the hook was called with for `skb`, and the hook not yet over.
    pub(super) unsafe fn take_refs(
        skb: &mut Skb<'_>,
        state: &bindings::nf_hook_state,
        guard: &rcu::Guard,
    ) -> Result<Refs> {
        // SAFETY: By the invariants of `Skb`.
        let skb_dev = unsafe { bindings::hf_skb_dev(skb.as_ptr()) };
        if skb_dev.is_null() && state.in_.is_null() && state.out.is_null() {
            return Err(errno(ENETDOWN));
        }
        // SAFETY: By the invariants of `Skb`. Early demultiplexing may have given the packet a
        // socket that only RCU keeps (a listener): it needs a reference now, to be dropped with
        // the packet by `sock_edemux()`.
        unsafe {
            let sk = (*skb.as_ptr()).sk;
            if bindings::hf_skb_sk_is_prefetched(skb.as_ptr()) && !bindings::hf_sk_is_refcounted(sk)
            {
                if !bindings::hf_sk_get(sk) {
                    return Err(errno(ENOTCONN));
                }
                bindings::hf_skb_set_destructor(skb.as_ptr(), Some(bindings::sock_edemux));
            }
        }
        skb.dst_force(guard)?;
        // SAFETY: The socket is valid during the hook by the requirements of this function.
        if !state.sk.is_null() && !unsafe { bindings::hf_sk_get(state.sk) } {
            return Err(errno(ENOTCONN));
        }
        // SAFETY: Devices are valid during the hook; `dev_hold()` ignores null.
        unsafe {
            bindings::hf_dev_hold(skb_dev);
            bindings::hf_dev_hold(state.in_);
            bindings::hf_dev_hold(state.out);
        }
        // INVARIANT: One reference each was taken.
        Ok(Refs {
            state: *state,
            skb_dev,
        })
    }

    pub(super) fn new(skb: SkBuff, refs: Refs, private: *mut c_void) -> Self {
        Self { skb, refs, private }
    }

    /// Bytes of the packet, headers included.
    pub(crate) fn len(&self) -> usize {
        self.skb.len()
    }

    /// The packet.
    pub(crate) fn skb(&mut self) -> &mut Skb<'static> {
        &mut self.skb
    }

    /// Does the packet stand in the way of the removal of this device?
    pub(crate) fn uses_device(&self, ifindex: u32) -> bool {
        let state = &self.refs.state;
        [self.refs.skb_dev, state.in_, state.out]
            .iter()
            .any(|&dev| {
                // SAFETY: By the invariants of `Refs`.
                !dev.is_null() && unsafe { bindings::hf_dev_ifindex(dev) as u32 } == ifindex
            })
    }

    /// Lets the packet go on from behind the hook that held it: through the hooks that follow,
    /// then to where the stack wanted it. Softirq or process context; not under a lock that the
    /// stack or a hook of ours takes.
    ///
    /// # Errors
    ///
    /// `ESHUTDOWN` if that hook is not registered any more: the packet is freed, as
    /// `nf_reinject()` does.
    pub(crate) fn resume(self) -> Result {
        let Self { skb, refs, private } = self;
        let mut state = refs.state;
        // SAFETY: Balanced below. What the stack does with a packet expects softirq or this.
        unsafe { bindings::hf_local_bh_disable() };
        let guard = rcu::read_lock();
        // SAFETY: Under RCU, and `refs` keeps all that the state points to.
        let result = unsafe { go_on(skb, &mut state, private) };
        drop(guard);
        // SAFETY: As above.
        unsafe { bindings::hf_local_bh_enable() };
        drop(refs);
        result
    }

    /// Frees the packet; to its sender it has been sent.
    pub(crate) fn consume(self) {
        self.skb.consume();
    }

    /// Frees the packet as lost.
    pub(crate) fn drop_with(self, reason: DropReason) {
        self.skb.drop_with(reason);
    }
}
