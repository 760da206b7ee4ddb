// SPDX-License-Identifier: GPL-2.0

//! The ghost: opens a connection to a server in a client's name.
//!
//! ```text
//!   Syn ----SYN-ACK----> Asking ----flow-join----> joined (a [`Splice`] takes over)
//!    |                     |  sends the request, takes up to `window` bytes of the answer
//!    |                     |                         ^
//!    |                     +--flow-join with skip--> Skipping
//!    |                     |                         |  discards what the client has already
//!    +------RST, no answer-+------RST, FIN, silence--+---> lost
//! ```
//!
//! The initial sequence number is chosen so that behind the request the ghost stands where
//! the client does: client-to-server numbers need no translation afterwards. The answer is
//! taken byte by byte into the log, acknowledged, and discarded; the window is small and its
//! edge fixed, so that little of the body comes along with the head. What did come along goes
//! to the client as part of the prefix.
//!
//! Where an answer is joined far behind its begin, what lies before the joint is acknowledged and
//! discarded as it comes, unseen, within a large window. The window ends one segment behind the
//! joint: a server sends no part of a segment before its persist timer runs out
//! (`tcp_snd_wnd_test()`). Of the segment across the joint only the part before it is acknowledged;
//! the server repeats the rest without what was acknowledged (`tcp_trim_head()` in
//! `__tcp_retransmit_skb()`).
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

/// Most bytes in flight of an answer that is discarded: the server is local, and more than this
/// would only wait in its socket.
const SKIP_WINDOW: u64 = 1 << 20;

/// Bytes that are discarded before the next acknowledgement waits for the timer. If none did, the
/// server's socket would never be full, and a server that serves many with one thread would turn
/// to another connection only when it has said all.
const BURST: u32 = 2 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Syn,
    Asking,
    Skipping,
}

/// What came of a packet or a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing that the flow must know.
    Going,
    /// The connection is open.
    Connected,
    /// Some of what is to be discarded has come.
    Skipped,
    /// All of it has: the next byte is the joint.
    AtJoint,
    /// The server refused, reset, never answered, or closed before the joint.
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
    /// The server's byte behind all that was taken and discarded.
    next: Seq<Local, S2c>,
    /// Up to where the server lets the client send.
    edge: Seq<Local, C2s>,
    /// Bytes of the answer that were taken into the log.
    taken: u32,
    /// Bytes of the answer that may be taken into the log.
    window: u32,
    /// Bytes behind them that are still to be discarded. More than 2^32 perhaps.
    skip: u64,
    /// Bytes that were discarded since an acknowledgement waited last.
    burst: u32,
    /// When the one that waits is to be sent, in milliseconds; `u64::MAX`: none waits.
    pause: u64,
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
            next: Seq::new(0),
            edge: next,
            taken: 0,
            window,
            skip: 0,
            burst: 0,
            pause: u64::MAX,
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
        let pause = (self.pause != u64::MAX).then_some(self.pause);
        let again = self.is_in_flight().then_some(self.deadline);
        again.into_iter().chain(pause).min()
    }

    fn is_in_flight(&self) -> bool {
        self.stage == Stage::Syn || self.acked < self.request
    }

    /// Bytes of the answer that were taken into the log.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Up to where the server lets the client send.
    pub fn edge(&self) -> Seq<Local, C2s> {
        self.edge
    }

    /// The server's byte behind all that was taken and discarded.
    pub fn boundary(&self) -> Seq<Local, S2c> {
        self.next
    }

    /// Whether the server has said that its answer ends behind what was taken.
    pub fn has_ended(&self) -> bool {
        self.fin
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
        self.stage != Stage::Syn
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
            Stage::Asking | Stage::Skipping => {
                if flags & tcp::SYN != 0 {
                    self.acknowledge(voice, fx);
                    return Progress::Going;
                }
                self.asked(p, voice, now, fx);
                if self.stage == Stage::Skipping {
                    return self.discard(p, voice, now, fx);
                }
                let (len, fin) = (p.payload_len(), flags & tcp::FIN != 0);
                if len > 0 || fin {
                    self.take(p, len, fin, fx);
                    // At once and every time: the server's congestion window is what the client
                    // waits for.
                    self.acknowledge(voice, fx);
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
        self.next = Seq::new(p.seq()).plus(1);
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

    /// What a packet says of the request.
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
            self.next = self.next.plus(new);
            self.fin |= ends;
        }
    }

    /// From now on the next `skip` bytes of the answer are discarded.
    pub fn skip(&mut self, skip: u64, voice: &Voice<'_>, fx: &mut Effects) {
        self.stage = Stage::Skipping;
        self.skip = skip;
        // Opens the window.
        self.acknowledge(voice, fx);
    }

    /// Discards what is new and in order of a packet's payload, up to the joint.
    fn discard(
        &mut self,
        p: &Packet<'_>,
        voice: &Voice<'_>,
        now: u64,
        fx: &mut Effects,
    ) -> Progress {
        let len = p.payload_len();
        let known = self.next.since(Seq::new(p.seq()));
        let mut progress = Progress::Going;
        // Bytes of the payload that were taken before; negative behind a gap.
        if let Some(new) = u32::try_from(known)
            .ok()
            .and_then(|old| len.checked_sub(old))
        {
            let take = self.skip.min(u64::from(new)) as u32;
            self.skip -= u64::from(take);
            self.next = self.next.plus(take);
            self.burst = self.burst.saturating_add(take);
            if self.skip == 0 {
                // The join acknowledges it.
                return Progress::AtJoint;
            }
            if p.flags() & tcp::FIN != 0 {
                return Progress::Lost;
            }
            if take > 0 {
                progress = Progress::Skipped;
            }
        }
        if self.burst >= BURST {
            self.pause = self.pause.min(now + 1);
        } else if len > 0 || known > 0 {
            // Also what is old: it asks whether the window is open (keep-alive, zero-window probe).
            self.acknowledge(voice, fx);
        }
        progress
    }

    /// The timer has run out.
    pub fn tick(&mut self, voice: &Voice<'_>, now: u64, fx: &mut Effects) -> Progress {
        if now >= self.pause {
            (self.burst, self.pause) = (0, u64::MAX);
            self.acknowledge(voice, fx);
        }
        if !self.is_in_flight() || now < self.deadline {
            return Progress::Going;
        }
        self.tries += 1;
        if self.tries > TRIES {
            return Progress::Lost;
        }
        self.deadline = now + (RTO << self.tries);
        match self.stage {
            Stage::Syn => self.open(voice, fx),
            Stage::Asking | Stage::Skipping => {
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
            Stage::Asking | Stage::Skipping => self.isn.plus(1 + self.acked),
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

    /// What may come of the answer now, as a window field.
    fn room(&self, handshake: &Handshake) -> u16 {
        let shift = handshake.client_shift();
        let room = match self.stage {
            Stage::Syn | Stage::Asking => (self.window - self.taken) >> shift,
            Stage::Skipping => {
                let room = self.skip.min(SKIP_WINDOW) as u32 + u32::from(handshake.mss);
                room.div_ceil(1 << shift)
            }
        };
        u16::try_from(room).unwrap_or(u16::MAX)
    }

    fn segment(&self, voice: &Voice<'_>, seq: Seq<Local, C2s>, flags: u8) -> Segment {
        Segment {
            dir: Dir::ToService,
            seq: seq.raw(),
            ack: self.boundary().raw(),
            flags,
            window: self.room(voice.handshake),
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
