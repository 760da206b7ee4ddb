// SPDX-License-Identifier: GPL-2.0

//! The client is joined to the connection that its ghost has opened: the prefix, which is what
//! it lacks of the answer before the server's own bytes follow, is sent until it is
//! acknowledged; from there on the flow is translated.

use super::counter::Counter;
use super::effects::{Bytes, Effects, Emit};
use super::flow::{Env, Flow, Joint, Object, Phase, Rescue};
use super::ghost::Ghost;
use super::rescue::Misfit;
use super::ring::Kind;
use super::seq::{C2s, Delta, Pos, S2c, Seq};
use super::splice::{Clock as ServiceClock, Rescale, Splice};
use super::wire::{flags as tcp, Packet};

/// First retransmission timeout of the prefix in milliseconds; it doubles.
const PREFIX_RTO: u64 = 300;
/// Retransmissions of the prefix before the client counts as gone.
const PREFIX_TRIES: u8 = 8;
/// Segments of the prefix in flight (RFC 6928).
const PREFIX_FLIGHT: u32 = 10;
/// Most bytes of the prefix in a segment: any path carries them, so that no answer of path MTU
/// discovery has to be waited for (RFC 8200: 1280 bytes with headers and options).
const PREFIX_MSS: u32 = 1200;

/// A position that userspace may have left out.
fn position<D>(raw: Option<u64>) -> Result<Option<Pos<D>>, Misfit> {
    raw.map(|raw| Pos::checked(raw).ok_or(Misfit::Position))
        .transpose()
}

impl Flow {
    /// Sends the client `prefix` bytes from where it stands, then joins it to the server's
    /// bytes behind the first `answer` ones and `skip` more, which are discarded first. `start`
    /// and `end` are those of the response.
    #[allow(clippy::too_many_arguments)]
    pub fn join(
        &mut self,
        answer: u64,
        skip: u64,
        prefix: u32,
        start: Option<u64>,
        end: Option<u64>,
        env: &Env,
        fx: &mut Effects,
    ) -> Result<(), Misfit> {
        let Rescue::Ghost {
            mut ghost,
            joint: None,
            ..
        } = self.rescue
        else {
            return Err(Misfit::Phase);
        };
        // What has ended cannot be skipped: userspace is told of the end by the log.
        let ended = skip > 0 && ghost.has_ended();
        if !ghost.is_connected() || u64::from(ghost.taken()) != answer || ended {
            return Err(Misfit::Again);
        }
        let (start, end) = (position(start)?, position(end)?);
        let boundary = self.s2c.acked.plus(u64::from(prefix));
        if end.is_some_and(|e| e < boundary) || skip >> 62 != 0 {
            return Err(Misfit::Position);
        }
        let joint = Joint { prefix, start, end };
        if skip == 0 {
            self.connect(&ghost, joint, env, fx);
            return Ok(());
        }
        ghost.skip(skip, &self.voice(), fx);
        fx.count(Counter::Replayed);
        self.go_on_skipping(ghost, joint, env);
        Ok(())
    }

    /// Whether [`Flow::join`] may be called, and the prefix be changed.
    pub fn waits_for_join(&self) -> bool {
        matches!(self.rescue, Rescue::Ghost { joint: None, .. })
    }

    /// The ghost stands at its joint.
    pub(super) fn connect(&mut self, ghost: &Ghost, joint: Joint, env: &Env, fx: &mut Effects) {
        let Joint { prefix, start, end } = joint;
        let ghost = *ghost;
        let at = self.s2c.acked;
        let boundary = at.plus(u64::from(prefix));
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
        self.dead_server_reached(at);
        if let Some(start) = start {
            self.adopt_object(start, end, env);
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
                self.c2s.gate.close(self.c2s.next.minus(1), env.now);
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
        let from = self.prefix_begin(len);
        while sent < limit && fx.emits.room() > 0 {
            let n = (limit - sent).min(mss);
            let seq = from.plus(u64::from(sent)).seq();
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
        let from = self.s2c.next.nearest(Seq::new(p.ack()));
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
        boundary.minus(u64::from(len))
    }

    pub(super) fn joined(&mut self, fx: &mut Effects) {
        let boundary = self.prefix_begin(0);
        self.rescue = Rescue::None;
        self.deadline = u64::MAX;
        self.enter(Phase::Open, fx);
        fx.count(Counter::Spliced);
        fx.logs
            .push(self.log_desc(Kind::Spliced, boundary.raw(), self.c2s.next.raw()));
    }

    pub(super) fn prefix_tick(&mut self, env: &Env, fx: &mut Effects) {
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
            let seq = self.prefix_begin(len).plus(u64::from(acked));
            let segment = self.towards_client(seq.seq().minus(1), tcp::ACK);
            fx.emits.push(Emit {
                segment,
                bytes: Bytes::None,
            });
        }
    }
}
