// SPDX-License-Identifier: GPL-2.0

//! A local server that closes before it should: a dead process is a dead server.
//!
//! A FIN before the known end of a response, a reset before the client has acknowledged that
//! end, or either of them while a request waits for the first byte of its response: a process
//! was killed, restarted or ran out of memory. The close is held back. From then on nothing
//! of the old socket reaches the client and, but for a reset, nothing of the client the old
//! socket, which would answer it with resets. Userspace takes the flow up as it does that of
//! another node ([`Flow::locate`]), or lets the close through ([`Flow::let_close`]); so does
//! the clock, if nobody says anything.

use super::counter::Counter;
use super::effects::{Effects, Log, Verdict};
use super::flow::{Env, Flow, Phase};
use super::ring::{flags as log_flags, Kind};
use super::seq::{Pos, S2c, Seq};
use super::wire::Packet;

/// A close that is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// It was a reset: the socket says nothing more.
    pub(super) rst: bool,
}

impl Flow {
    /// Whether a close is one that no living server makes. `fin`: the position of the FIN;
    /// `None`: a reset.
    pub(super) fn closes_early(&self, fin: Option<Pos<S2c>>, env: &Env) -> bool {
        let Some(object) = self.object else {
            return false;
        };
        let served = matches!(self.phase, Phase::Open | Phase::Joining);
        // A server may well stop where its client has.
        let half_closed = self.c2s.fin.is_some() || self.s2c.fin.is_some();
        if !served || half_closed || !self.protected || !env.gating() {
            return false;
        }
        match (object.end, fin) {
            (Some(end), Some(fin)) => fin < end,
            // What was sent and lost on the way goes with the socket.
            (Some(end), None) => self.s2c.acked < end,
            (None, Some(fin)) => fin == object.start,
            (None, None) => self.s2c.next == object.start,
        }
    }

    /// A close waits with held bytes: tells userspace, which sees whether they are a whole head.
    /// `pos`: where it is.
    pub(super) fn close_waits(&mut self, lost: Lost, pos: Pos<S2c>, fx: &mut Effects) {
        if self.closing.replace(lost).is_some() {
            return;
        }
        let mut log = Log::new(Kind::S2c, pos.raw(), self.c2s.acked.raw());
        log.flags = log_flags::HELD
            | match lost.rst {
                true => log_flags::RST,
                false => log_flags::FIN,
            };
        fx.logs.push(log);
    }

    /// What is held of the response that begins at `start` is not a whole head, and no more of it
    /// will come: no living server stops there. It is dropped, as nothing of it has left.
    pub fn broken_off(&mut self, start: Option<u64>, env: &Env, fx: &mut Effects) {
        let object = self.object.filter(|o| Some(o.start.raw()) == start);
        let held = self.hold_deadline != u64::MAX;
        let lost = object.and_then(|o| {
            let untold = self.s2c.next == o.start && o.end.is_none();
            let early = held && untold && self.closes_early(Some(o.start), env);
            self.closing.filter(|_| early)
        });
        match lost {
            Some(lost) => {
                // The packet with the close was swallowed when it was held.
                let _ = self.lose_server(lost, env, fx);
                fx.count(Counter::CloseHeld);
            }
            None => fx.count(Counter::LateCommit),
        }
    }

    /// Holds a close back.
    pub(super) fn lose_server(&mut self, lost: Lost, env: &Env, fx: &mut Effects) -> Verdict {
        self.lost = Some(lost);
        self.deadline = env.now + u64::from(env.policy.verdict_ms);
        self.closing = None;
        self.hold_deadline = u64::MAX;
        self.ack_deadline = u64::MAX;
        self.progress_deadline = u64::MAX;
        fx.discard = true;
        fx.notify = true;
        let mut log = Log::new(Kind::Lost, self.s2c.acked.raw(), self.c2s.acked.raw());
        log.flags = match lost.rst {
            true => log_flags::RST,
            false => log_flags::FIN,
        };
        fx.logs.push(log);
        Verdict::Drop(Counter::CloseHeld)
    }

    /// Whether its server has closed early and nobody has taken it up yet.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// A packet of a client whose server has closed early. What it acknowledges is worth
    /// knowing; it sends again what matters. Its own frame, as [`Flow::lost_c2s`] has.
    #[inline(never)]
    pub(super) fn hear_of_lost(&mut self, p: &Packet<'_>, env: &Env) -> Verdict {
        let ack = self.s2c.next.nearest(Seq::new(p.ack()));
        if p.has_ack() && ack > self.s2c.acked && ack <= self.s2c.next {
            self.s2c.acked = ack;
            self.s2c.window = p.window();
            self.clock.hear(p.options().ts, env.now);
        }
        Verdict::Drop(Counter::OrphanSwallowed)
    }

    /// Nobody takes the flow up: its server's close is the client's business after all. A FIN
    /// comes again by itself.
    pub fn let_close(&mut self, env: &Env, fx: &mut Effects) {
        let Some(lost) = self.lost.take() else { return };
        self.deadline = match self.phase {
            // The prefix goes on.
            Phase::Joining => env.now,
            _ => u64::MAX,
        };
        if lost.rst {
            self.reset_client(Counter::ClosePassed, env, fx);
        } else {
            self.give_up_protection(Counter::ClosePassed, fx);
        }
    }
}
