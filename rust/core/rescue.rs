// SPDX-License-Identifier: GPL-2.0

//! A flow that lost its server: orphan, probe, ghost, join.
//!
//! Until it is joined, nothing of the client reaches the local stack and nothing of the local
//! stack reaches the client: its packets are taken as word of where it stands and dropped; it
//! sends them again. Whatever cannot be placed without doubt ends in a reset.

use super::client::{Clock, Handshake};
use super::counter::Counter;
use super::effects::{Bytes, Effects, Emit, Log, Verdict};
use super::flow::{Env, Flow, Object, Phase, Rescue};
use super::ghost::{Ghost, Progress, Voice};
use super::ring::{flags as log_flags, Kind};
use super::seq::{C2s, Client, Delta, Local, Pos, S2c, Seq};
use super::splice::{Clock as ServiceClock, Rescale, Splice};
use super::wire::{flags as tcp, Dir, Key, Packet, Segment};

/// Milliseconds between probes: clients answer one in 500 ms at most
/// (`tcp_invalid_ratelimit`).
const PROBE_EVERY: u64 = 510;
/// Probes before a silent client is left alone; it may still speak up by itself.
const PROBES: u8 = 20;
/// Milliseconds that a client which has spoken waits for userspace before it is reset.
const LOCATED_TIME: u64 = 10_000;
/// Milliseconds from flow-recover to flow-join.
const GHOST_TIME: u64 = 10_000;
/// First retransmission timeout of the prefix in milliseconds; it doubles.
const PREFIX_RTO: u64 = 300;
/// Retransmissions of the prefix before the client counts as gone.
const PREFIX_TRIES: u8 = 8;
/// Segments of the prefix in flight (RFC 6928).
const PREFIX_FLIGHT: u32 = 10;
/// Most bytes of the prefix in a segment: any path carries them, so that no answer of path MTU
/// discovery has to be waited for (RFC 8200: 1280 bytes with headers and options).
const PREFIX_MSS: u32 = 1200;
/// Bytes in flight that the client may send before the local socket has said more.
const FIRST_EDGE: u64 = 1 << 16;

/// What userspace knows of a flow that it takes over.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Of the takeover.
    pub generation: u32,
    /// Position of the client's next byte: behind all that its old server acknowledged, or
    /// the start of the request that it is to send again.
    pub next: Pos<C2s>,
    /// Of the old handshake.
    pub handshake: Handshake,
    /// The client's timestamps as last heard.
    pub clock: Clock,
}

/// Why a request of userspace does not fit the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The flow is in another phase.
    Phase,
    /// Another generation has it.
    Generation,
    /// More of the answer has come.
    Again,
    /// A position does not fit the others.
    Position,
}

impl Flow {
    /// A flow that is known by a packet of its client only.
    pub fn orphan(key: Key, env: &Env) -> Self {
        let mut flow = Flow::blank(key, Phase::Orphan);
        flow.deadline = env.now + u64::from(env.policy.verdict_ms);
        flow
    }

    /// A flow of another node.
    pub fn claimed(key: Key, claim: &Claim, env: &Env) -> Self {
        let mut flow = Flow::blank(key, Phase::Locating);
        flow.claim(claim);
        // In case that nothing follows.
        flow.deadline = env.now + LOCATED_TIME;
        flow
    }

    fn claim(&mut self, claim: &Claim) {
        self.generation = claim.generation;
        self.muted = false;
        self.handshake = claim.handshake;
        self.c2s.next = claim.next;
        self.c2s.acked = claim.next;
        self.c2s.edge = claim.next.plus(FIRST_EDGE);
        let heard = self.clock;
        self.clock = claim.clock.taken_over(claim.generation);
        // What the client said to us is newer than what it said to the old server.
        if let Some((ts, since)) = heard.heard() {
            self.clock.hear(Some(ts), since);
            self.clock.say(heard.sent);
        }
    }

    fn may_be_claimed(&self, generation: u32) -> Result<(), Misfit> {
        match self.phase {
            Phase::Orphan | Phase::Locating | Phase::Located | Phase::Passing => {}
            // It went to another node and comes back.
            Phase::Closing if self.muted && generation > self.generation => {}
            _ => return Err(Misfit::Phase),
        }
        if generation < self.generation {
            return Err(Misfit::Generation);
        }
        Ok(())
    }

    /// Asks the client where it stands: `seq` is strictly below what it expects.
    pub fn locate(
        &mut self,
        claim: &Claim,
        seq: Seq<Client, S2c>,
        env: &Env,
        fx: &mut Effects,
    ) -> Result<(), Misfit> {
        self.may_be_claimed(claim.generation)?;
        self.claim(claim);
        self.rescue = Rescue::Probe { seq, tries: 0 };
        self.enter(Phase::Locating, fx);
        self.probe(env, fx);
        Ok(())
    }

    /// RFC 9293, section 3.10.7.4: an unacceptable segment is answered with an
    /// acknowledgement. Timestamps must be new (PAWS comes first), and a sequence number below
    /// the window passes firewalls that would drop one above it.
    fn probe(&mut self, env: &Env, fx: &mut Effects) {
        let Rescue::Probe { seq, ref mut tries } = self.rescue else {
            return;
        };
        *tries += 1;
        self.deadline = env.now + PROBE_EVERY;
        let segment = self.lost_client_segment(seq, tcp::ACK, env);
        fx.emits.push(Emit {
            segment,
            bytes: Bytes::None,
        });
        fx.count(Counter::ProbeSent);
    }

    fn lost_client_segment(&mut self, seq: Seq<Client, S2c>, flags: u8, env: &Env) -> Segment {
        let tsval = self.clock.later(env.now);
        self.clock.say(tsval);
        Segment {
            key: self.key,
            dir: Dir::ToClient,
            seq: seq.raw(),
            ack: self.c2s.acked.seq().raw(),
            flags,
            window: u16::MAX >> 1,
            ts: self
                .handshake
                .timestamps
                .then_some((tsval, self.clock.tsval)),
            syn: None,
        }
    }

    /// A packet of a client whose flow has no server.
    pub(super) fn lost_c2s(&mut self, p: &mut Packet<'_>, env: &Env, fx: &mut Effects) -> Verdict {
        let flags = p.flags();
        if flags & (tcp::SYN | tcp::ACK) == tcp::SYN {
            // The client has given up and uses its port again.
            self.drop_ghost(fx);
            *self = Flow::opening(self.key, p, env);
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
        match self.phase {
            Phase::Orphan if matches!(self.rescue, Rescue::None) => {
                self.rescue = Rescue::Reported;
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
            _ => {}
        }
        Verdict::Drop(Counter::OrphanSwallowed)
    }

    fn located(&mut self, p: &Packet<'_>, fx: &mut Effects) {
        self.s2c.acked = Pos::new(u64::from(p.ack()));
        self.s2c.next = self.s2c.acked;
        self.word(p, Kind::Located, fx);
    }

    /// Whether a packet may be the client's, by what is known of it. Of an orphan nothing is:
    /// userspace compares it with its record.
    fn credible(&self, p: &Packet<'_>) -> bool {
        const AROUND: u32 = 1 << 16;
        const AHEAD: i32 = 1 << 30;
        if self.phase == Phase::Orphan {
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

    pub(super) fn drop_ghost(&mut self, fx: &mut Effects) {
        if let Rescue::Ghost { ghost, .. } | Rescue::Prefix { ghost, .. } = self.rescue {
            ghost.reset(&self.voice(), fx);
        }
        self.rescue = Rescue::None;
    }

    fn voice(&self) -> Voice<'_> {
        Voice {
            key: &self.key,
            handshake: &self.handshake,
            clock: &self.clock,
        }
    }

    /// Opens a connection to the server in the client's name and sends it `request` bytes.
    /// The client stands at `at`; up to `window` bytes of the answer are taken.
    pub fn recover(
        &mut self,
        claim: &Claim,
        at: Pos<S2c>,
        request: u32,
        window: u32,
        env: &Env,
        fx: &mut Effects,
    ) -> Result<(), Misfit> {
        self.may_be_claimed(claim.generation)?;
        let wanted = self.s2c.acked.seq();
        if self.phase == Phase::Located && at.seq() != wanted {
            // Userspace speaks of another position than the client did.
            return Err(Misfit::Position);
        }
        self.claim(claim);
        self.s2c.next = at;
        self.s2c.acked = at;
        self.s2c.reported = at;
        let next = Seq::<Local, C2s>::new(claim.next.seq().raw());
        // Less than a unit of the client's scale would be no window at all.
        let window = window.max(1 << self.handshake.client_shift());
        let ghost = Ghost::new(next, request, window, env.now);
        ghost.open(&self.voice(), fx);
        self.rescue = Rescue::Ghost {
            ghost,
            until: env.now + GHOST_TIME,
        };
        self.enter(Phase::Ghost, fx);
        self.arm_ghost();
        fx.count(Counter::GhostOpened);
        Ok(())
    }

    fn arm_ghost(&mut self) {
        if let Rescue::Ghost { ghost, until } = &self.rescue {
            self.deadline = ghost.deadline().map_or(*until, |d| d.min(*until));
        }
    }

    /// A packet of the server to the ghost.
    pub(super) fn ghost_s2c(&mut self, p: &mut Packet<'_>, env: &Env, fx: &mut Effects) -> Verdict {
        let Rescue::Ghost { mut ghost, until } = self.rescue else {
            return Verdict::Drop(Counter::LateSocket);
        };
        let progress = ghost.hear(p, &self.voice(), env.now, fx);
        self.rescue = Rescue::Ghost { ghost, until };
        match progress {
            Progress::Going => {}
            Progress::Connected if ghost.is_silent() => {
                // Joining without prefix cannot fail: nothing of the answer was taken.
                let _ = self.join(0, 0, None, None, env, fx);
                return Verdict::Drop(Counter::GhostHeard);
            }
            Progress::Connected => {}
            Progress::Lost => self.ghost_lost(env, fx),
        }
        self.arm_ghost();
        Verdict::Drop(Counter::GhostHeard)
    }

    /// The server does not want the ghost. Userspace may try again or elsewhere; the client
    /// waits a little.
    pub(super) fn ghost_lost(&mut self, env: &Env, fx: &mut Effects) {
        self.rescue = Rescue::None;
        self.enter(Phase::Located, fx);
        self.deadline = env.now + LOCATED_TIME;
        fx.count(Counter::GhostLost);
        let mut log = Log::new(Kind::Failed, self.s2c.acked.raw(), self.c2s.next.raw());
        log.window = Counter::GhostLost as u32;
        fx.logs.push(log);
    }

    /// Sends the client `prefix` bytes from where it stands, then joins it to the server's
    /// bytes behind the first `answer` ones. `start` and `end` are those of the response.
    pub fn join(
        &mut self,
        answer: u64,
        prefix: u32,
        start: Option<u64>,
        end: Option<u64>,
        env: &Env,
        fx: &mut Effects,
    ) -> Result<(), Misfit> {
        let Rescue::Ghost { ghost, .. } = self.rescue else {
            return Err(Misfit::Phase);
        };
        if !ghost.is_connected() || u64::from(ghost.taken()) != answer {
            return Err(Misfit::Again);
        }
        let at = self.s2c.acked;
        let boundary = at.plus(u64::from(prefix));
        let end = end.map(Pos::new);
        if end.is_some_and(|e| e < boundary) {
            return Err(Misfit::Position);
        }
        let delta = Delta::between(boundary.seq(), ghost.boundary());
        let clock = ghost.server_clock();
        let tsval = self.clock.later(env.now);
        let delta_ts = clock.map_or(0, |(_, newest)| tsval.wrapping_sub(newest));
        let scale = self.handshake.client_shift();
        self.splice = Splice::new(
            Delta::ZERO,
            delta,
            ServiceClock {
                delta: delta_ts,
                first: clock.map(|(first, _)| first),
            },
        )
        .with_ack_floor(ghost.boundary())
        .with_windows(
            Rescale {
                from: scale,
                to: scale,
            },
            Rescale {
                from: ghost.server_shift(),
                to: self.handshake.service_shift(),
            },
        );
        self.clock.sent = tsval;
        self.joined = true;
        self.local_shift = ghost.server_shift();
        // Not what the old server offered: its window is gone.
        let edge = Delta::<C2s>::ZERO.to_client(ghost.edge());
        self.c2s.edge = self.c2s.next.nearest(edge).max(self.c2s.next);
        self.s2c.next = boundary;
        let window = u64::from(self.s2c.window) << self.handshake.client_shift();
        self.dead_edge = Some(at.plus(window));
        if let Some(start) = start {
            self.adopt_object(Pos::new(start), end, env);
        }
        ghost.hand_over(&self.voice(), self.window_beyond(prefix), fx);
        self.rescue = Rescue::Prefix {
            ghost,
            len: prefix,
            sent: 0,
            acked: 0,
            dups: 0,
            tries: 0,
        };
        self.enter(Phase::Joining, fx);
        self.deadline = env.now + PREFIX_RTO;
        fx.count(Counter::Joined);
        if prefix == 0 {
            self.joined(fx);
        } else {
            self.push_prefix(env, fx);
        }
        Ok(())
    }

    /// The response that is being continued is the current object, and safe already.
    fn adopt_object(&mut self, start: Pos<S2c>, end: Option<Pos<S2c>>, env: &Env) {
        self.object = Some(Object {
            request: self.c2s.next,
            start,
            end,
        });
        let Some(end) = end else { return };
        self.s2c.logged = end;
        self.s2c.log_end = end.plus(u64::from(env.policy.head_limit));
        if env.gating() {
            if env.policy.strict {
                self.s2c.gate.close(end);
            }
            if end > self.s2c.next {
                // The last byte of the request, if the client still has it.
                self.c2s
                    .gate
                    .close(Pos::new(self.c2s.next.raw().wrapping_sub(1)), env.now);
            }
        }
    }

    /// The client's window behind `prefix` bytes from where it stands, as the field says it.
    pub(super) fn window_beyond(&self, prefix: u32) -> u16 {
        let shift = self.handshake.client_shift();
        let bytes = (u32::from(self.s2c.window) << shift).saturating_sub(prefix);
        u16::try_from(bytes >> shift).unwrap_or(u16::MAX)
    }

    fn push_prefix(&mut self, env: &Env, fx: &mut Effects) {
        let Rescue::Prefix {
            ghost,
            len,
            mut sent,
            acked,
            dups,
            tries,
        } = self.rescue
        else {
            return;
        };
        let overhead = if self.handshake.timestamps { 12 } else { 0 };
        let mss = u32::from(self.handshake.mss)
            .saturating_sub(overhead)
            .clamp(64, PREFIX_MSS);
        let window = u32::from(self.s2c.window) << self.handshake.client_shift();
        let limit = len.min(acked.saturating_add(window.min(mss * PREFIX_FLIGHT)));
        let from = self.prefix_begin(len).raw();
        while sent < limit && fx.emits.room() > 0 {
            let n = (limit - sent).min(mss);
            let seq = Pos::<S2c>::new(from.wrapping_add(u64::from(sent))).seq();
            let flags = if sent + n == len {
                tcp::ACK | tcp::PSH
            } else {
                tcp::ACK
            };
            let segment = self.towards_client(seq, flags);
            fx.emits.push(Emit {
                segment,
                bytes: Bytes::Prefix { from: sent, len: n },
            });
            sent += n;
        }
        self.rescue = Rescue::Prefix {
            ghost,
            len,
            sent,
            acked,
            dups,
            tries,
        };
        self.deadline = env.now + (PREFIX_RTO << tries);
    }

    /// A plausible packet of a client that is being joined: what it says of the prefix.
    pub(super) fn prefix_acked(&mut self, p: &Packet<'_>, env: &Env, fx: &mut Effects) {
        let Rescue::Prefix {
            ghost,
            len,
            sent,
            acked,
            dups,
            ..
        } = self.rescue
        else {
            return;
        };
        if !p.has_ack() || p.rst() {
            return;
        }
        let from = Pos::<S2c>::new(self.s2c.next.raw()).nearest(Seq::new(p.ack()));
        // The server's own bytes may be on their way too: behind the prefix is all of it.
        let begin = self.prefix_begin(len);
        let now_acked = from.since(begin).min(u64::from(len)) as u32;
        if now_acked >= len {
            self.joined(fx);
            return;
        }
        let opened = p.window() > self.s2c.window;
        self.s2c.window = p.window();
        if now_acked > acked || opened {
            let sent = sent.max(now_acked);
            self.rescue = Rescue::Prefix {
                ghost,
                len,
                sent,
                acked: now_acked,
                dups: 0,
                tries: 0,
            };
            self.push_prefix(env, fx);
        } else if now_acked == acked && p.window() == 0 {
            // It pauses, and says so: it is not gone.
            self.rescue = Rescue::Prefix {
                ghost,
                len,
                sent,
                acked,
                dups: 0,
                tries: 0,
            };
        } else if now_acked == acked && p.payload_len() == 0 && sent > acked {
            let dups = dups.saturating_add(1);
            let again = dups == 3;
            let sent = if again { acked } else { sent };
            self.rescue = Rescue::Prefix {
                ghost,
                len,
                sent,
                acked,
                dups,
                tries: 0,
            };
            if again {
                fx.count(Counter::PrefixAgain);
                self.push_prefix(env, fx);
            }
        }
    }

    /// Where the prefix begins: fixed at the join, while `s2c.next` grows with the server.
    fn prefix_begin(&self, len: u32) -> Pos<S2c> {
        let Rescue::Prefix { ghost, .. } = self.rescue else {
            return self.s2c.next;
        };
        let boundary = self
            .s2c
            .next
            .nearest(self.splice.seq_to_client(ghost.boundary()));
        Pos::new(boundary.raw().wrapping_sub(u64::from(len)))
    }

    fn joined(&mut self, fx: &mut Effects) {
        let boundary = self.prefix_begin(0);
        self.rescue = Rescue::None;
        self.deadline = u64::MAX;
        self.enter(Phase::Open, fx);
        fx.count(Counter::Spliced);
        fx.logs
            .push(self.log_desc(Kind::Spliced, boundary.raw(), self.c2s.next.raw()));
    }

    /// The deadline of a flow without server has passed.
    pub(super) fn rescue_tick(&mut self, env: &Env, fx: &mut Effects) {
        match self.phase {
            Phase::Orphan => {
                fx.count(Counter::VerdictTimeout);
                self.pass(env, fx);
            }
            Phase::Locating => match self.rescue {
                Rescue::Probe { tries, .. } if tries < PROBES => self.probe(env, fx),
                _ => {
                    // It may be gone, or cut off; if it speaks later it is an orphan.
                    self.failed(Counter::Unlocated, fx);
                    fx.gone = true;
                }
            },
            Phase::Located => self.reset_client(Counter::NotRecovered, env, fx),
            Phase::Ghost => self.ghost_tick(env, fx),
            Phase::Joining => self.prefix_tick(env, fx),
            _ => {}
        }
    }

    fn ghost_tick(&mut self, env: &Env, fx: &mut Effects) {
        let Rescue::Ghost { mut ghost, until } = self.rescue else {
            return;
        };
        if env.now >= until {
            self.drop_ghost(fx);
            self.ghost_lost(env, fx);
            return;
        }
        let progress = ghost.tick(&self.voice(), env.now, fx);
        self.rescue = Rescue::Ghost { ghost, until };
        if progress == Progress::Lost {
            self.drop_ghost(fx);
            self.ghost_lost(env, fx);
        } else {
            self.arm_ghost();
        }
    }

    fn prefix_tick(&mut self, env: &Env, fx: &mut Effects) {
        let Rescue::Prefix {
            ghost,
            len,
            acked,
            tries,
            ..
        } = self.rescue
        else {
            return;
        };
        if tries >= PREFIX_TRIES {
            self.reset_client(Counter::PrefixLost, env, fx);
            return;
        }
        self.rescue = Rescue::Prefix {
            ghost,
            len,
            sent: acked,
            acked,
            dups: 0,
            tries: tries + 1,
        };
        fx.count(Counter::PrefixAgain);
        self.push_prefix(env, fx);
        if self.s2c.window == 0 {
            // A reader that pauses: ask it, and its answer takes the count back.
            let seq = Pos::<S2c>::new(self.prefix_begin(len).raw().wrapping_add(u64::from(acked)));
            let segment = self.towards_client(seq.seq().minus(1), tcp::ACK);
            fx.emits.push(Emit {
                segment,
                bytes: Bytes::None,
            });
        }
    }

    fn failed(&mut self, why: Counter, fx: &mut Effects) {
        self.reason = Some(why);
        fx.count(why);
        let mut log = Log::new(Kind::Failed, self.s2c.acked.raw(), self.c2s.next.raw());
        log.window = why as u32;
        fx.logs.push(log);
    }

    /// Gives the flow up: a clean end is better than a wrong byte.
    pub fn reset_client(&mut self, why: Counter, env: &Env, fx: &mut Effects) {
        self.failed(why, fx);
        // A reset counts only at exactly the next byte expected (RFC 5961, section 3.2).
        let mut segment = self.lost_client_segment(self.s2c.acked.seq(), tcp::RST | tcp::ACK, env);
        segment.window = 0;
        fx.emits.push(Emit {
            segment,
            bytes: Bytes::None,
        });
        match self.rescue {
            Rescue::Ghost { .. } | Rescue::Prefix { .. } => self.drop_ghost(fx),
            _ => self.reset_local(fx),
        }
        fx.discard = true;
        fx.count(Counter::ClientReset);
        self.close(log_flags::RST, env, fx);
    }

    /// Resets the local socket in the client's name.
    fn reset_local(&self, fx: &mut Effects) {
        if self.phase != Phase::Open {
            return;
        }
        let local = self.splice.delta_c2s().to_local(self.c2s.acked.seq());
        let segment = Segment {
            key: self.key,
            dir: Dir::ToService,
            seq: local.raw(),
            ack: 0,
            flags: tcp::RST,
            window: 0,
            ts: None,
            syn: None,
        };
        fx.emits.push(Emit {
            segment,
            bytes: Bytes::None,
        });
    }

    /// Leaves the flow to the local stack, if it never was translated.
    pub fn disown(&mut self, env: &Env, fx: &mut Effects) -> Result<(), Misfit> {
        if self.depends_on_us() {
            return Err(Misfit::Phase);
        }
        self.rescue = Rescue::None;
        self.s2c.gate.open();
        self.c2s.gate.open();
        fx.release = true;
        self.pass(env, fx);
        Ok(())
    }

    /// Says nothing more to the client and lets it say nothing: another node has the flow.
    pub fn mute(&mut self, env: &Env, fx: &mut Effects) {
        self.rescue = Rescue::None;
        self.muted = true;
        fx.discard = true;
        self.close(0, env, fx);
    }
}
