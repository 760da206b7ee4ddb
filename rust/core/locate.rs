// SPDX-License-Identifier: GPL-2.0

//! Where the client of a flow stands that lost its server: it is asked, or speaks by itself.
//!
//! Until the flow is joined, nothing of the client reaches the local stack: its packets are
//! taken as word of where it stands and dropped; it sends them again.

use super::counter::Counter;
use super::effects::{Bytes, Effects, Emit, Verdict};
use super::flow::{Env, Flow, Phase, Rescue};
use super::rescue::{Claim, Misfit, LOCATED_TIME};
use super::ring::{flags as log_flags, Kind};
use super::seq::{C2s, Client, Pos, S2c, Seq};
use super::wire::{flags as tcp, Dir, Key, Packet, Segment};

/// Milliseconds between probes: clients answer one in 500 ms at most
/// (`tcp_invalid_ratelimit`).
const PROBE_EVERY: u64 = 510;

impl Flow {
    /// A flow that is known by a packet of its client only.
    pub fn orphan(key: Key, env: &Env) -> Self {
        let mut flow = Flow::blank(key, Phase::Orphan);
        flow.deadline = env.now + u64::from(env.policy.verdict_ms);
        flow
    }

    /// Asks the client where it stands: `seq` is strictly below what it expects. Its answer has to
    /// fit the claim and `seq`, unless it may be `anywhere`: the record of a flow that was not
    /// followed knows of no position.
    pub fn locate(
        &mut self,
        claim: &Claim,
        seq: Seq<Client, S2c>,
        anywhere: bool,
        env: &Env,
        fx: &mut Effects,
    ) -> Result<(), Misfit> {
        // The server of the ghost may have died, too: then all begins again.
        let again = self.phase == Phase::Ghost && claim.generation >= self.generation;
        if !again {
            self.may_be_claimed(claim.generation)?;
        }
        self.drop_ghost(fx);
        self.claim(claim);
        if !anywhere {
            self.stands_at(seq.plus(1));
        }
        self.rescue = Rescue::Probe {
            seq,
            anywhere,
            tries: 0,
        };
        self.enter(Phase::Locating, fx);
        self.probe(env, fx);
        Ok(())
    }

    /// RFC 9293, section 3.10.7.4: an unacceptable segment is answered with an
    /// acknowledgement. Timestamps must be new (PAWS comes first), and a sequence number below
    /// the window passes firewalls that would drop one above it.
    pub(super) fn probe(&mut self, env: &Env, fx: &mut Effects) {
        let Rescue::Probe {
            seq, ref mut tries, ..
        } = self.rescue
        else {
            return;
        };
        *tries += 1;
        self.deadline = env.now + PROBE_EVERY;
        self.ask(seq, env, fx);
    }

    /// Makes the client say where it stands: `seq` is below that.
    fn ask(&mut self, seq: Seq<Client, S2c>, env: &Env, fx: &mut Effects) {
        self.tell_client(seq, tcp::ACK, env, fx);
        fx.count(Counter::ProbeSent);
    }

    /// Sends the client a segment without bytes, in the name of the server that it had.
    pub(super) fn tell_client(
        &mut self,
        seq: Seq<Client, S2c>,
        flags: u8,
        env: &Env,
        fx: &mut Effects,
    ) {
        let tsval = self.clock.later(env.now);
        self.clock.say(tsval);
        let segment = Segment {
            dir: Dir::ToClient,
            seq: seq.raw(),
            ack: self.c2s.acked.seq().raw(),
            flags,
            window: match flags & tcp::RST {
                0 => u16::MAX >> 1,
                _ => 0,
            },
            ts: self
                .handshake
                .timestamps
                .then_some((tsval, self.clock.tsval)),
            syn: None,
        };
        fx.emits.push(Emit {
            segment,
            bytes: Bytes::None,
        });
    }

    /// A packet of a client whose flow has no server. Its own frame, which packets of flows that are
    /// served need not pay for.
    #[inline(never)]
    pub(super) fn lost_c2s(&mut self, p: &mut Packet<'_>, env: &Env, fx: &mut Effects) -> Verdict {
        let flags = p.flags();
        if flags & (tcp::SYN | tcp::ACK) == tcp::SYN {
            // The client has given up and uses its port again.
            self.drop_ghost(fx);
            self.begin_anew(p, env, fx);
            return self.served_c2s(p, env, fx);
        }
        if flags & tcp::RST != 0 {
            if self.phase != Phase::Orphan && Seq::new(p.seq()) == self.c2s.next.seq() {
                self.drop_ghost(fx);
                self.close(log_flags::RST, env, fx);
            }
            return Verdict::Drop(Counter::OrphanSwallowed);
        }
        if flags & tcp::ACK == 0 {
            return Verdict::Drop(Counter::OrphanSwallowed);
        }
        if !self.credible(p) {
            return Verdict::Drop(Counter::OrphanSwallowed);
        }
        self.clock.hear(p.options().ts, env.now);
        self.s2c.window = p.window();
        self.stands_at(Seq::new(p.ack()));
        match self.phase {
            Phase::Orphan if matches!(self.rescue, Rescue::None) => {
                self.rescue = Rescue::Reported;
                // For what it may have to be told.
                self.c2s.next = Pos::starting(Seq::new(p.seq()));
                self.c2s.acked = self.c2s.next;
                self.handshake.timestamps = p.options().ts.is_some();
                fx.count(Counter::Orphan);
                self.word(p, Kind::Orphan, fx);
            }
            Phase::Locating => {
                self.enter(Phase::Located, fx);
                self.deadline = env.now + LOCATED_TIME;
                fx.count(Counter::Located);
                self.located(p, fx);
            }
            // What was on its way when its server died has arrived.
            Phase::Located if Seq::new(p.ack()).after(self.s2c.acked.seq()) => self.located(p, fx),
            Phase::Ghost => self.dead_server_reached(self.s2c.next.nearest(Seq::new(p.ack()))),
            _ => {}
        }
        Verdict::Drop(Counter::OrphanSwallowed)
    }

    /// The client expects `ack` and has told its window: a server that died may have sent that
    /// far. While it takes what had arrived out of order, its window shrinks as `ack` grows. And a
    /// window farther: its later packets may have overtaken this one.
    pub(super) fn dead_server_reached(&mut self, ack: Pos<S2c>) {
        let window = u64::from(self.s2c.window) << self.handshake.client_shift();
        let edge = ack.plus(2 * window);
        self.dead_edge = Some(self.dead_edge.map_or(edge, |e| e.max(edge)));
    }

    /// The client without server expects `ack`, or more if it has said so.
    pub(super) fn stands_at(&mut self, ack: Seq<Client, S2c>) {
        if self.stands.is_none_or(|s| ack.after(s)) {
            self.stands = Some(ack);
        }
    }

    /// Leaves an orphan to the stack. All that it has said was swallowed: if that was no more than an
    /// acknowledgement, the stack would wait for a word that does not come, and the client for its answer. So it is
    /// made to say it again.
    pub(super) fn pass_orphan(&mut self, env: &Env, fx: &mut Effects) {
        self.pass(env, fx);
        if let Some(stands) = self.stands {
            self.ask(stands.minus(1), env, fx);
        }
    }

    fn located(&mut self, p: &Packet<'_>, fx: &mut Effects) {
        self.s2c.acked = Pos::starting(Seq::new(p.ack()));
        self.s2c.next = self.s2c.acked;
        self.stands = Some(self.s2c.acked.seq());
        self.word(p, Kind::Located, fx);
    }

    /// Whether a packet may be the client's, by what is known of it. Of an orphan nothing is:
    /// userspace compares it with its record.
    fn credible(&self, p: &Packet<'_>) -> bool {
        const AROUND: u32 = 1 << 16;
        const AHEAD: i32 = 1 << 30;
        if self.phase == Phase::Orphan
            || matches!(self.rescue, Rescue::Probe { anywhere: true, .. })
        {
            return true;
        }
        let seq = Seq::<Client, C2s>::new(p.seq());
        let near = !seq.before(self.c2s.next.seq().minus(AROUND))
            && !seq.after(self.c2s.next.seq().plus(AROUND));
        let beyond_probe = match self.rescue {
            Rescue::Probe { seq: probe, .. } => {
                (1..AHEAD).contains(&Seq::new(p.ack()).since(probe))
            }
            _ => true,
        };
        near && beyond_probe
    }

    /// Logs where the client says that it stands.
    fn word(&self, p: &Packet<'_>, kind: Kind, fx: &mut Effects) {
        let mut log = self.log_desc(kind, u64::from(p.ack()), u64::from(p.seq()));
        if p.payload_len() > 0 {
            log.flags |= log_flags::PAYLOAD;
        }
        if p.flags() & tcp::FIN != 0 {
            log.flags |= log_flags::FIN;
        }
        let beyond =
            |(_, right): &(u32, u32)| Seq::<Client, S2c>::new(*right).after(Seq::new(p.ack()));
        if p.options().sack().iter().any(beyond) {
            log.flags |= log_flags::SACKED;
        }
        log.window = u32::from(p.window()) << self.handshake.client_shift();
        log.ts = p.options().ts;
        fx.logs.push(log);
    }
}
