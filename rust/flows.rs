// SPDX-License-Identifier: GPL-2.0

//! A flow in the kernel: the pure state machine, and what it needs around it.
//!
//! # Locks
//!
//! In this order; none of them is held when a packet is sent or let go:
//!
//! 1. [`Entry::state`], one flow's;
//! 2. the ring's (`log::Ring`);
//! 3. a timer's own.
//!
//! # References
//!
//! The table has one to each entry, an armed timer another. An entry keeps its namespace's state.
//! When a namespace ends, all entries leave the table and their timers are shut down; once the
//! readers are gone, so are the entries.

use crate::hcore::brief::Briefed;
use crate::hcore::flow::Flow;
use crate::hcore::wire::Key;
use crate::namespace::Namespace;
use crate::net::held::Held;
use crate::net::lock::{new_spinlock_bh, SpinLockBh};
use crate::net::module::ModuleRef;
use crate::net::rhashtable::{self, impl_has_link, Link};
use crate::net::slab::{impl_in_slab, Count, Slab};
use crate::net::timer::{impl_has_timer, new_timer, Timer, TimerCallback};
use kernel::prelude::*;
use kernel::sync::{aref::ARef, rcu, Arc};

/// Most packets that one flow holds: the first window of a response (RFC 6928) fits, even if
/// it comes in single segments.
pub(crate) const HELD_MAX: usize = 32;

/// Bytes of held packets that do not stop their socket: as long as a head may be, with headers.
pub(crate) const HELD_UNCHARGED: usize = 18 << 10;

/// The number of no table of services.
pub(crate) const NOWHERE: u64 = u64::MAX;

/// Room for flows: there may be very many, and the next power of two is far.
pub(crate) static FLOWS: Slab<Entry> = Slab::new();

/// One flow of a namespace.
#[pin_data]
pub(crate) struct Entry {
    refs: Count,
    #[pin]
    link: Link<Entry>,
    pub(crate) namespace: Arc<Namespace>,
    #[pin]
    pub(crate) state: SpinLockBh<State>,
    #[pin]
    timer: Timer<Entry>,
}

impl_in_slab! { impl InSlab for Entry { self.refs } }
impl_has_link! { impl HasLink<0> for Entry { self.link } }
impl_has_timer! { impl HasTimer<0> for Entry { self.timer } }

/// What changes of a flow.
pub(crate) struct State {
    /// Its number in the log. Another connection of the same name gets another one.
    pub(crate) id: u64,
    pub(crate) flow: Briefed,
    /// Packets of the service behind the data gate, in order.
    pub(crate) held: KVec<Held>,
    /// What its rescue needs; few flows have one.
    pub(crate) lent: Option<KBox<Lent>>,
    /// The module cannot go while the flow needs it.
    pub(crate) pin: Option<ModuleRef>,
    /// When the timer expires, in milliseconds; `u64::MAX` while it is idle.
    pub(crate) armed: u64,
    /// The device on which the client was heard last; 0 before, and once it has gone down.
    pub(crate) ifindex: u32,
    /// Rounds of housekeeping that found no local socket.
    pub(crate) unseen: u8,
    /// The number of the table of services in which its own was found last, or [`NOWHERE`].
    pub(crate) served: u64,
    /// Made by splice-add: there need not be a local socket.
    pub(crate) manual: bool,
    /// Left the table: nothing new is begun.
    pub(crate) gone: bool,
}

/// Bytes of userspace that a rescue sends.
pub(crate) struct Lent {
    /// What the ghost sends to the server.
    pub(crate) request: KVec<u8>,
    /// What the client is sent before the server's own bytes.
    pub(crate) prefix: KVec<u8>,
}

impl Entry {
    /// A flow that is in no table yet. Softirq or process context.
    pub(crate) fn new(
        namespace: &Arc<Namespace>,
        flow: Flow,
        guard: &rcu::Guard,
    ) -> Result<ARef<Self>> {
        let key = rhashtable::Key::new(flow.key().to_bytes());
        let namespace = namespace.clone();
        let state = State {
            id: namespace.next_id(),
            flow: flow.into(),
            held: KVec::new(),
            lent: None,
            pin: None,
            armed: u64::MAX,
            ifindex: 0,
            unseen: 0,
            served: NOWHERE,
            manual: false,
            gone: false,
        };
        FLOWS.alloc(
            |refs| {
                pin_init!(Self {
                    refs,
                    link: Link::new(key),
                    namespace,
                    state <- new_spinlock_bh!(state),
                    timer <- new_timer!("holdfast_flow"),
                })
            },
            guard,
        )
    }

    /// The 4-tuple.
    pub(crate) fn key(&self) -> Option<Key> {
        Key::from_bytes(self.link.key().as_bytes())
    }
}

impl TimerCallback for Entry {
    fn expired(this: ARef<Self>) {
        this.namespace.clone().tick(this);
    }
}
