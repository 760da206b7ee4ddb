// SPDX-License-Identifier: GPL-2.0

//! The express way of a packet: see [`crate::hcore::express`], which decides who may take it.
//!
//! Here is what that spares a packet besides: the headers are read once, where they lie; the clock
//! is asked only if it matters; headers are made writable only if they change; and nothing is settled
//! afterwards, as neither phase nor need of the module changes and no deadline becomes earlier.

use crate::flows::State;
use crate::hcore::brief::{Brief, Briefed};
use crate::hcore::counter::Counter;
use crate::hcore::express::Around;
use crate::hcore::plain::{header_len, stamped, Name, Plain, V4};
use crate::hcore::wire::{Csum, Dir};
use crate::namespace::Namespace;
use crate::net::hook::Packet;
use crate::net::time;
use kernel::sync::rcu;

/// A packet on the express way, and what surrounds it.
struct Passing<'p, const AT: usize> {
    namespace: &'p Namespace,
    /// The headers, if they may be changed, and what their checksum covers.
    headers: Option<(&'p mut [u8], Csum)>,
    /// As it was read.
    plain: Plain,
    /// When, if that matters.
    read_at: u64,
    guard: &'p rcu::Guard,
}

impl<const AT: usize> Around for Passing<'_, AT> {
    #[inline(always)]
    fn read_at(&self) -> u64 {
        self.read_at
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        time::now_ms()
    }

    #[inline(always)]
    fn has_reader(&self) -> bool {
        self.namespace.has_reader(self.guard)
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        self.namespace.count(counter);
    }

    #[inline(always)]
    fn is_writable(&self) -> bool {
        self.headers.is_some()
    }

    #[inline(always)]
    fn write(&mut self, new: &Plain) -> bool {
        match &mut self.headers {
            Some((headers, csum)) => self.plain.write::<AT>(new, headers, *csum),
            None => false,
        }
    }
}

/// Takes a packet along the express way: one that comes in, if `INBOUND`, or one that goes out.
/// `false`: it may not go there, and nothing has changed.
/// [`port_of`](crate::hcore::wire::port_of) has found a port in it. `AT`: its family, as in
/// [`crate::hcore::plain`].
#[inline(always)]
pub(crate) fn take<const AT: usize, const INBOUND: bool>(
    namespace: &Namespace,
    packet: &mut Packet<'_>,
    guard: &rcu::Guard,
) -> bool {
    // That of a ghost is not its client's.
    if INBOUND && packet.mark() == namespace.tag {
        return false;
    }
    let name = |packet: &Packet<'_>| Name::of::<AT>(packet.linear(), dir(INBOUND));
    let Some(called) = name(packet) else {
        return false;
    };
    let found = if AT == V4 {
        namespace.flows.get_ipv4(called.ipv4(), guard)
    } else {
        namespace.flows.get_ipv6(called.0, guard)
    };
    let Some(entry) = found else {
        return false;
    };
    let mut state = entry.state.lock();
    let state: &mut State = &mut state;
    if !namespace.serves(state, || name(packet), guard) {
        return false;
    }
    // Compiled for both, so that timestamps are asked for once.
    let flow = &mut state.flow;
    let brief = flow.brief();
    let taken = match stamped::<AT>(packet.linear()) {
        Some(true) => show::<AT, true, INBOUND>(flow, brief, packet.reborrow(), namespace, guard),
        Some(false) => show::<AT, false, INBOUND>(flow, brief, packet.reborrow(), namespace, guard),
        None => false,
    };
    if taken {
        state.unseen = 0;
        if let Some(ifindex) = packet.in_ifindex().filter(|_| INBOUND) {
            state.ifindex = ifindex;
        }
    }
    taken
}

/// The direction of what comes in, or goes out.
pub(crate) const fn dir(inbound: bool) -> Dir {
    if inbound {
        Dir::ToService
    } else {
        Dir::ToClient
    }
}

/// Shows `flow` a packet.
#[inline(always)]
fn show<const AT: usize, const STAMPED: bool, const INBOUND: bool>(
    flow: &mut Briefed,
    brief: Brief,
    packet: Packet<'_>,
    namespace: &Namespace,
    guard: &rcu::Guard,
) -> bool {
    if !brief.is_calm(dir(INBOUND), STAMPED) {
        return ask::<AT, STAMPED, INBOUND>(flow, packet, namespace, guard);
    }
    let changes = brief.moves();
    open::<AT, STAMPED, INBOUND, true>(flow, packet, changes, 0, namespace, guard)
}

/// Shows a packet to `flow`, of which more has to be asked. Its own frame.
#[inline(never)]
fn ask<const AT: usize, const STAMPED: bool, const INBOUND: bool>(
    flow: &mut Briefed,
    packet: Packet<'_>,
    namespace: &Namespace,
    guard: &rcu::Guard,
) -> bool {
    let (changes, waits) = match INBOUND {
        true => (flow.changes_c2s(), flow.waits()),
        false => (flow.changes_s2c(), false),
    };
    let read_at = if waits { time::now_ms() } else { 0 };
    open::<AT, STAMPED, INBOUND, false>(flow, packet, changes, read_at, namespace, guard)
}

/// Sees to it that the checksum of a packet is right, and that its headers may be changed if it
/// `changes`, and has `flow` decide. A checksum that has to be summed is summed under the flow's lock:
/// packets of one flow mostly come in on one CPU, and where they change, one call tells both.
#[inline(always)]
fn open<const AT: usize, const STAMPED: bool, const INBOUND: bool, const CALM: bool>(
    flow: &mut Briefed,
    mut packet: Packet<'_>,
    changes: bool,
    read_at: u64,
    namespace: &Namespace,
    guard: &rcu::Guard,
) -> bool {
    let n = header_len::<AT>(STAMPED);
    let total = packet.len() as u32;
    if !changes {
        let known = !INBOUND || packet.tcp_checksum_known();
        if !known && !packet.sum_tcp(AT) {
            return false;
        }
        // One length is asked for.
        let headers = packet.linear().get(..n).unwrap_or_default();
        let Some(plain) = Plain::sized::<AT>(headers, total, STAMPED) else {
            return false;
        };
        let passing = Passing::<AT> {
            namespace,
            headers: None,
            plain,
            read_at,
            guard,
        };
        return pass::<AT, INBOUND, CALM>(flow, passing);
    }
    let Some((mut headers, mut sum)) = packet.balanced_mut(n) else {
        return false;
    };
    if INBOUND && !sum.is_known() {
        if !packet.sum_tcp(AT) {
            return false;
        }
        match packet.balanced_mut(n) {
            Some(again) => (headers, sum) = again,
            None => return false,
        }
    }
    let csum = match sum.is_partial() {
        true => Csum::Partial,
        false => Csum::Full,
    };
    let Some(plain) = Plain::sized::<AT>(headers, total, STAMPED) else {
        return false;
    };
    let passing = Passing::<AT> {
        namespace,
        headers: Some((headers, csum)),
        plain,
        read_at,
        guard,
    };
    pass::<AT, INBOUND, CALM>(flow, passing)
}

/// Has `flow` decide about a packet that was read.
#[inline(always)]
fn pass<const AT: usize, const INBOUND: bool, const CALM: bool>(
    flow: &mut Briefed,
    mut passing: Passing<'_, AT>,
) -> bool {
    let plain = passing.plain;
    if INBOUND {
        flow.express_c2s::<CALM>(&plain, &mut passing)
    } else {
        flow.express_s2c::<CALM>(&plain, &mut passing)
    }
}
