// SPDX-License-Identifier: GPL-2.0

//! Does what a decision asked for.
//!
//! In two steps: [`Deferred::gather`], under the flow's lock, writes the log, sets the timer,
//! builds packets and shows held ones again; [`Deferred::run`], without any lock, sends.

use crate::control;
use crate::flows::{Entry, State};
use crate::hcore::counter::Counter;
use crate::hcore::effects::{Bytes, Effects, Emit, Log, LogData, Verdict};
use crate::hcore::flow::{Env, Flow, Phase};
use crate::hcore::ring::{flags as log_flags, Record};
use crate::hcore::wire::{self, Csum, Dir, MAX_HEADER};
use crate::log::Data;
use crate::namespace::Namespace;
use crate::net::errno::{errno, ENETUNREACH};
use crate::net::held::Held;
use crate::net::list::SkBuffList;
use crate::net::module::ModuleRef;
use crate::net::output::{self, Route};
use crate::net::pernet::Net;
use crate::net::skbuff::{IpSummed, SkBuff, Skb};
use crate::net::timer::Timer;
use crate::path::{address, Ends};
use kernel::prelude::*;
use kernel::sync::rcu;

/// Room in front of the packets that we build, for link-layer headers.
const HEADROOM: usize = 128;

/// The packet that a decision was about, for the log.
pub(crate) struct Shown<'a> {
    /// The packet.
    pub(crate) skb: &'a Skb<'a>,
    /// Offset in bytes of its payload.
    pub(crate) payload: usize,
}

/// What is to be done once no lock is held.
pub(crate) struct Deferred {
    to_client: SkBuffList,
    to_service: SkBuffList,
    /// The device on which the client was heard last, for packets in its name; 0: none that is
    /// still up.
    heard: u32,
    /// The ends of those packets.
    ends: Option<Ends>,
    go: KVec<Held>,
    /// Held packets that are to be freed.
    _drop: KVec<Held>,
    notify: Option<control::Notice>,
}

impl Deferred {
    /// Nothing yet, of the flow of `state`.
    pub(crate) fn new(state: &State) -> Self {
        Self {
            to_client: SkBuffList::new(),
            to_service: SkBuffList::new(),
            heard: state.ifindex,
            ends: None,
            go: KVec::new(),
            _drop: KVec::new(),
            notify: None,
        }
    }

    /// Does what can be done under the flow's lock, of which `state` is the proof. `before`: the
    /// phase before the decision; `fx`: what it asked for, which is used up.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn gather(
        &mut self,
        namespace: &Namespace,
        entry: &Entry,
        state: &mut State,
        before: Phase,
        env: &Env,
        fx: &mut Effects,
        shown: Option<&Shown<'_>>,
        guard: &rcu::Guard,
    ) {
        let whole = self.apply(namespace, state, env, fx, shown, guard);
        if core::mem::take(&mut fx.anew) {
            // What could not be told was of the connection that is over.
            state.id = namespace.next_id();
        } else if !whole {
            state.flow.log_failed(env, fx);
            self.apply(namespace, state, env, fx, None, guard);
        }
        // Again if what is shown again cannot be told: that opens the gates once more.
        while core::mem::take(&mut fx.release) {
            self.release(namespace, state, env, fx, guard);
        }
        if fx.discard {
            self._drop = core::mem::take(&mut state.held);
            namespace.freed(self._drop.len());
        }
        keep_books(namespace, state, before);
        if fx.notify {
            self.notify = Some(control::Notice::new(state.id, &state.flow, env.now));
        }
        if fx.gone {
            namespace.remove(entry, state);
        } else {
            arm(entry, state, env.now);
        }
    }

    /// Counts, logs and builds what `fx` lists, and empties the lists. `false` if a record was
    /// lost.
    #[allow(clippy::too_many_arguments)]
    fn apply(
        &mut self,
        namespace: &Namespace,
        state: &mut State,
        env: &Env,
        fx: &mut Effects,
        shown: Option<&Shown<'_>>,
        guard: &rcu::Guard,
    ) -> bool {
        for counter in fx.counts.iter() {
            namespace.count(*counter);
        }
        for emit in fx.emits.iter() {
            if self.build(state, emit).is_err() {
                namespace.count(Counter::EmitFailed);
            }
        }
        let mut whole = true;
        for log in fx.logs.iter() {
            let mut log = *log;
            if let Some(shown) = shown {
                let read = |at: u32, to: &mut [u8]| {
                    let at = shown.payload + at as usize;
                    shown.skb.copy_bits(at, to).is_ok()
                };
                state.flow.excerpt(&mut log, env, read);
            }
            whole &= write(namespace, state.id, &state.flow, &log, shown, guard);
        }
        fx.reuse();
        whole
    }

    fn build(&mut self, state: &State, emit: &Emit) -> Result {
        let lent = || state.lent.as_ref().ok_or(EINVAL);
        let payload = match emit.bytes {
            Bytes::None => &[],
            Bytes::Request { from, len } => part(&lent()?.request, from, len)?,
            Bytes::Prefix { from, len } => part(&lent()?.prefix, from, len)?,
        };
        let mut header = [0; MAX_HEADER];
        let n = emit
            .segment
            .write(state.flow.key(), payload, &mut header)
            .map_err(|_| EINVAL)?;
        let skb = SkBuff::alloc_with(HEADROOM, &[&header[..n], payload])?;
        match emit.segment.dir {
            Dir::ToClient => self.to_client.push(skb),
            Dir::ToService => {
                self.ends = address(state.flow.key());
                self.to_service.push(skb);
            }
        }
        Ok(())
    }

    /// Shows held packets to the flow again, in order.
    fn release(
        &mut self,
        namespace: &Namespace,
        state: &mut State,
        env: &Env,
        fx: &mut Effects,
        guard: &rcu::Guard,
    ) {
        let held = core::mem::take(&mut state.held);
        if held.is_empty() {
            return;
        }
        if self.go.reserve(held.len(), GFP_ATOMIC).is_err() {
            // The sender repeats them.
            namespace.count(Counter::NoMemory);
            self._drop = held;
            return;
        }
        for mut packet in held {
            let verdict = show(packet.skb(), |p| state.flow.hear_service(p, env, fx));
            if !self.apply(namespace, state, env, fx, None, guard) {
                state.flow.log_failed(env, fx);
                self.apply(namespace, state, env, fx, None, guard);
            }
            let kept = match verdict {
                Ok(Verdict::Accept) => self.go.push(packet, GFP_ATOMIC).is_ok(),
                Ok(Verdict::Hold) => state.held.push(packet, GFP_ATOMIC).is_ok(),
                Ok(Verdict::Drop(why)) => {
                    namespace.count(why);
                    true
                }
                Err(why) => {
                    namespace.count_error(why);
                    true
                }
            };
            if !kept {
                namespace.count(Counter::NoMemory);
            }
        }
    }

    /// Sends what was built and lets go what was held. Softirq or process context, without locks.
    pub(crate) fn run(&mut self, namespace: &Namespace, net: &Net) {
        while let Some(skb) = self.to_client.pop() {
            if output::send(net, skb, 0).is_err() {
                namespace.count(Counter::EmitFailed);
            }
        }
        // Who never was heard here comes in where packets to it leave, if routing is symmetric.
        let heard = Some(self.heard).filter(|ifindex| *ifindex != 0);
        let ifindex = self.ends.and_then(|ends| {
            if heard.is_some() {
                return heard;
            }
            Route::lookup(net, ends.service.ip(), ends.client.ip(), 0)
                .ok()
                .map(|r| r.ifindex())
        });
        while let Some(skb) = self.to_service.pop() {
            let sent = ifindex
                .ok_or(errno(ENETUNREACH))
                .and_then(|i| output::inject(net, skb, i, namespace.tag));
            if sent.is_err() {
                namespace.count(Counter::EmitFailed);
            }
        }
        for packet in core::mem::take(&mut self.go) {
            // It fails only when the hooks are going, which frees the packet.
            if packet.resume().is_err() {
                namespace.freed(1);
            }
        }
        if let Some(notice) = self.notify.take() {
            notice.send(net);
        }
    }
}

/// All that is to be done where a decision has asked for nothing, as after most packets. `before`:
/// the phase before the decision.
pub(crate) fn settle(
    namespace: &Namespace,
    entry: &Entry,
    state: &mut State,
    before: Phase,
    now: u64,
) {
    keep_books(namespace, state, before);
    arm(entry, state, now);
}

/// Keeps the numbers of flows in a phase and the module's references true.
fn keep_books(namespace: &Namespace, state: &mut State, before: Phase) {
    let phase = state.flow.phase();
    if before != phase && !state.gone {
        namespace.leaves(before);
        namespace.enters(phase);
    }
    let needed = state.flow.depends_on_us() && phase != Phase::Closing;
    if !needed {
        state.pin = None;
    } else if state.pin.is_none() {
        // Fails only while the module is going, which it does not with such flows.
        state.pin = ModuleRef::try_get();
    }
    let rescue = |phase| matches!(phase, Phase::Ghost | Phase::Joining);
    if rescue(before) && !rescue(phase) {
        state.lent = None;
    }
}

/// Lets `decide` see and change the headers of a packet.
pub(crate) fn show<R>(
    skb: &mut Skb<'_>,
    decide: impl FnOnce(&mut wire::Packet<'_>) -> R,
) -> Result<R> {
    let at = measure(skb)?;
    show_at(skb, at, decide)
}

/// As [`show`], where the headers are known to be `at`.
pub(crate) fn show_at<R>(
    skb: &mut Skb<'_>,
    at: wire::Measure,
    decide: impl FnOnce(&mut wire::Packet<'_>) -> R,
) -> Result<R> {
    let csum = match skb.ip_summed() {
        IpSummed::Partial => Csum::Partial,
        _ => Csum::Full,
    };
    skb.edit(at.header_len, |headers| {
        wire::Packet::measured(headers, at, csum)
            .map(|mut p| decide(&mut p))
            .map_err(|_| EINVAL)
    })?
}

/// Finds the headers of a TCP packet.
fn measure(skb: &mut Skb<'_>) -> Result<wire::Measure, Error> {
    let len = skb.len();
    let total = u32::try_from(len).map_err(|_| EINVAL)?;
    // Nearly always enough; else as much as it asks for.
    let mut n = skb.linear_len();
    loop {
        match wire::measure(skb.header(n)?, total) {
            Ok(m) => return Ok(m),
            Err(wire::WireError::Need(more)) if more > n && more <= len => n = more,
            Err(_) => return Err(EINVAL),
        }
    }
}

fn part(bytes: &[u8], from: u32, len: u32) -> Result<&[u8]> {
    let from = from as usize;
    let end = from.checked_add(len as usize).ok_or(EINVAL)?;
    bytes.get(from..end).ok_or(EINVAL)
}

fn write(
    namespace: &Namespace,
    id: u64,
    flow: &Flow,
    log: &Log,
    shown: Option<&Shown<'_>>,
    guard: &rcu::Guard,
) -> bool {
    let (tsval, tsecr) = log.ts.unwrap_or_default();
    let record = Record {
        kind: log.kind as u16,
        flags: log.flags
            | if log.ts.is_some() {
                log_flags::TIMESTAMPS
            } else {
                0
            },
        flow: id,
        pos: log.pos,
        ack: log.ack,
        window: log.window,
        tsval,
        tsecr,
        ..Record::default()
    };
    let data = match (log.data, shown) {
        (LogData::None, _) => Data::None,
        (LogData::Desc, _) => Data::Desc(flow.desc()),
        (LogData::Payload { from, len }, Some(shown)) => Data::Packet {
            skb: shown.skb,
            offset: shown.payload + from as usize,
            len: len as usize,
        },
        // Shown again after it was held: it was logged then.
        (LogData::Payload { .. }, None) => return true,
    };
    namespace.write_log(record, &data, guard)
}

/// Sees to it that the flow's timer expires in time. A timer that expires early finds nothing to
/// do and is armed again: moving one later with every packet would cost more.
fn arm(entry: &Entry, state: &mut State, now: u64) {
    let Some(deadline) = state.flow.deadline() else {
        return;
    };
    if deadline < state.armed {
        let delay = deadline
            .saturating_sub(now)
            .clamp(1, u64::from(u32::MAX / 2)) as u32;
        if Timer::arm(entry, delay) {
            state.armed = deadline;
        }
    }
}
