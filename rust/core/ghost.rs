// SPDX-License-Identifier: GPL-2.0

//! The ghost: opens a connection to a server in a client's name.
//!
//! ```text
//!   Syn ----SYN-ACK----> Asking ----flow-join----> joined (a [`Splice`] takes over)
//!    |                     |  sends the request, takes up to `window` bytes of the answer
//!    +------RST, no answer-+---> lost
//! ```
//!
//! The initial sequence number is chosen so that behind the request the ghost stands where
//! the client does: client-to-server numbers need no translation afterwards. The answer is
//! taken byte by byte into the log, acknowledged, and discarded; the window is small and its
//! edge fixed, so that little of the body comes along with the head. What did come along goes
//! to the client as part of the prefix.
//!
//! All numbers of the server are local space; the client's are the same in both spaces.
//!
//! [`Splice`]: super::splice::Splice

use super::client::{Clock, Handshake};
use super::effects::{Bytes, Effects, Emit, Log, LogData};
use super::ring::{flags as log_flags, Kind};
use super::seq::{C2s, Local, S2c, Seq};
use super::wire::{flags as tcp, Dir, Packet, Segment};

/// First retransmission timeout in milliseconds; it doubles. The server is local.
const RTO: u64 = 100;

/// Retransmissions before the ghost gives up.
const TRIES: u8 = 6;

/// Segments of the request that are in flight at once.
const FLIGHT: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Syn,
    Asking,
}

/// What came of a packet or a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing that the flow must know.
    Going,
    /// The connection is open.
    Connected,
    /// The server refused, reset or never answered.
    Lost,
}

/// An active opener and sender in a client's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ghost {
    stage: Stage,
    /// Sequence number of the SYN.
    isn: Seq<Local, C2s>,
    /// Bytes of the request.
    request: u32,
    /// Bytes of the request that the server has acknowledged.
    acked: u32,
    /// Bytes of the request that were sent.
    sent: u32,
    /// The server's first byte.
    first: Seq<Local, S2c>,
    /// Up to where the server lets the client send.
    edge: Seq<Local, C2s>,
    /// Bytes of the answer that were taken.
    taken: u32,
    /// Bytes of the answer that may be taken.
    window: u32,
    /// Largest segment towards the server in bytes.
    mss: u32,
    /// The server's newest TSval, and its first.
    tsval: u32,
    first_tsval: u32,
    /// The server's window scale.
    wscale: u8,
    /// Whether the server speaks timestamps.
    timestamps: bool,
    fin: bool,
    tries: u8,
    /// When to retransmit, in milliseconds.
    deadline: u64,
}

impl Ghost {
    /// A ghost that will have sent `request` bytes when it stands at `next`, the position
    /// of the client's next byte, and takes `window` bytes of the answer at most.
    pub fn new(next: Seq<Local, C2s>, request: u32, window: u32, now: u64) -> Self {
        Ghost {
            stage: Stage::Syn,
            isn: next.minus(request).minus(1),
            request,
            acked: 0,
            sent: 0,
            first: Seq::new(0),
            edge: next,
            taken: 0,
            window,
            mss: 536,
            tsval: 0,
            first_tsval: 0,
            wscale: 0,
            timestamps: false,
            fin: false,
            tries: 0,
            deadline: now + RTO,
        }
    }

    /// When [`Ghost::tick`] is to be called, in milliseconds; `None` if nothing is in flight.
    pub fn deadline(&self) -> Option<u64> {
        (self.stage == Stage::Syn || self.acked < self.request).then_some(self.deadline)
    }

    /// Bytes of the answer that were taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Up to where the server lets the client send.
    pub fn edge(&self) -> Seq<Local, C2s> {
        self.edge
    }

    /// The server's byte behind all that was taken.
    pub fn boundary(&self) -> Seq<Local, S2c> {
        self.first.plus(self.taken)
    }

    /// The server's first and newest TSval, if it speaks timestamps.
    pub fn server_clock(&self) -> Option<(u32, u32)> {
        self.timestamps.then_some((self.first_tsval, self.tsval))
    }

    /// The server's window scale.
    pub fn server_shift(&self) -> u8 {
        self.wscale
    }

    /// Whether the server has answered the SYN.
    pub fn is_connected(&self) -> bool {
        self.stage == Stage::Asking
    }

    /// Whether nothing was asked: the flow is joined as soon as it is connected.
    pub fn is_silent(&self) -> bool {
        self.request == 0
    }

    /// Sends the SYN.
    pub fn open(&self, voice: &Voice<'_>, fx: &mut Effects) {
        let mut s = self.segment(voice, self.isn, tcp::SYN);
        s.ack = 0;
        s.window = u16::try_from(self.window).unwrap_or(u16::MAX);
        s.syn = Some(voice.handshake.syn_options());
        fx.emits.push(Emit {
            segment: s,
            bytes: Bytes::None,
        });
    }

    /// Takes a packet of the server, which goes no further.
    pub fn hear(
        &mut self,
        p: &Packet<'_>,
        voice: &Voice<'_>,
        now: u64,
        fx: &mut Effects,
    ) -> Progress {
        let flags = p.flags();
        if flags & tcp::RST != 0 {
            return Progress::Lost;
        }
        match self.stage {
            Stage::Syn => {
                let wanted = tcp::SYN | tcp::ACK;
                if flags & tcp::ACK != 0 && p.ack() != self.isn.plus(1).raw() {
                    // A socket of old that is still there (RFC 9293, section 3.10.7.3).
                    let seq = Seq::new(p.ack());
                    let segment = self.segment(voice, seq, tcp::RST);
                    fx.emits.push(Emit {
                        segment,
                        bytes: Bytes::None,
                    });
                    return Progress::Going;
                }
                if flags & wanted != wanted {
                    return Progress::Going;
                }
                self.connected(p, voice, now, fx)
            }
            Stage::Asking => {
                if flags & tcp::SYN != 0 {
                    self.acknowledge(voice, fx);
                } else {
                    self.asked(p, voice, now, fx);
                }
                Progress::Going
            }
        }
    }

    fn connected(
        &mut self,
        p: &Packet<'_>,
        voice: &Voice<'_>,
        now: u64,
        fx: &mut Effects,
    ) -> Progress {
        let o = p.options();
        if voice.handshake.timestamps && o.ts.is_none() {
            // The client expects timestamps in every segment (RFC 7323, section 3.2), and a
            // server without them never sends any.
            return Progress::Lost;
        }
        self.stage = Stage::Asking;
        self.first = Seq::new(p.seq()).plus(1);
        self.wscale = match voice.handshake.wscale_client {
            Some(_) => o.wscale.unwrap_or(0).min(14),
            None => 0,
        };
        self.timestamps = voice.handshake.timestamps;
        if let Some((tsval, _)) = o.ts {
            self.tsval = tsval;
            self.first_tsval = tsval;
        }
        // The window of a SYN is not scaled (RFC 7323, section 2.2).
        self.edge = Seq::new(p.ack()).plus(u32::from(p.window()));
        let overhead = if self.timestamps { 12 } else { 0 };
        let mss = o.mss.unwrap_or(536).min(voice.handshake.mss);
        self.mss = u32::from(mss).saturating_sub(overhead).max(64);
        self.tries = 0;
        self.deadline = now + RTO;
        if self.request == 0 {
            return Progress::Connected;
        }
        self.push_request(voice, fx);
        Progress::Connected
    }

    fn asked(&mut self, p: &Packet<'_>, voice: &Voice<'_>, now: u64, fx: &mut Effects) {
        if let Some((tsval, _)) = p.options().ts {
            self.tsval = tsval;
        }
        let acked = Seq::<Local, C2s>::new(p.ack()).since(self.isn.plus(1));
        let edge = Seq::new(p.ack()).plus(u32::from(p.window()) << self.wscale);
        if edge.after(self.edge) {
            self.edge = edge;
        }
        if let Ok(acked) = u32::try_from(acked) {
            if acked > self.acked && acked <= self.sent {
                self.acked = acked;
                self.tries = 0;
                self.deadline = now + RTO;
                self.push_request(voice, fx);
            }
        }
        let len = p.payload_len();
        let fin = p.flags() & tcp::FIN != 0;
        if len == 0 && !fin {
            return;
        }
        self.take(p, len, fin, fx);
        // At once and every time: the server's congestion window is what the client waits for.
        self.acknowledge(voice, fx);
    }

    /// Logs what is new and in order of `len` bytes of payload.
    fn take(&mut self, p: &Packet<'_>, len: u32, fin: bool, fx: &mut Effects) {
        let seq = Seq::<Local, S2c>::new(p.seq());
        // Bytes of the payload that were taken before; negative behind a gap.
        let Ok(old) = u32::try_from(self.boundary().since(seq)) else {
            return;
        };
        if old > len {
            return;
        }
        let new = (len - old).min(self.window - self.taken);
        let mut log = Log::new(Kind::Answer, u64::from(self.taken), 0);
        if new > 0 {
            log.data = LogData::Payload {
                from: old,
                len: new,
            };
        }
        let ends = fin && old + new == len && !self.fin;
        if ends {
            log.flags |= log_flags::FIN;
        }
        // What cannot be logged is not taken; the server sends it again.
        if (new > 0 || ends) && fx.logs.push(log) {
            self.taken += new;
            self.fin |= ends;
        }
    }

    /// The timer has run out.
    pub fn tick(&mut self, voice: &Voice<'_>, now: u64, fx: &mut Effects) -> Progress {
        if self.deadline().is_none_or(|d| now < d) {
            return Progress::Going;
        }
        self.tries += 1;
        if self.tries > TRIES {
            return Progress::Lost;
        }
        self.deadline = now + (RTO << self.tries);
        match self.stage {
            Stage::Syn => self.open(voice, fx),
            Stage::Asking => {
                self.sent = self.acked;
                self.push_request(voice, fx);
            }
        }
        Progress::Going
    }

    fn push_request(&mut self, voice: &Voice<'_>, fx: &mut Effects) {
        let limit = self
            .acked
            .saturating_add(self.mss * FLIGHT as u32)
            .min(self.request);
        while self.sent < limit && fx.emits.room() > 0 {
            let len = (self.request - self.sent).min(self.mss);
            let last = self.sent + len == self.request;
            let flags = if last { tcp::ACK | tcp::PSH } else { tcp::ACK };
            let segment = self.segment(voice, self.isn.plus(1 + self.sent), flags);
            fx.emits.push(Emit {
                segment,
                bytes: Bytes::Request {
                    from: self.sent,
                    len,
                },
            });
            self.sent += len;
        }
    }

    fn acknowledge(&self, voice: &Voice<'_>, fx: &mut Effects) {
        let seq = self.isn.plus(1 + self.sent);
        fx.emits.push(Emit {
            segment: self.segment(voice, seq, tcp::ACK),
            bytes: Bytes::None,
        });
    }

    /// An acknowledgement of all that was taken, with `window` as the field says: what makes
    /// the server go on after a join.
    pub fn hand_over(&self, voice: &Voice<'_>, window: u16, fx: &mut Effects) {
        let mut segment = self.segment(voice, self.isn.plus(1 + self.request), tcp::ACK);
        segment.window = window;
        fx.emits.push(Emit {
            segment,
            bytes: Bytes::None,
        });
    }

    /// A reset that the server accepts.
    pub fn reset(&self, voice: &Voice<'_>, fx: &mut Effects) {
        let seq = match self.stage {
            Stage::Syn => self.isn.plus(1),
            Stage::Asking => self.isn.plus(1 + self.acked),
        };
        for seq in [seq, self.isn.plus(1 + self.sent)] {
            // A server that has received more than it has acknowledged takes only the second
            // (RFC 5961, section 3.2).
            fx.emits.push(Emit {
                segment: self.segment(voice, seq, tcp::RST | tcp::ACK),
                bytes: Bytes::None,
            });
            if self.sent == self.acked {
                break;
            }
        }
    }

    fn segment(&self, voice: &Voice<'_>, seq: Seq<Local, C2s>, flags: u8) -> Segment {
        let room = (self.window - self.taken) >> voice.handshake.client_shift();
        Segment {
            dir: Dir::ToService,
            seq: seq.raw(),
            ack: self.boundary().raw(),
            flags,
            window: u16::try_from(room).unwrap_or(u16::MAX),
            // Never beyond the client's own clock: its next packet must not look old.
            ts: voice
                .handshake
                .timestamps
                .then_some((voice.clock.tsval, self.tsval)),
            syn: None,
        }
    }
}

/// In whose name a ghost speaks.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'a> {
    /// The client's options.
    pub handshake: &'a Handshake,
    /// The client's timestamps.
    pub clock: &'a Clock,
}
