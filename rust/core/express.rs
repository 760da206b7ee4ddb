// SPDX-License-Identifier: GPL-2.0

//! The express way: what [`Flow::hear_client`] and [`Flow::hear_service`] make of a plain packet of
//! an open connection about which nothing has to be done but, perhaps, to translate it.
//!
//! Whether a packet may go this way is asked of the very fields that the long way looks at, under the
//! same lock. Where any of them would make the long way do more than is done here (log, hold, emit,
//! set a deadline, finish, read the policy), the answer is "no", nothing has changed, and the packet
//! goes the long way. What has the same answer for packet after packet need not be asked again: see
//! [`brief`](super::brief).
//!
//! Whoever changes the long way (`served.rs`, `splice.rs`) has to look here. Tests, fuzzers and the
//! simulator send what goes this way along the other one, too, and compare ([`both_ways`]).
//!
//! [`both_ways`]: super::brief::Briefed::both_ways

use super::counter::Counter;
use super::flow::{Flow, Object, Phase};
use super::gate::Word;
use super::plain::Plain;
use super::seq::{Local, Pos, S2c, Seq};
use super::served::{PROGRESS, PROGRESS_EVERY};
use super::splice::{Rescale, Rewrite, Splice, SETTLED};

/// What a packet on the express way may need of what surrounds it. It is asked only for what is
/// needed.
pub trait Around {
    /// Monotonic clock in milliseconds, asked before the packet was read if [`Flow::waits`].
    fn read_at(&self) -> u64;

    /// The same now.
    fn now(&self) -> u64;

    /// Whether the log has a reader.
    fn has_reader(&self) -> bool;

    /// Raises a counter by one.
    fn count(&self, counter: Counter);

    /// Whether the packet may be changed: one makes its headers writable before they are read, if
    /// [`Flow::changes_c2s`] or [`Flow::changes_s2c`].
    fn is_writable(&self) -> bool;

    /// Makes the packet, which may be changed, `new`. `false`: it cannot be done here, and nothing
    /// has changed.
    fn write(&mut self, new: &Plain) -> bool;
}

impl Splice {
    /// What [`Splice::c2s`] makes of `p`, if it neither raises the acknowledgement nor has to mind
    /// a boundary.
    #[inline(always)]
    fn plain_c2s<const CALM: bool>(&self, p: &Plain) -> Option<Plain> {
        if !CALM && !self.is_plain(&self.rewrite_c2s) {
            return None;
        }
        let ack = self.s2c.delta.to_local(Seq::new(p.ack));
        if self.s2c.floor.is_some_and(|floor| ack.before(floor)) {
            return None;
        }
        Some(Plain {
            seq: self.c2s.to_local(Seq::new(p.seq)).raw(),
            ack: ack.raw(),
            window: self.window_c2s.apply_or::<CALM>(p.window),
            ts: p.ts.map(|(val, ecr)| (val, self.tsecr_to_local(ecr))),
            ..*p
        })
    }

    /// What [`Splice::s2c`] makes of `p`, if that refuses and forgets nothing.
    #[inline(always)]
    fn plain_s2c<const CALM: bool>(&self, p: &Plain) -> Option<Plain> {
        if !CALM && !self.is_plain(&self.rewrite_s2c) {
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
            window: self.window_s2c.apply_or::<CALM>(p.window),
            ts: p.ts.map(|(v, ecr)| (v.wrapping_add(self.clock.delta), ecr)),
            ..*p
        })
    }

    /// Whether there is one delta for all bytes, and addresses stay.
    #[inline(always)]
    fn is_plain(&self, rewrite: &Rewrite) -> bool {
        self.s2c.boundary.is_none() && rewrite.is_nothing()
    }
}

impl Rescale {
    /// As [`Rescale::apply`]. `SAME`: nothing changes.
    #[inline(always)]
    fn apply_or<const SAME: bool>(self, window: u16) -> u16 {
        if SAME {
            window
        } else {
            self.apply(window)
        }
    }
}

impl Flow {
    /// Whether plain packets of the client may be changed.
    #[inline(always)]
    pub fn changes_c2s(&self) -> bool {
        let splice = &self.splice;
        self.moves() || !splice.window_c2s.is_same()
    }

    /// Whether plain packets of the local socket may be changed.
    #[inline(always)]
    pub fn changes_s2c(&self) -> bool {
        let splice = &self.splice;
        self.moves() || !splice.window_s2c.is_same() || self.c2s.gate.position().is_some()
    }

    /// Whether numbers or timestamps may be changed.
    #[inline(always)]
    pub(super) fn moves(&self) -> bool {
        let splice = &self.splice;
        let deltas = splice.c2s.raw() | splice.s2c.delta.raw() | splice.clock.delta;
        deltas != 0 || splice.clock.first.is_some()
    }

    /// Whether nothing is expected of plain packets of the client, with timestamps if `stamped`: all
    /// that [`Flow::express_c2s`] asks of what it never changes.
    pub(super) fn is_calm_c2s(&self, stamped: bool) -> bool {
        self.is_open()
            && self.dead_edge.is_none()
            && !self.waits()
            && !self.is_gated()
            && (!stamped || self.clock.heard().is_some())
            && self.splice.is_plain(&self.splice.rewrite_c2s)
            && self.splice.window_c2s.is_same()
    }

    /// As [`Flow::is_calm_c2s`], of the local socket.
    pub(super) fn is_calm_s2c(&self, stamped: bool) -> bool {
        self.is_open()
            && !self.is_gated()
            && self.s2c.gate.position().is_none()
            && !self.shadow.holds_some()
            && (!stamped || self.clock.has_said())
            && self.splice.is_plain(&self.splice.rewrite_s2c)
            && self.splice.window_s2c.is_same()
    }

    /// Whether it depends on the time if a packet of the client is taken.
    #[inline(always)]
    pub fn waits(&self) -> bool {
        self.progress_deadline != u64::MAX
    }

    /// Whether plain packets pass without anything to be decided about the flow.
    #[inline(always)]
    fn is_open(&self) -> bool {
        // Where the service has closed, an acknowledgement may be the last one.
        let closing = self.s2c.fin.is_some();
        self.phase == Phase::Open && !self.muted && self.lost.is_none() && !closing
    }

    /// Shows a packet of the client, whose checksum the caller has verified. `false`: it has to go
    /// the long way ([`Flow::hear_client`]), and nothing has changed. `true`: it is accepted.
    ///
    /// `CALM`: the flow [is](Flow::is_calm_c2s), which then need not be asked. Nothing is called before
    /// all is done, so that what was read of the packet stays in registers.
    #[inline(always)]
    pub fn express_c2s<const CALM: bool>(&mut self, p: &Plain, around: &mut impl Around) -> bool {
        if !CALM && (!self.is_open() || self.dead_edge.is_some()) {
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
        if ack >= self.s2c.reported.plus(PROGRESS) && self.reports(p.window, ack, around) {
            return false;
        }
        if p.len > 0 && (!CALM && self.is_gated() || self.protected && around.has_reader()) {
            return false;
        }
        // The first timestamps are the long way's to hear.
        if !CALM && p.ts.is_some() && self.clock.heard().is_none() {
            return false;
        }
        let Some(new) = self.splice.plain_c2s::<CALM>(p) else {
            return false;
        };
        if around.is_writable() && !around.write(&new) {
            return false;
        }

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
        self.clock.hear_more(p.ts, || around.now());
        true
    }

    /// Whether a report that the client has come as far as `ack` is due now, or its time has to be
    /// set.
    #[inline(always)]
    fn reports(&self, window: u16, ack: Pos<S2c>, around: &impl Around) -> bool {
        let progress = ack.since(self.s2c.reported);
        let window = u64::from(window) << self.handshake.client_shift();
        let due = self.s2c.reported_at.saturating_add(PROGRESS_EVERY);
        let waits = due == self.progress_deadline && around.read_at() < due;
        progress >= window / 4 && !waits
    }

    /// Whether acknowledgements are held, or would be.
    #[inline(always)]
    fn is_gated(&self) -> bool {
        self.c2s.gate.position().is_some() || self.shadow.gates_acks()
    }

    /// Shows a packet of the local socket. `false`: it has to go the long way
    /// ([`Flow::hear_service`]), and nothing has changed. `true`: it is accepted.
    ///
    /// `CALM`: as in [`Flow::express_c2s`], by [`Flow::is_calm_s2c`].
    #[inline(always)]
    pub fn express_s2c<const CALM: bool>(&mut self, p: &Plain, around: &mut impl Around) -> bool {
        if !CALM && !self.is_open() {
            return false;
        }
        let Some(mut new) = self.splice.plain_s2c::<CALM>(p) else {
            return false;
        };
        let pos = self.s2c.next.nearest(Seq::new(new.seq));
        let end = pos.plus(u64::from(p.len));
        if p.len > 0 && !self.says_only::<CALM>(pos, end) {
            return false;
        }
        if !CALM && p.ts.is_some() && !self.clock.has_said() {
            return false;
        }
        if new.ts.is_some_and(|(tsval, _)| self.clock.is_late(tsval)) {
            return false;
        }
        let ack = self.c2s.next.nearest(Seq::new(new.ack));
        let word = Word {
            ack,
            edge: ack.plus(u64::from(p.window) << self.local_shift),
        };
        if !CALM && self.shadow.lowers(ack) {
            return false;
        }
        let (low, lowered) = match CALM {
            true => (word, false),
            false => self.c2s.gate.apply(word),
        };
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
        if around.is_writable() && !around.write(&new) {
            return false;
        }

        self.c2s.acked = self.c2s.acked.max(word.ack);
        self.c2s.edge = self.c2s.edge.max(word.edge);
        if p.len > 0 {
            self.s2c.next = self.s2c.next.max(end);
            self.ack_deadline = u64::MAX;
        }
        if let Some((tsval, _)) = new.ts {
            self.clock.sent = tsval;
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
    fn says_only<const CALM: bool>(&self, pos: Pos<S2c>, end: Pos<S2c>) -> bool {
        if !CALM && (self.s2c.gate.holds(end) || self.shadow.holds(end)) {
            return false;
        }
        let logged = self.s2c.logged;
        let untold = logged < self.s2c.log_end && pos <= logged && logged < end;
        if untold && self.protected {
            return false;
        }
        let ends = || self.object.and_then(|o| o.end).is_some_and(|e| end >= e);
        CALM || !self.is_gated() || !ends()
    }
}
