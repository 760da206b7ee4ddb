// SPDX-License-Identifier: GPL-2.0

//! The express way: what [`Flow::hear_client`] and [`Flow::hear_service`] make of a plain packet of
//! an open connection about which nothing has to be done but, perhaps, to translate it.
//!
//! A flow keeps nothing for it, so there is nothing to go stale: whether a packet may go this way is
//! asked of the very fields that the long way looks at, under the same lock. Where any of them
//! would make the long way do more than is done here (log, hold, emit, set a deadline, finish, read
//! the policy), the answer is "no", nothing has changed, and the packet goes the long way.
//!
//! Whoever changes the long way (`served.rs`, `splice.rs`) has to look here. Tests, fuzzers and the
//! simulator send what goes this way along the other one, too, and compare ([`both_ways`]).
//!
//! [`both_ways`]: Flow::both_ways

use super::counter::Counter;
use super::flow::{Flow, Object, Phase};
use super::gate::Word;
use super::plain::Plain;
use super::seq::{Local, Pos, S2c, Seq};
use super::served::{PROGRESS, PROGRESS_EVERY};
use super::splice::{Splice, SETTLED};

/// What a packet on the express way may need of what surrounds it. It is asked only for what is
/// needed.
pub trait Around {
    /// Monotonic clock in milliseconds.
    fn now(&self) -> u64;

    /// Whether the log has a reader.
    fn has_reader(&self) -> bool;

    /// Raises a counter by one.
    fn count(&self, counter: Counter);

    /// Makes the packet `new`. `false`: it cannot be done here, and nothing has changed.
    fn write(&mut self, new: &Plain) -> bool;
}

impl Splice {
    /// What [`Splice::c2s`] makes of `p`, if it neither raises the acknowledgement nor has to mind
    /// a boundary.
    #[inline(always)]
    fn plain_c2s(&self, p: &Plain) -> Option<Plain> {
        if self.s2c.boundary.is_some() || !self.rewrite_c2s.is_nothing() {
            return None;
        }
        let ack = self.s2c.delta.to_local(Seq::new(p.ack));
        if self.s2c.floor.is_some_and(|floor| ack.before(floor)) {
            return None;
        }
        Some(Plain {
            seq: self.c2s.to_local(Seq::new(p.seq)).raw(),
            ack: ack.raw(),
            window: self.window_c2s.apply(p.window),
            ts: p.ts.map(|(val, ecr)| (val, self.tsecr_to_local(ecr))),
            ..*p
        })
    }

    /// What [`Splice::s2c`] makes of `p`, if that refuses and forgets nothing.
    #[inline(always)]
    fn plain_s2c(&self, p: &Plain) -> Option<Plain> {
        if self.s2c.boundary.is_some() || !self.rewrite_s2c.is_nothing() {
            return None;
        }
        let seq = Seq::<Local, S2c>::new(p.seq);
        if let Some(floor) = self.s2c.floor {
            let beyond = seq.since(floor);
            if beyond > SETTLED || (beyond < 0 && p.len > 0) {
                return None;
            }
        }
        if let (Some(first), Some((tsval, _))) = (self.clock.first, p.ts) {
            if tsval.wrapping_sub(first) as i32 > SETTLED {
                return None;
            }
        }
        Some(Plain {
            seq: self.s2c.delta.to_client(seq).raw(),
            ack: self.c2s.to_client(Seq::new(p.ack)).raw(),
            window: self.window_s2c.apply(p.window),
            ts: p.ts.map(|(v, ecr)| (v.wrapping_add(self.clock.delta), ecr)),
            ..*p
        })
    }
}

impl Flow {
    /// Whether plain packets pass without anything to be decided about the flow.
    #[inline(always)]
    fn is_open(&self) -> bool {
        // Where the service has closed, an acknowledgement may be the last one.
        let closing = self.s2c.fin.is_some();
        self.phase == Phase::Open && !self.muted && self.lost.is_none() && !closing
    }

    /// Shows a packet of the client, whose checksum the caller has verified. `false`: it has to go
    /// the long way ([`Flow::hear_client`]), and nothing has changed. `true`: it is accepted.
    #[inline(always)]
    pub fn express_c2s(&mut self, p: &Plain, around: &mut impl Around) -> bool {
        if !self.is_open() || self.dead_edge.is_some() {
            return false;
        }
        let ack = self.s2c.next.nearest(Seq::new(p.ack));
        if ack < self.s2c.acked || ack > self.s2c.next {
            return false;
        }
        let pos = self.c2s.next.nearest(Seq::new(p.seq));
        let end = pos.plus(u64::from(p.len));
        if !self.plausible(pos, end) {
            return false;
        }
        let progress = ack.since(self.s2c.reported);
        if progress >= PROGRESS && self.reports(p.window, progress, around) {
            return false;
        }
        if p.len > 0 && !self.hears_only(around) {
            return false;
        }
        let Some(new) = self.splice.plain_c2s(p) else {
            return false;
        };
        if new.differs(p) && !around.write(&new) {
            return false;
        }

        self.clock.hear_at(p.ts, || around.now());
        self.s2c.window = p.window;
        self.s2c.acked = ack;
        if p.len > 0 && end > self.c2s.next {
            if self.begins_request() {
                self.object = Some(Object {
                    request: self.c2s.next,
                    start: self.s2c.next,
                    end: None,
                });
            }
            self.c2s.next = end;
        }
        true
    }

    /// Whether a report that the client has come farther by `progress` bytes is due now, or its
    /// time has to be set.
    #[inline(never)]
    fn reports(&self, window: u16, progress: u64, around: &impl Around) -> bool {
        let window = u64::from(window) << self.handshake.client_shift();
        let due = self.s2c.reported_at.saturating_add(PROGRESS_EVERY);
        progress >= window / 4 && (due != self.progress_deadline || around.now() >= due)
    }

    /// Whether bytes of the client are neither told nor counted, nor held by it.
    #[inline(always)]
    fn hears_only(&self, around: &impl Around) -> bool {
        let gated = self.c2s.gate.position().is_some() || self.shadow.gates_acks();
        !(gated || self.protected && around.has_reader())
    }

    /// Shows a packet of the local socket. `false`: it has to go the long way
    /// ([`Flow::hear_service`]), and nothing has changed. `true`: it is accepted.
    #[inline(always)]
    pub fn express_s2c(&mut self, p: &Plain, around: &mut impl Around) -> bool {
        if !self.is_open() {
            return false;
        }
        let Some(mut new) = self.splice.plain_s2c(p) else {
            return false;
        };
        let pos = self.s2c.next.nearest(Seq::new(new.seq));
        let end = pos.plus(u64::from(p.len));
        if p.len > 0 && !self.says_only(pos, end) {
            return false;
        }
        if !new.ts.is_none_or(|(tsval, _)| self.clock.may_say(tsval)) {
            return false;
        }
        let ack = self.c2s.next.nearest(Seq::new(new.ack));
        let word = Word {
            ack,
            edge: ack.plus(u64::from(p.window) << self.local_shift),
        };
        if self.shadow.lowers(ack) {
            return false;
        }
        let (low, lowered) = self.c2s.gate.apply(word);
        let mut told = word;
        if lowered {
            let next = self.s2c.next.max(end);
            // Alone it may be swallowed; with the first byte to come, a deadline is set.
            if p.len == 0 || self.object.is_some_and(|o| o.start == next) {
                return false;
            }
            let shift = self.handshake.service_shift();
            new.ack = low.ack.seq().raw();
            new.window = u16::try_from(low.edge.since(low.ack) >> shift).unwrap_or(u16::MAX);
            told = Word {
                ack: low.ack,
                edge: low.ack.plus(u64::from(new.window) << shift),
            };
        }
        if new.differs(p) && !around.write(&new) {
            return false;
        }

        self.c2s.acked = self.c2s.acked.max(word.ack);
        self.c2s.edge = self.c2s.edge.max(word.edge);
        if p.len > 0 {
            self.s2c.next = self.s2c.next.max(end);
            self.ack_deadline = u64::MAX;
        }
        if let Some((tsval, _)) = new.ts {
            self.clock.say(tsval);
        }
        self.c2s.gate.tell(told);
        if lowered {
            around.count(Counter::AckLowered);
        }
        true
    }

    /// Whether bytes of the service from `pos` to `end` are neither held, told nor counted, and
    /// open no gate.
    #[inline(always)]
    fn says_only(&self, pos: Pos<S2c>, end: Pos<S2c>) -> bool {
        if self.s2c.gate.holds(end) || self.shadow.holds(end) {
            return false;
        }
        let from = pos.max(self.s2c.logged);
        let untold = from < end.min(self.s2c.log_end) && from == self.s2c.logged;
        if self.protected && untold {
            return false;
        }
        let ends = self.object.and_then(|o| o.end).is_some_and(|e| end >= e);
        !ends || (self.c2s.gate.position().is_none() && !self.shadow.gates_acks())
    }
}
