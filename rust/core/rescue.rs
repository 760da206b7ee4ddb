// SPDX-License-Identifier: GPL-2.0

//! A flow that lost its server: orphan, probe, ghost, join. Here is who has it, its ghost and
//! how it ends; `locate.rs` finds its client and `join.rs` continues the answer.
//!
//! Until it is joined, nothing of the client reaches the local stack and nothing of the local
//! stack reaches the client: its packets are taken as word of where it stands and dropped; it
//! sends them again. Whatever cannot be placed without doubt ends in a reset.

use super::client::{Clock, Handshake};
use super::counter::Counter;
use super::effects::{Bytes, Effects, Emit, Log, Verdict};
use super::flow::{Env, Flow, Joint, Phase, Rescue};
use super::gate::AckGate;
use super::ghost::{Ghost, Progress, Voice};
use super::ring::{flags as log_flags, Kind};
use super::seq::{C2s, Client, Local, Pos, S2c, Seq};
use super::wire::{flags as tcp, Dir, Key, Packet, Segment};

/// Probes before a silent client is left alone; it may still speak up by itself.
const PROBES: u8 = 20;
/// Milliseconds that a client which has spoken waits for userspace before it is reset.
pub(super) const LOCATED_TIME: u64 = 10_000;
/// Milliseconds from flow-recover to flow-join, and without a byte of what is to be discarded: that
/// may be more than any fixed time allows.
const GHOST_TIME: u64 = 10_000;
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
    /// A flow of another node.
    pub fn claimed(key: Key, claim: &Claim, env: &Env) -> Self {
        let mut flow = Flow::blank(key, Phase::Locating);
        flow.claim(claim);
        // In case that nothing follows.
        flow.deadline = env.now + LOCATED_TIME;
        flow
    }

    pub(super) fn claim(&mut self, claim: &Claim) {
        let ours = self.lost.is_some();
        if self.muted || ours {
            // Nothing of the socket that it had here counts any more.
            let clock = self.clock;
            // What it has sent may still arrive.
            let sent = self
                .dead_edge
                .map_or(self.s2c.next, |e| e.max(self.s2c.next));
            *self = Flow {
                clock,
                dead_edge: ours.then_some(sent),
                ..Flow::blank(self.key, self.phase)
            };
        }
        self.generation = claim.generation;
        self.handshake = claim.handshake;
        self.c2s.next = claim.next;
        self.c2s.acked = claim.next;
        self.c2s.edge = claim.next.plus(FIRST_EDGE);
        // What was told is all below `next`, and counted by an older claim perhaps.
        self.c2s.gate = AckGate::default();
        let heard = self.clock;
        self.clock = claim.clock.taken_over(claim.generation);
        // What the client said to us is newer than what it said to the old server.
        if let Some(((tsval, tsecr), since)) = heard.heard() {
            // All that the dead server of this node has said is known; an echo of it that no
            // record has must not be the base of another margin.
            let tsecr = if ours { self.clock.tsecr } else { tsecr };
            self.clock.hear(Some((tsval, tsecr)), since);
            self.clock.say(heard.sent);
        }
    }

    /// Whether the takeover `generation` may open a connection for it: also another one, when the
    /// server of the one before is not the right one.
    pub fn may_be_recovered(&self, generation: u32) -> Result<(), Misfit> {
        if self.phase == Phase::Ghost && generation >= self.generation {
            return Ok(());
        }
        self.may_be_claimed(generation)
    }

    /// Whether the takeover `generation` may have the flow as it is.
    pub fn may_be_claimed(&self, generation: u32) -> Result<(), Misfit> {
        match self.phase {
            Phase::Orphan | Phase::Locating | Phase::Located | Phase::Passing => {}
            // It went to another node and comes back.
            Phase::Closing if self.muted && generation > self.generation => {}
            // Its server has closed.
            Phase::Open | Phase::Joining if self.is_lost() && generation > self.generation => {}
            _ => return Err(Misfit::Phase),
        }
        if generation < self.generation {
            return Err(Misfit::Generation);
        }
        Ok(())
    }

    pub(super) fn drop_ghost(&mut self, fx: &mut Effects) {
        if let Rescue::Ghost { ghost, .. } | Rescue::Prefix { ghost, .. } = self.rescue {
            ghost.reset(&self.voice(), fx);
        }
        self.rescue = Rescue::None;
    }

    pub(super) fn voice(&self) -> Voice<'_> {
        Voice {
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
        self.may_be_recovered(claim.generation)?;
        let wanted = self.s2c.acked.seq();
        if matches!(self.phase, Phase::Located | Phase::Ghost) && at.seq() != wanted {
            // Userspace speaks of another position than the client did.
            return Err(Misfit::Position);
        }
        self.drop_ghost(fx);
        self.claim(claim);
        self.local_port = None;
        self.s2c.next = at;
        self.s2c.acked = at;
        self.s2c.reported = at;
        self.stands_at(at.seq());
        self.dead_server_reached(at);
        let next = Seq::<Local, C2s>::new(claim.next.seq().raw());
        // Less than a unit of the client's scale would be no window at all.
        let window = window.max(1 << self.handshake.client_shift());
        let ghost = Ghost::new(next, request, window, env.now);
        ghost.open(&self.voice(), fx);
        self.rescue = Rescue::Ghost {
            ghost,
            until: env.now + GHOST_TIME,
            joint: None,
        };
        self.enter(Phase::Ghost, fx);
        self.arm_ghost();
        fx.count(Counter::GhostOpened);
        // What another ghost has heard may still be unread.
        fx.logs
            .push(Log::new(Kind::Asked, at.raw(), self.c2s.next.raw()));
        Ok(())
    }

    /// The ghost that was just opened is for the listener at `port` of the loopback address.
    pub fn direct(&mut self, port: u16) {
        self.local_port = Some(port);
    }

    /// Port of the loopback listener that the ghost is for, if not the service's own server.
    pub fn local_port(&self) -> Option<u16> {
        self.local_port
    }

    /// The ghost discards what the client has of the answer; some of it came just now.
    pub(super) fn go_on_skipping(&mut self, ghost: Ghost, joint: Joint, env: &Env) {
        self.rescue = Rescue::Ghost {
            ghost,
            until: env.now + GHOST_TIME,
            joint: Some(joint),
        };
        self.arm_ghost();
    }

    fn arm_ghost(&mut self) {
        if let Rescue::Ghost { ghost, until, .. } = &self.rescue {
            self.deadline = ghost.deadline().map_or(*until, |d| d.min(*until));
        }
    }

    /// Lets the ghost, if there is one, go on: what came of that, the ghost as it is then, and how it
    /// is to be joined.
    fn with_ghost(
        &mut self,
        go_on: impl FnOnce(&mut Ghost, &Voice<'_>) -> Progress,
    ) -> Option<(Progress, Ghost, Option<Joint>)> {
        let voice = Voice {
            handshake: &self.handshake,
            clock: &self.clock,
        };
        let Rescue::Ghost { ghost, joint, .. } = &mut self.rescue else {
            return None;
        };
        Some((go_on(ghost, &voice), *ghost, *joint))
    }

    /// A packet of the server to the ghost.
    pub(super) fn ghost_s2c(&mut self, p: &mut Packet<'_>, env: &Env, fx: &mut Effects) -> Verdict {
        let heard = self.with_ghost(|ghost, voice| ghost.hear(p, voice, env.now, fx));
        let Some((progress, ghost, joint)) = heard else {
            return Verdict::Drop(Counter::LateSocket);
        };
        match (progress, joint) {
            (Progress::Connected, _) if ghost.is_silent() => {
                // Nothing was asked, so that nothing of an answer was taken.
                let joint = Joint {
                    prefix: 0,
                    start: None,
                    end: None,
                };
                self.connect(&ghost, joint, env, fx);
                return Verdict::Drop(Counter::GhostHeard);
            }
            (Progress::AtJoint, Some(joint)) => {
                self.connect(&ghost, joint, env, fx);
                return Verdict::Drop(Counter::GhostHeard);
            }
            (Progress::Skipped, Some(joint)) => self.go_on_skipping(ghost, joint, env),
            (Progress::Lost, Some(_)) => {
                // It may have closed only, and have more to say.
                self.drop_ghost(fx);
                self.ghost_lost(env, fx);
            }
            (Progress::Lost, None) => self.ghost_lost(env, fx),
            _ => {}
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

    /// The deadline of a flow without server has passed.
    pub(super) fn rescue_tick(&mut self, env: &Env, fx: &mut Effects) {
        match self.phase {
            Phase::Orphan => {
                fx.count(Counter::VerdictTimeout);
                self.pass_orphan(env, fx);
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
        let Rescue::Ghost { until, .. } = self.rescue else {
            return;
        };
        if env.now < until {
            let ticked = self.with_ghost(|ghost, voice| ghost.tick(voice, env.now, fx));
            if !matches!(ticked, Some((Progress::Lost, ..))) {
                return self.arm_ghost();
            }
        }
        self.drop_ghost(fx);
        self.ghost_lost(env, fx);
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
        let (first, last) = self.may_stand();
        // What another node's client hears is not ours to say.
        if !self.muted {
            self.tell_client(first, tcp::RST | tcp::ACK, env, fx);
            if last != first {
                self.tell_client(last, tcp::RST | tcp::ACK, env, fx);
            }
            fx.count(Counter::ClientReset);
        }
        match self.rescue {
            Rescue::Ghost { .. } | Rescue::Prefix { .. } => self.drop_ghost(fx),
            _ => self.reset_local(fx),
        }
        fx.discard = true;
        self.close(log_flags::RST, env, fx);
    }

    /// Where the client may be. A reset counts only at exactly the next byte that it expects (RFC 5961, section 3.2): what
    /// it has said last, or, if more is under way to it, which arrives first, behind that.
    fn may_stand(&self) -> (Seq<Client, S2c>, Seq<Client, S2c>) {
        let (acked, next) = (self.s2c.acked.seq(), self.s2c.next.seq());
        match (self.phase, self.stands) {
            (
                Phase::Orphan | Phase::Locating | Phase::Located | Phase::Ghost | Phase::Passing,
                Some(at),
            ) => (at, at),
            // It has bytes of the dead server that the new one has not sent yet.
            (_, Some(at)) if self.dead_edge.is_some() && at.after(next) => (acked, at),
            _ => (acked, next),
        }
    }

    /// Resets the local socket in the client's name.
    fn reset_local(&self, fx: &mut Effects) {
        if self.phase != Phase::Open {
            return;
        }
        let local = self.splice.delta_c2s().to_local(self.c2s.acked.seq());
        let segment = Segment {
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
        if self.is_lost() {
            self.let_close(env, fx);
            return Ok(());
        }
        if self.depends_on_us() {
            return Err(Misfit::Phase);
        }
        self.rescue = Rescue::None;
        self.s2c.gate.open();
        self.c2s.gate.open();
        fx.release = true;
        match self.phase {
            Phase::Orphan => self.pass_orphan(env, fx),
            _ => self.pass(env, fx),
        }
        Ok(())
    }

    /// Says nothing more to the client and lets it say nothing: another node has the flow.
    pub fn mute(&mut self, env: &Env, fx: &mut Effects) {
        if self.phase == Phase::Opening && self.answered {
            // Its client may take the connection for open: who has the flow now must know it. The
            // packet that it is known by there brings timestamps.
            self.tell_opened(None, fx);
        }
        self.rescue = Rescue::None;
        self.muted = true;
        fx.discard = true;
        self.close(0, env, fx);
    }
}
