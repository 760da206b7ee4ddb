// SPDX-License-Identifier: GPL-2.0

//! The handshake of a flow with the local socket that serves it.

use super::client::Handshake;
use super::counter::Counter;
use super::effects::{Effects, Verdict};
use super::flow::{Env, Flow, Phase, OPENING_TIME, PASSING_TIME};
use super::options::kind;
use super::ring::{flags as log_flags, Kind};
use super::seq::{C2s, Client, Delta, Local, Pos, S2c, Seq};
use super::splice::{Clock as ServiceClock, Splice};
use super::wire::{Key, Packet};

/// A SYN that may begin another connection, if the local stack takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Again {
    isn: Seq<Client, C2s>,
    offer: Handshake,
    /// It is signed (TCP-MD5, TCP-AO).
    signed: bool,
}

impl Flow {
    /// A flow whose first SYN is `p`, which may be changed.
    pub fn opening(key: Key, p: &mut Packet<'_>, env: &Env) -> Self {
        let mut flow = Flow::blank(key, Phase::Opening);
        flow.learn_syn(p, env);
        flow
    }

    /// The client uses its port again: what was known is of another connection.
    pub(super) fn begin_anew(&mut self, p: &mut Packet<'_>, env: &Env, fx: &mut Effects) {
        self.make_room(env, fx);
        self.learn_syn(p, env);
    }

    /// The connection is over, as another one has its name: whoever has heard of it is told so. Its own
    /// frame: a whole flow is too large to lie on the stack below a packet that begins none.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, env: &Env, fx: &mut Effects) {
        if !matches!(self.phase, Phase::Opening | Phase::Passing) {
            self.close(log_flags::FIN, env, fx);
        }
        *self = Flow::blank(self.key, Phase::Opening);
        fx.discard = true;
        fx.anew = true;
    }

    /// A flow to come that is to be translated from its SYN on.
    pub fn spliced(key: Key, c2s: Delta<C2s>, s2c: Delta<S2c>, ts: u32) -> Self {
        let mut flow = Flow::blank(key, Phase::Opening);
        flow.splice = Splice::new(
            c2s,
            s2c,
            ServiceClock {
                delta: ts,
                first: None,
            },
        );
        flow.protected = false;
        flow
    }

    fn learn_syn(&mut self, p: &mut Packet<'_>, env: &Env) {
        let o = p.options();
        if o.signed() {
            self.leave_alone(env);
            return;
        }
        let offer = Handshake::offered(o);
        self.expect(Seq::new(p.seq()), offer, env);
    }

    /// It is signed: a signature covers what we would change (RFC 2385, RFC 5925).
    fn leave_alone(&mut self, env: &Env) {
        self.phase = Phase::Passing;
        self.deadline = env.now + PASSING_TIME;
    }

    /// Waits for the answer to a SYN with number `isn` and the options of `offer`.
    fn expect(&mut self, isn: Seq<Client, C2s>, offer: Handshake, env: &Env) {
        self.handshake = offer;
        self.isn_c2s = isn;
        let first = Pos::starting(isn).plus(1);
        self.c2s.next = first;
        self.c2s.acked = first;
        self.c2s.edge = first;
        self.deadline = env.now + OPENING_TIME;
    }

    pub(super) fn syn(&mut self, p: &mut Packet<'_>, env: &Env, fx: &mut Effects) -> Verdict {
        let fresh = Seq::new(p.seq()) != self.isn_c2s;
        if fresh
            && self.splice.is_identity()
            && matches!(self.phase, Phase::Closing | Phase::Opening)
        {
            // The client uses its port again.
            self.begin_anew(p, env, fx);
        } else if self.phase == Phase::Opening && !self.splice.is_identity() {
            self.learn_syn(p, env);
        } else if fresh {
            // Only if the local stack takes it is the old connection over.
            self.again = Some(Again {
                isn: Seq::new(p.seq()),
                offer: Handshake::offered(p.options()),
                signed: p.options().signed(),
            });
        }
        if self.phase == Phase::Passing {
            fx.count(Counter::Signed);
            return Verdict::Accept;
        }
        if !env.policy.protect && (p.options().mptcp || p.options().fastopen) {
            fx.count(Counter::WouldBlank);
        }
        if env.policy.protect && self.phase == Phase::Opening {
            // Neither can be continued by another server: the client must not use them.
            if p.options().mptcp && p.blank_option(kind::MPTCP) {
                fx.count(Counter::MptcpBlanked);
            }
            if p.options().fastopen && (p.blank_option(kind::FASTOPEN) | p.blank_option(kind::EXP2))
            {
                fx.count(Counter::FastopenBlanked);
            }
        }
        match self.splice.c2s(p) {
            Ok(_) => Verdict::Accept,
            Err(refused) => Verdict::Drop(refused.counter()),
        }
    }

    /// The client's answer to the SYN-ACK: from here on the flow is worth a record. A SYN alone
    /// is not, as anybody can send it in anybody's name.
    pub(super) fn confirm(&mut self, p: &Packet<'_>, pos: Pos<C2s>, fx: &mut Effects) {
        let first = self.s2c.next;
        let acked = p.has_ack() && self.answered && p.ack() == first.seq().raw();
        if !acked || pos != self.c2s.next {
            return;
        }
        self.deadline = u64::MAX;
        self.enter(Phase::Open, fx);
        fx.count(Counter::FlowOpened);
        self.tell_opened(p.options().ts, fx);
    }

    /// Tells the reader of a flow whose SYN the local socket has answered. `ts`: the client's newest
    /// TSval and TSecr, if it has echoed one.
    pub(super) fn tell_opened(&self, ts: Option<(u32, u32)>, fx: &mut Effects) {
        if self.protected {
            let (start, request) = (self.s2c.next.raw(), self.c2s.next.raw());
            let mut log = self.log_desc(Kind::Opened, start, request);
            log.ts = ts;
            fx.logs.push(log);
        }
    }

    pub(super) fn syn_ack(&mut self, p: &mut Packet<'_>, env: &Env, fx: &mut Effects) -> Verdict {
        if p.payload_len() > 0 {
            // Data would pass the gates. Linux sends none (`tcp_make_synack`).
            return Verdict::Drop(Counter::Malformed);
        }
        if let Some(Again { isn, offer, signed }) = self.again {
            let acked = Seq::<Local, C2s>::new(p.ack());
            if self.splice.delta_c2s().to_client(acked) == isn.plus(1) {
                let splice = self.splice;
                let keeps = !self.joined;
                self.make_room(env, fx);
                if signed {
                    self.leave_alone(env);
                    fx.count(Counter::Signed);
                    return Verdict::Accept;
                }
                if keeps {
                    self.splice = splice;
                    // As in `Flow::spliced`.
                    self.protected = splice.is_identity();
                }
                self.expect(isn, offer, env);
                fx.notify = true;
            }
        }
        if self.joined {
            // The ghost's handshake, said again: not the client's business.
            self.nudge_service(fx);
            return Verdict::Drop(Counter::GhostHandshake);
        }
        if let Err(refused) = self.splice.s2c(p) {
            return Verdict::Drop(refused.counter());
        }
        if self.phase == Phase::Opening && p.ack() == self.c2s.next.seq().raw() {
            self.isn_s2c = Seq::new(p.seq());
            if !self.answered {
                self.handshake = self.handshake.answered(p.options());
            }
            self.answered = true;
            self.local_shift = self.handshake.service_shift();
            let first = Pos::starting(self.isn_s2c).plus(1);
            self.s2c.next = first;
            self.s2c.acked = first;
            self.s2c.logged = first;
            self.s2c.log_end = first;
            self.s2c.reported = first;
            self.c2s.edge = self.c2s.next.plus(u64::from(p.window()));
        }
        Verdict::Accept
    }
}
