// SPDX-License-Identifier: GPL-2.0

//! One client connection of a service, as a state machine.
//!
//! ```text
//!  SYN                                  packet of nobody         flow-locate
//!   |                                          |                      |
//!   v    SYN-ACK                               v                      v
//! Opening -----> Open ------> Closing        Orphan --verdict--+   Locating
//!                 ^   FIN, FIN or RST          |               |      | the client speaks
//!                 |                            |               v      v
//!                 | prefix acknowledged        |  timeout    Passing Located
//!                 |                            +---------------^      | flow-recover
//!              Joining <-------- flow-join ---------- Ghost <---------+
//! ```
//!
//! This file has the state and what every phase shares. [`served`](super::served) is the
//! flow with a local socket, [`rescue`](super::rescue) the flow that lost its own.
//!
//! Every method runs under the flow's lock, in softirq or process context, and neither
//! sleeps nor allocates.

use super::client::{Clock, Handshake};
use super::counter::Counter;
use super::effects::{Effects, Log, LogData, Verdict};
use super::gate::{AckGate, DataGate};
use super::ghost::Ghost;
use super::lost::Lost;
use super::opening::Again;
use super::ring::{flags as log_flags, Desc, Kind};
use super::seq::{C2s, Client, Local, Pos, S2c, Seq};
use super::shadow::Shadow;
use super::splice::Splice;
use super::wire::{Key, Packet};

/// Milliseconds that a handshake may take.
pub(super) const OPENING_TIME: u64 = 60_000;
/// Milliseconds that a finished flow is kept: as long as Linux keeps TIME_WAIT.
pub(super) const CLOSING_TIME: u64 = 60_000;
/// Milliseconds that a flow which is not ours is left alone before it may be asked about again:
/// longer than a client pauses between retransmissions (`TCP_RTO_MAX`, 120 s), or it would
/// be an orphan again each time, and nobody would ever answer it.
pub(super) const PASSING_TIME: u64 = 125_000;

/// The life of a flow; the values are those of `enum holdfast_phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// A SYN was seen.
    Opening = 0,
    /// Served by a local socket.
    Open = 1,
    /// Its packets belong to no local socket; waits for a verdict.
    Orphan = 2,
    /// Its client was asked where it stands.
    Locating = 3,
    /// Its client has spoken; waits for flow-recover.
    Located = 4,
    /// A connection to the server is opened in the client's name.
    Ghost = 5,
    /// Joined; the prefix is on its way to the client.
    Joining = 6,
    /// Over.
    Closing = 7,
    /// Left to the stack.
    Passing = 8,
}

/// What the service wants for its flows, and whether anybody reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Gates close and orphans are caught; otherwise flows are only observed.
    pub protect: bool,
    /// The first bytes of a response wait for flow-commit.
    pub strict: bool,
    /// Longest wait for flow-commit in milliseconds.
    pub hold_ms: u32,
    /// Longest wait of an orphan for a verdict in milliseconds.
    pub verdict_ms: u32,
    /// Most bytes of a response that are logged.
    pub head_limit: u32,
    /// Most bytes of a request that the ack gate holds.
    pub request_limit: u32,
    /// The four bytes by which the head of a response ends, the first one highest; 0: nobody knows.
    pub head_end: u32,
    /// If more bytes than these follow the head in its packet,
    pub body_whole: u32,
    /// only so many of them are logged.
    pub body_part: u32,
    /// The log has a reader.
    pub reader: bool,
}

/// What a decision depends on besides the flow and the packet.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    /// Monotonic clock in milliseconds.
    pub now: u64,
    /// Of the flow's service, as it is now.
    pub policy: Policy,
}

impl Env {
    /// Whether gates may close: somebody must be there to open them.
    pub(super) fn gating(&self) -> bool {
        self.policy.protect && self.policy.reader
    }
}

/// The client's stream as far as it was seen. Client space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FromClient {
    /// Behind the newest byte.
    pub next: Pos<C2s>,
    /// What the local socket has acknowledged: final.
    pub acked: Pos<C2s>,
    /// Up to where the local socket lets the client send.
    pub edge: Pos<C2s>,
    /// The position of the FIN.
    pub fin: Option<Pos<C2s>>,
    pub gate: AckGate,
}

/// The service's stream as far as it went. Client space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToClient {
    /// Behind the newest byte that left.
    pub next: Pos<S2c>,
    /// What the client has acknowledged.
    pub acked: Pos<S2c>,
    /// The client's window field, unscaled.
    pub window: u16,
    /// The position of the FIN.
    pub fin: Option<Pos<S2c>>,
    pub gate: DataGate,
    /// Bytes from here to `log_end` are logged.
    pub logged: Pos<S2c>,
    pub log_end: Pos<S2c>,
    /// Where the last progress record was written.
    pub reported: Pos<S2c>,
    /// When that was, in milliseconds.
    pub reported_at: u64,
}

/// A request and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// First byte of the request.
    pub request: Pos<C2s>,
    /// First byte of the response.
    pub start: Pos<S2c>,
    /// Behind its last byte, once userspace knows.
    pub end: Option<Pos<S2c>>,
}

/// What userspace has said of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joint {
    /// Bytes of the prefix.
    pub prefix: u32,
    /// The response's first byte, if it becomes the current object.
    pub start: Option<Pos<S2c>>,
    /// Behind its last byte.
    pub end: Option<Pos<S2c>>,
}

/// What phases of rescue need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rescue {
    None,
    /// The orphan was reported: what it says until the verdict tells nothing more.
    Reported,
    Probe {
        seq: Seq<Client, S2c>,
        /// Any word of the client is an answer.
        anywhere: bool,
        tries: u8,
    },
    Ghost {
        ghost: Ghost,
        until: u64,
        /// How it is to be joined once it has discarded what the client has.
        joint: Option<Joint>,
    },
    Prefix {
        ghost: Ghost,
        len: u32,
        sent: u32,
        acked: u32,
        dups: u8,
        tries: u8,
    },
}

/// One client connection of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub(super) key: Key,
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) handshake: Handshake,
    pub(super) clock: Clock,
    pub(super) isn_c2s: Seq<Client, C2s>,
    pub(super) isn_s2c: Seq<Client, S2c>,
    pub(super) splice: Splice,
    /// The local socket's window scale.
    pub(super) local_shift: u8,
    pub(super) c2s: FromClient,
    pub(super) s2c: ToClient,
    pub(super) object: Option<Object>,
    /// The local stack has answered the SYN.
    pub(super) answered: bool,
    /// A ghost opened the connection to the local socket: its handshake is not the client's.
    pub(super) joined: bool,
    /// Port of the loopback listener that the ghost is for; `None`: the service's own server.
    pub(super) local_port: Option<u16>,
    /// Another node has it: no word to the client.
    pub(super) muted: bool,
    /// The local server has closed, and that waits with the bytes before it.
    pub(super) closing: Option<Lost>,
    /// The local server has closed early; that is held back.
    pub(super) lost: Option<Lost>,
    /// Userspace can still continue it.
    pub(super) protected: bool,
    /// Where the gates would stand if the service were not only observed.
    pub(super) shadow: Shadow,
    pub(super) rescue: Rescue,
    /// The newest byte that a client without server, or ahead of it, has said it expects, or is known to.
    pub(super) stands: Option<Seq<Client, S2c>>,
    /// When [`Flow::tick`] has something to do; `u64::MAX`: never.
    pub(super) deadline: u64,
    /// When the held bytes go without commit; `u64::MAX`: none are held.
    pub(super) hold_deadline: u64,
    /// When the ack gate opens if no byte of the response has come; `u64::MAX`: never.
    pub(super) ack_deadline: u64,
    /// When the next progress record is due; `u64::MAX`: the client has not come far enough.
    pub(super) progress_deadline: u64,
    /// A SYN that came while the old connection seemed to live.
    pub(super) again: Option<Again>,
    /// Up to where the client may have bytes of a server that died.
    pub(super) dead_edge: Option<Pos<S2c>>,
    /// Why it cannot be continued any more.
    pub(super) unprotected: Option<Counter>,
    /// Why it failed.
    pub(super) reason: Option<Counter>,
}

impl Flow {
    /// A flow of which nothing is known but its name.
    pub(super) fn blank(key: Key, phase: Phase) -> Self {
        Flow {
            key,
            generation: 0,
            phase,
            handshake: Handshake {
                mss: 536,
                wscale_client: None,
                wscale_service: None,
                sack: false,
                timestamps: false,
            },
            clock: Clock::default(),
            isn_c2s: Seq::new(0),
            isn_s2c: Seq::new(0),
            splice: Splice::identity(),
            local_shift: 0,
            c2s: FromClient {
                next: Pos::starting(Seq::new(0)),
                acked: Pos::starting(Seq::new(0)),
                edge: Pos::starting(Seq::new(0)),
                fin: None,
                gate: AckGate::default(),
            },
            s2c: ToClient {
                next: Pos::starting(Seq::new(0)),
                acked: Pos::starting(Seq::new(0)),
                window: 0,
                fin: None,
                gate: DataGate::default(),
                logged: Pos::starting(Seq::new(0)),
                log_end: Pos::starting(Seq::new(0)),
                reported: Pos::starting(Seq::new(0)),
                reported_at: 0,
            },
            object: None,
            answered: false,
            joined: false,
            local_port: None,
            muted: false,
            closing: None,
            lost: None,
            protected: true,
            shadow: Shadow::default(),
            rescue: Rescue::None,
            stands: None,
            deadline: u64::MAX,
            hold_deadline: u64::MAX,
            ack_deadline: u64::MAX,
            progress_deadline: u64::MAX,
            again: None,
            dead_edge: None,
            unprotected: None,
            reason: None,
        }
    }

    /// The 4-tuple.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Where the flow is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the connection breaks if the module leaves it.
    pub fn depends_on_us(&self) -> bool {
        !self.splice.is_identity() || matches!(self.phase, Phase::Ghost | Phase::Joining)
    }

    /// Whether bytes of the service wait for a record, or for the end of the time that they may.
    pub fn is_holding(&self) -> bool {
        self.hold_deadline != u64::MAX
    }

    /// The sequence number of a quotation in an ICMP error, as the local socket sent it.
    pub fn quoted_to_local(&self, seq: Seq<Client, S2c>) -> Seq<Local, S2c> {
        self.splice.delta_s2c().to_local(seq)
    }

    /// When [`Flow::tick`] has something to do, in milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        let gates = self.hold_deadline.min(self.ack_deadline);
        let d = self.deadline.min(gates).min(self.progress_deadline);
        (d != u64::MAX).then_some(d)
    }

    /// All that userspace may want to see.
    pub fn snapshot(&self, now: u64) -> Snapshot {
        Snapshot {
            phase: self.phase,
            generation: self.generation,
            c2s_next: self.c2s.next.raw(),
            s2c_next: self.s2c.next.raw(),
            s2c_acked: self.s2c.acked.raw(),
            object_start: self.object.map(|o| o.start.raw()),
            object_end: self.object.and_then(|o| o.end).map(Pos::raw),
            data_gate: self.s2c.gate.position().map(Pos::raw),
            ack_gate: self.c2s.gate.position().map(Pos::raw),
            // Towards the local side, as it is asked for.
            delta_c2s: self.splice.delta_c2s().raw().wrapping_neg(),
            delta_s2c: self.splice.delta_s2c().raw(),
            delta_ts: self.splice.clock().delta,
            handshake: self.handshake,
            tsval: self.clock.tsval,
            tsecr: self.clock.tsecr,
            ts_age: now.saturating_sub(self.clock.since) as u32,
            joined: self.joined,
            failed: self.reason.is_some(),
            reason: self
                .reason
                .or(self.lost.map(|_| Counter::CloseHeld))
                .or(self.unprotected),
        }
    }

    /// The flow's name and options for the log.
    pub fn desc(&self) -> Desc {
        const NO_SCALE: u8 = 255;
        Desc {
            key: self.key.to_bytes(),
            isn_c2s: self.isn_c2s.raw(),
            isn_s2c: self.isn_s2c.raw(),
            generation: self.generation,
            mss: self.handshake.mss,
            wscale_client: self.handshake.wscale_client.unwrap_or(NO_SCALE),
            wscale_service: self.handshake.wscale_service.unwrap_or(NO_SCALE),
            options: u16::from(self.handshake.sack) | (u16::from(self.handshake.timestamps) << 1),
            reserved: [0; 6],
        }
    }

    /// Shows a packet of the client, whose checksum the caller has verified if it has a
    /// payload.
    pub fn hear_client(&mut self, p: &mut Packet<'_>, env: &Env, fx: &mut Effects) -> Verdict {
        if self.muted {
            return Verdict::Drop(Counter::Muted);
        }
        if self.lost.is_some() && !p.rst() {
            return self.hear_of_lost(p, env);
        }
        match self.phase {
            Phase::Opening | Phase::Open | Phase::Joining | Phase::Closing => {
                self.served_c2s(p, env, fx)
            }
            Phase::Orphan | Phase::Locating | Phase::Located | Phase::Ghost => {
                self.lost_c2s(p, env, fx)
            }
            Phase::Passing if p.syn() && !p.has_ack() => {
                // The client uses its port again.
                self.begin_anew(p, env, fx);
                self.served_c2s(p, env, fx)
            }
            Phase::Passing => Verdict::Accept,
        }
    }

    /// Shows a packet of the local socket.
    pub fn hear_service(&mut self, p: &mut Packet<'_>, env: &Env, fx: &mut Effects) -> Verdict {
        if self.muted {
            return Verdict::Drop(Counter::Muted);
        }
        if self.lost.is_some() {
            return Verdict::Drop(Counter::LateSocket);
        }
        match self.phase {
            // It was lost and given up: what a server still says is not for its client, but for
            // the stack's own reset, as ours may not have arrived.
            Phase::Closing if !self.answered && !self.joined && !p.rst() => {
                Verdict::Drop(Counter::LateSocket)
            }
            Phase::Opening | Phase::Open | Phase::Joining | Phase::Closing => {
                self.served_s2c(p, env, fx)
            }
            Phase::Ghost => self.ghost_s2c(p, env, fx),
            // A socket of old that this node still has: the client must not hear it.
            Phase::Orphan | Phase::Locating | Phase::Located => Verdict::Drop(Counter::LateSocket),
            Phase::Passing => Verdict::Accept,
        }
    }

    /// The time of [`Flow::deadline`] has come.
    pub fn tick(&mut self, env: &Env, fx: &mut Effects) {
        if self.lost.is_some() {
            if env.now >= self.deadline {
                self.let_close(env, fx);
            }
            return;
        }
        if env.now >= self.hold_deadline {
            self.hold_deadline = u64::MAX;
            self.give_up_protection(Counter::HoldTimeout, fx);
        }
        if env.now >= self.ack_deadline {
            // A client that waits for the acknowledgement of a part before it sends the rest
            // (Nagle) would wait for ever.
            self.release_ack(fx);
        }
        self.report_progress(env, fx);
        if env.now < self.deadline {
            return;
        }
        self.deadline = u64::MAX;
        match self.phase {
            Phase::Open => {}
            Phase::Opening => {
                fx.count(Counter::HandshakeTimeout);
                fx.gone = true;
            }
            Phase::Closing | Phase::Passing => fx.gone = true,
            Phase::Orphan | Phase::Locating | Phase::Located | Phase::Ghost | Phase::Joining => {
                self.rescue_tick(env, fx);
            }
        }
    }

    /// A log record could not be written: what it told is missing, so the flow cannot be
    /// continued any more.
    pub fn log_failed(&mut self, env: &Env, fx: &mut Effects) {
        if self.phase == Phase::Ghost {
            // Bytes of the answer are missing that the server believes delivered.
            self.drop_ghost(fx);
            self.ghost_lost(env, fx);
        } else {
            self.let_close(env, fx);
            self.give_up_protection(Counter::LogFull, fx);
        }
    }

    /// The reader of the log is gone: everything goes on as without us.
    pub fn reader_gone(&mut self, env: &Env, fx: &mut Effects) {
        self.let_close(env, fx);
        self.open_gates(fx);
        self.object = None;
    }

    /// The service is only observed from now on. What a flow needs to live goes on: one that was
    /// continued stays translated, one that is being continued is brought to its end.
    pub fn only_observed(&mut self, env: &Env, fx: &mut Effects) {
        match self.phase {
            Phase::Orphan => self.pass(env, fx),
            _ => self.open_gates(fx),
        }
    }

    /// Lets the flow go on without protection; it cannot be continued elsewhere.
    pub(super) fn give_up_protection(&mut self, why: Counter, fx: &mut Effects) {
        if self.protected {
            self.protected = false;
            self.unprotected = Some(why);
            fx.count(why);
            let mut log = Log::new(Kind::Unprotected, self.s2c.next.raw(), self.c2s.next.raw());
            log.window = why as u32;
            fx.logs.push(log);
        }
        self.open_gates(fx);
    }

    fn open_gates(&mut self, fx: &mut Effects) {
        self.shadow = Shadow::default();
        self.release_ack(fx);
        self.s2c.gate.open();
        self.hold_deadline = u64::MAX;
        fx.release = true;
    }

    pub(super) fn enter(&mut self, phase: Phase, fx: &mut Effects) {
        self.phase = phase;
        fx.notify = true;
    }

    /// The flow is over; it stays for a while to translate what still comes.
    pub(super) fn close(&mut self, flags: u16, env: &Env, fx: &mut Effects) {
        if self.phase == Phase::Closing {
            return;
        }
        self.enter(Phase::Closing, fx);
        self.lost = None;
        self.deadline = env.now + CLOSING_TIME;
        self.rescue = Rescue::None;
        self.c2s.gate.open();
        self.ack_deadline = u64::MAX;
        self.progress_deadline = u64::MAX;
        if flags & log_flags::RST != 0 {
            fx.discard = true;
            self.hold_deadline = u64::MAX;
        }
        let mut log = Log::new(Kind::Closed, self.s2c.next.raw(), self.c2s.next.raw());
        log.flags = flags;
        fx.logs.push(log);
        fx.count(Counter::FlowClosed);
    }

    pub(super) fn log_desc(&self, kind: Kind, pos: u64, ack: u64) -> Log {
        let mut log = Log::new(kind, pos, ack);
        log.data = LogData::Desc;
        log
    }
}

/// A flow as userspace sees it; the fields are those of the netlink attributes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Snapshot {
    pub phase: Phase,
    pub generation: u32,
    pub c2s_next: u64,
    pub s2c_next: u64,
    pub s2c_acked: u64,
    pub object_start: Option<u64>,
    pub object_end: Option<u64>,
    pub data_gate: Option<u64>,
    pub ack_gate: Option<u64>,
    pub delta_c2s: u32,
    pub delta_s2c: u32,
    pub delta_ts: u32,
    pub handshake: Handshake,
    pub tsval: u32,
    pub tsecr: u32,
    pub ts_age: u32,
    pub joined: bool,
    pub failed: bool,
    pub reason: Option<Counter>,
}
