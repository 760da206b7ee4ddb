// SPDX-License-Identifier: GPL-2.0

//! The way of packets through Holdfast.
//!
//! ```text
//!           client                                              client
//!             |                                                    ^
//!   PRE_ROUTING, behind defragmentation              POST_ROUTING, last
//!             |  to a service?                                     |  from a service?
//!             |  known flow: decide, translate                     |  known flow: log, gate,
//!             |  SYN: new flow                                     |  translate
//!             |  neither, no socket: orphan                        |
//!             v                                                    |
//!       raw, conntrack, ... --------> local socket or forwarding --+
//! ```
//!
//! What is behind us sees local space only. A packet of no service costs a look at its ports.

use crate::act::{settle, show_at, Deferred, Shown};
use crate::express;
use crate::flows::{Entry, State, HELD_MAX, HELD_UNCHARGED};
use crate::hcore::counter::Counter;
use crate::hcore::effects::{Effects, Verdict as Decision};
use crate::hcore::flow::{Env, Flow, Phase};
use crate::hcore::plain::{V4, V6};
use crate::hcore::seq::{Client, S2c, Seq};
use crate::hcore::wire::{self, flags as tcp, Dir, Key, Quote, MAX_QUOTE};
use crate::namespace::Namespace;
use crate::net::held::Held;
use crate::net::hook::{Handler, Packet, Point, Verdict};
use crate::net::lock::SpinLockBhGuard;
use crate::net::lookup;
use crate::net::pernet::Net;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use kernel::prelude::*;
use kernel::sync::{aref::ARef, rcu, Arc};

/// Bytes from which on the fixed part of a network header is there.
const FIXED_HEADERS: usize = 40;

/// Both ends of a flow, as the rest of the kernel names them.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) service: SocketAddr,
}

/// The ends that `key` names; `None` if it is of no family.
pub(crate) fn address(key: &Key) -> Option<Ends> {
    let ip = |bytes: &[u8; 16]| match key.family {
        4 => Some(IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])),
        6 => Some(IpAddr::from(*bytes)),
        _ => None,
    };
    Some(Ends {
        client: SocketAddr::new(ip(&key.caddr)?, u16::from_be_bytes(key.cport)),
        service: SocketAddr::new(ip(&key.saddr)?, u16::from_be_bytes(key.sport)),
    })
}

/// What becomes of a packet that belongs to no flow.
enum Admission {
    /// It begins this one.
    Flow(ARef<Entry>),
    /// It is not our business.
    Stranger,
    /// It is, and there is no room: nobody is to hear it.
    Lost,
}

/// The hooks of one namespace.
pub(crate) struct Path {
    namespace: Arc<Namespace>,
}

impl Handler for Path {
    #[inline(always)]
    fn packet<'a>(&self, packet: Packet<'a>, point: Point, guard: &rcu::Guard) -> Verdict<'a> {
        let dir = if point == Point::PreRouting {
            Dir::ToService
        } else {
            Dir::ToClient
        };
        // What most packets of the machine are: of no service, and to be let alone at once.
        // Each family to its end, so that it is asked for once.
        match wire::port_of(packet.front(), dir) {
            Some((port, false)) => self.of_port::<V4>(packet, port, dir, guard),
            Some((port, true)) => self.of_port::<V6>(packet, port, dir, guard),
            None => self.candidate(packet, dir, guard),
        }
    }
}

impl Path {
    /// The hooks' state.
    pub(crate) fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace }
    }

    /// A packet of a family with the service's port `port`, if it is one of a service.
    #[inline(always)]
    fn of_port<'a, const AT: usize>(
        &self,
        packet: Packet<'a>,
        port: u16,
        dir: Dir,
        guard: &rcu::Guard,
    ) -> Verdict<'a> {
        if !self.namespace.may_serve(port, guard) {
            return packet.accept();
        }
        match dir {
            Dir::ToService => self.express::<AT, true>(packet, guard),
            Dir::ToClient => self.express::<AT, false>(packet, guard),
        }
    }

    /// A packet that may be of a service. Its own frame, which others need not pay for.
    #[inline(never)]
    fn express<'a, const AT: usize, const INBOUND: bool>(
        &self,
        mut packet: Packet<'a>,
        guard: &rcu::Guard,
    ) -> Verdict<'a> {
        if express::take::<AT, INBOUND>(&self.namespace, &mut packet, guard) {
            return packet.accept();
        }
        self.detour(packet, express::dir(INBOUND), guard)
    }

    /// [`Path::candidate`], from the express way. The compiler is told that it is rare.
    #[cold]
    #[inline(never)]
    fn detour<'a>(&self, packet: Packet<'a>, dir: Dir, guard: &rcu::Guard) -> Verdict<'a> {
        self.candidate(packet, dir, guard)
    }

    /// As [`Path::express`], of a packet that has to go the long way.
    #[inline(never)]
    fn candidate<'a>(&self, mut packet: Packet<'a>, dir: Dir, guard: &rcu::Guard) -> Verdict<'a> {
        let inbound = dir == Dir::ToService;
        if inbound && packet.mark() == self.namespace.tag {
            // A ghost's. The mark has done its work; nobody else is to see it.
            packet.set_mark(0);
            self.direct(&mut packet, guard);
            return packet.accept();
        }
        let (key, env, payload) = match self.of_service(&mut packet, dir, guard) {
            Ok(Some(found)) => found,
            Ok(None) => return packet.accept(),
            Err(wire::WireError::NotTcp) if inbound => return self.icmp(packet, guard),
            Err(_) => return packet.accept(),
        };
        match dir {
            Dir::ToService => self.inbound(packet, &key, &env, payload, guard),
            Dir::ToClient => match self.namespace.find(&key, guard) {
                Some(entry) => self.decide(packet, entry, dir, &env, payload, guard),
                None => packet.accept(),
            },
        }
    }

    /// The flow that a packet names, if it is one of a service, and where its payload begins. For
    /// each packet of a service, whose key and measure a call would only move about.
    #[inline(always)]
    fn of_service(
        &self,
        packet: &mut Packet<'_>,
        dir: Dir,
        guard: &rcu::Guard,
    ) -> Result<Option<(Key, Env, wire::Measure)>, wire::WireError> {
        let len = packet.len();
        let total = u32::try_from(len).map_err(|_| wire::WireError::Malformed)?;
        let front = packet.front();
        let mut found = wire::measure(front, total).map(|m| (wire::key_of(front, &m, dir), m));
        // Nearly always the headers lie in one piece, and nothing has to be moved.
        let mut n = front.len();
        while let Err(wire::WireError::Need(more)) = found {
            if more <= n || more > len {
                break;
            }
            n = more;
            let prefix = packet.header(n).map_err(|_| wire::WireError::Short)?;
            found = wire::measure(prefix, total).map(|m| (wire::key_of(prefix, &m, dir), m));
        }
        match found {
            Ok((key, m)) => Ok(self
                .namespace
                .env(&key.service(), guard)
                .map(|env| (key, env, m))),
            Err(why) => {
                if why != wire::WireError::NotTcp {
                    self.namespace.count(why.counter());
                }
                Err(why)
            }
        }
    }

    /// Gives a packet of a ghost to the listener that userspace has named, if it has: all that is
    /// not of a connection yet. Not when it is made: what the stack has still to do with the
    /// packets before it (the reset of another ghost) is done by now.
    #[inline(never)]
    fn direct(&self, packet: &mut Packet<'_>, guard: &rcu::Guard) {
        let Ok(Some((key, ..))) = self.of_service(packet, Dir::ToService, guard) else {
            return;
        };
        let port = self
            .namespace
            .find(&key, guard)
            .and_then(|entry| entry.state.lock().flow.local_port());
        let (Some(port), Some(ends)) = (port, address(&key)) else {
            return;
        };
        let net: &Net = packet.net();
        let ifindex = packet.in_ifindex().unwrap_or(0);
        if lookup::established(net, ends.client, ends.service, ifindex).is_some() {
            return;
        }
        let loopback = match ends.service.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let listener = SocketAddr::new(loopback, port);
        // Without it the packet goes to the service's own server, whose answer is judged, too.
        if lookup::give_to(packet, net, ends.client, listener, ifindex) {
            self.namespace.count(Counter::GhostDirected);
        }
    }

    fn inbound<'a>(
        &self,
        mut packet: Packet<'a>,
        key: &Key,
        env: &Env,
        at: wire::Measure,
        guard: &rcu::Guard,
    ) -> Verdict<'a> {
        if let Some(entry) = self.namespace.find(key, guard) {
            return self.decide(packet, entry, Dir::ToService, env, at, guard);
        }
        match self.admit(&mut packet, key, env, &at, guard) {
            Admission::Flow(entry) => self.decide(packet, &entry, Dir::ToService, env, at, guard),
            Admission::Lost => packet.swallow(),
            Admission::Stranger => packet.accept(),
        }
    }

    /// Makes a flow of a packet that belongs to none, if it can begin one. Its own frame: a flow
    /// is too large to lie on the stack below [`Path::decide`].
    #[inline(never)]
    fn admit(
        &self,
        packet: &mut Packet<'_>,
        key: &Key,
        env: &Env,
        at: &wire::Measure,
        guard: &rcu::Guard,
    ) -> Admission {
        // Anybody can send what makes a flow; it must at least be whole.
        if !packet.tcp_checksum_ok(at.tcp_offset).unwrap_or(false) {
            self.namespace.count(Counter::ChecksumBad);
            return Admission::Stranger;
        }
        let shown = show_at(packet, *at, |p| (p.flags(), p.options().signed()));
        let (flags, signed) = match shown {
            Ok(shown) => shown,
            Err(why) => {
                self.namespace.count_error(why);
                return Admission::Stranger;
            }
        };
        // A flow is made where it is handed over: moved about, it would lie on the stack twice.
        if flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN {
            let begun = show_at(packet, *at, |p| {
                self.namespace.insert(Flow::opening(*key, p, env), guard)
            });
            return match begun {
                Ok(Some(entry)) => Admission::Flow(entry),
                Ok(None) => Admission::Stranger,
                Err(why) => {
                    self.namespace.count_error(why);
                    Admission::Stranger
                }
            };
        }
        if !self.is_orphan(packet, key, flags, signed, env, at) {
            return Admission::Stranger;
        }
        match self.namespace.insert(Flow::orphan(*key, env), guard) {
            Some(entry) => Admission::Flow(entry),
            // A reset would end what another moment may save; the client sends it again.
            None => Admission::Lost,
        }
    }

    /// Whether a packet of an unknown flow belongs to no local socket, and somebody may know it.
    fn is_orphan(
        &self,
        packet: &mut Packet<'_>,
        key: &Key,
        flags: u8,
        signed: bool,
        env: &Env,
        at: &wire::Measure,
    ) -> bool {
        if !env.policy.reader || flags & tcp::RST != 0 || flags & tcp::ACK == 0 {
            return false;
        }
        let Some(ends) = address(key) else {
            return false;
        };
        let net: &Net = packet.net();
        let ifindex = packet.in_ifindex().unwrap_or(0);
        // A socket: a connection that was there before us, or of which we do not want to know.
        if lookup::established(net, ends.client, ends.service, ifindex).is_some() {
            return false;
        }
        // A SYN cookie: the listener will make the socket of it.
        let cookie = packet.header(at.header_len).ok().and_then(|headers| {
            lookup::cookie_mss(headers, headers.get(at.tcp_offset..)?)
                .ok()
                .flatten()
        });
        if cookie.is_some() {
            return false;
        }
        if signed {
            // Its client would take no word of ours. The stack's, if a listener has the key.
            self.namespace.count(Counter::Signed);
            return false;
        }
        if !env.policy.protect {
            self.namespace.count(Counter::WouldCatch);
        }
        env.policy.protect
    }

    /// Lets the flow decide about a packet, and does what it says.
    fn decide<'a>(
        &self,
        mut packet: Packet<'a>,
        entry: &Entry,
        dir: Dir,
        env: &Env,
        at: wire::Measure,
        guard: &rcu::Guard,
    ) -> Verdict<'a> {
        let namespace = &*self.namespace;
        let inbound = dir == Dir::ToService;
        if inbound && !packet.tcp_checksum_ok(at.tcp_offset).unwrap_or(false) {
            // Whatever it says may be wrong. The stack drops it, and counts it too.
            namespace.count(Counter::ChecksumBad);
            return packet.accept();
        }
        let mut fx = Effects::new();
        let mut state = entry.state.lock();
        if state.gone {
            return packet.accept();
        }
        state.unseen = 0;
        if let Some(ifindex) = packet.in_ifindex().filter(|_| inbound) {
            state.ifindex = ifindex;
        }
        let before = state.flow.phase();
        let decision = show_at(&mut packet, at, |p| match dir {
            Dir::ToService => state.flow.hear_client(p, env, &mut fx),
            Dir::ToClient => state.flow.hear_service(p, env, &mut fx),
        });
        if fx.is_nothing() {
            settle(namespace, entry, &mut state, before, env.now);
            return self.follow(packet, decision, &mut state);
        }
        let decided = (before, decision, &mut fx);
        self.act(packet, entry, state, decided, env, at.header_len, guard)
    }

    /// Does what the flow asked for besides its decision: `payload` is the offset in bytes of the
    /// packet's payload. Its own frame, which most packets need not pay for.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)]
    fn act<'a>(
        &self,
        packet: Packet<'a>,
        entry: &Entry,
        mut state: SpinLockBhGuard<'_, State>,
        (before, decision, fx): (Phase, Result<Decision>, &mut Effects),
        env: &Env,
        payload: usize,
        guard: &rcu::Guard,
    ) -> Verdict<'a> {
        let (namespace, net) = (&*self.namespace, packet.net());
        let shown = Shown {
            skb: &packet,
            payload,
        };
        let mut deferred = Deferred::new(&state);
        deferred.gather(
            namespace,
            entry,
            &mut state,
            before,
            env,
            fx,
            Some(&shown),
            guard,
        );
        let holds = matches!(decision, Ok(Decision::Hold));
        let verdict = self.follow(packet, decision, &mut state);
        if holds && !state.flow.is_holding() {
            // What there was to tell of it did not fit into the log: that has opened the gate before
            // the packet was behind it. It would wait for ever, as its sender does not repeat what
            // it has under way.
            fx.release = true;
            let now = state.flow.phase();
            deferred.gather(namespace, entry, &mut state, now, env, fx, None, guard);
        }
        drop(state);
        deferred.run(namespace, net);
        verdict
    }

    /// Lets a packet go, or holds or frees it, as was decided.
    #[inline(always)]
    fn follow<'a>(
        &self,
        packet: Packet<'a>,
        decision: Result<Decision>,
        state: &mut State,
    ) -> Verdict<'a> {
        match decision {
            Ok(Decision::Accept) => packet.accept(),
            decision => self.stop(packet, decision, state),
        }
    }

    /// As [`Path::follow`], of a packet that does not go on now.
    #[inline(never)]
    fn stop<'a>(
        &self,
        packet: Packet<'a>,
        decision: Result<Decision>,
        state: &mut State,
    ) -> Verdict<'a> {
        let namespace = &*self.namespace;
        match decision {
            Ok(Decision::Accept) => packet.accept(),
            Ok(Decision::Drop(why)) => {
                namespace.count(why);
                packet.swallow()
            }
            Ok(Decision::Hold) if state.gone || state.held.len() >= HELD_MAX => {
                namespace.count(Counter::HoldLimit);
                packet.swallow()
            }
            Ok(Decision::Hold) => match packet.hold(self) {
                Ok((mut held, verdict)) => {
                    namespace.count(Counter::Held);
                    let before: usize = state.held.iter().map(Held::len).sum();
                    if before < HELD_UNCHARGED {
                        // Or the rest of a long head would never come.
                        held.skb().uncharge();
                    }
                    if state.held.push(held, GFP_ATOMIC).is_err() {
                        namespace.count(Counter::NoMemory);
                    }
                    verdict
                }
                Err((packet, _)) => {
                    namespace.count(Counter::HoldFailed);
                    packet.swallow()
                }
            },
            // Without memory for its headers it cannot be translated.
            Err(why) => {
                namespace.count_error(why);
                packet.swallow()
            }
        }
    }

    /// An ICMP error for the service quotes what the client was sent: local space behind us.
    fn icmp<'a>(&self, mut packet: Packet<'a>, guard: &rcu::Guard) -> Verdict<'a> {
        let front = packet.front();
        if front.len() >= FIXED_HEADERS && !wire::is_icmp(front) {
            return packet.accept();
        }
        let n = packet.len().min(MAX_QUOTE);
        if !packet.header(n).is_ok_and(wire::is_icmp) {
            return packet.accept();
        }
        let quoted = packet.edit(n, |head| Quote::parse(head).map(|q| q.key(Dir::ToClient)));
        let Ok(Ok(key)) = quoted else {
            return packet.accept();
        };
        let Some(entry) = self.namespace.find(&key, guard) else {
            return packet.accept();
        };
        let state = entry.state.lock();
        let flow = &state.flow;
        if !flow.depends_on_us() {
            return packet.accept();
        }
        let translated = packet.edit(n, |head| {
            let Ok(mut quote) = Quote::parse(head) else {
                return false;
            };
            quote.set_seq(
                flow.quoted_to_local(Seq::<Client, S2c>::new(quote.seq()))
                    .raw(),
            );
            true
        });
        self.namespace.count(if translated == Ok(true) {
            Counter::IcmpTranslated
        } else {
            Counter::IcmpUntranslated
        });
        packet.accept()
    }
}
