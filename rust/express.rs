// SPDX-License-Identifier: GPL-2.0

//! The express way of a packet: see [`crate::hcore::express`], which decides who may take it.
//!
//! Here is what that spares a packet besides: the headers are read once, where they lie; the clock
//! is asked only if it matters; headers are made writable only if they change; and nothing is settled
//! afterwards, as neither phase nor need of the module changes and no deadline becomes earlier.

use crate::flows::State;
use crate::hcore::counter::Counter;
use crate::hcore::express::Around;
use crate::hcore::flow::Flow;
use crate::hcore::plain::{Name, Plain};
use crate::hcore::wire::{Csum, Dir};
use crate::namespace::Namespace;
use crate::net::hook::Packet;
use crate::net::rhashtable::Key;
use crate::net::skbuff::IpSummed;
use crate::net::time;
use kernel::sync::rcu;

/// A packet on the express way, and what surrounds it.
struct Passing<'p, 'a, const AT: usize> {
    namespace: &'p Namespace,
    packet: &'p mut Packet<'a>,
    /// As it was read.
    plain: Plain,
    guard: &'p rcu::Guard,
}

impl<const AT: usize> Around for Passing<'_, '_, AT> {
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
    fn write(&mut self, new: &Plain) -> bool {
        let plain = self.plain;
        let csum = match self.packet.ip_summed() {
            IpSummed::Partial => Csum::Partial,
            _ => Csum::Full,
        };
        match self.packet.balanced_mut(plain.header_len::<AT>()) {
            Some(headers) => plain.write::<AT>(new, headers, csum),
            None => false,
        }
    }
}

/// Takes a packet in direction `dir` along the express way. `false`: it may not go there, and
/// nothing has changed. [`port_of`](crate::hcore::wire::port_of) has found a port in it. `AT`: its
/// family, as in [`crate::hcore::plain`].
#[inline(always)]
pub(crate) fn take<const AT: usize>(
    namespace: &Namespace,
    packet: &mut Packet<'_>,
    dir: Dir,
    guard: &rcu::Guard,
) -> bool {
    let inbound = dir == Dir::ToService;
    // That of a ghost is not its client's.
    if inbound && packet.mark() == namespace.tag {
        return false;
    }
    let Some(name) = Name::of::<AT>(packet.linear(), dir) else {
        return false;
    };
    if !namespace.serves(&name, guard) {
        return false;
    }
    let Some(entry) = namespace.flows.get(&Key::of_words(name.0), guard) else {
        return false;
    };
    if inbound {
        let known = matches!(
            packet.ip_summed(),
            IpSummed::Unnecessary | IpSummed::Partial
        );
        if !known && !packet.tcp_checksum_ok(AT).unwrap_or(false) {
            return false;
        }
    }
    let mut state = entry.state.lock();
    let state: &mut State = &mut state;
    if state.gone {
        return false;
    }
    state.unseen = 0;
    if let Some(ifindex) = packet.in_ifindex().filter(|_| inbound) {
        state.ifindex = ifindex;
    }
    // Not before: what is read would have to be kept across all calls above.
    let total = packet.len() as u32;
    let read = Plain::read::<AT>(packet.linear(), total);
    let flow = &mut state.flow;
    // Compiled for both, so that timestamps are asked for once.
    match read {
        Some(p @ Plain { ts: Some(_), .. }) => show::<AT>(flow, p, packet, dir, namespace, guard),
        Some(p @ Plain { ts: None, .. }) => show::<AT>(flow, p, packet, dir, namespace, guard),
        None => false,
    }
}

/// Shows `flow` a packet in direction `dir` that was read as `plain`.
#[inline(always)]
fn show<const AT: usize>(
    flow: &mut Flow,
    plain: Plain,
    packet: &mut Packet<'_>,
    dir: Dir,
    namespace: &Namespace,
    guard: &rcu::Guard,
) -> bool {
    let mut passing = Passing::<'_, '_, AT> {
        namespace,
        packet,
        plain,
        guard,
    };
    match dir {
        Dir::ToService => flow.express_c2s(&plain, &mut passing),
        Dir::ToClient => flow.express_s2c(&plain, &mut passing),
    }
}
