// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A strict TCP peer, after Linux: PAWS, SACK and D-SACK, delayed acknowledgements, a
//! timeout that backs off, loss probes, window scaling, RFC 5961.
//!
//! It trusts nobody: what a strict stack would drop or find odd is noted in
//! [`Sock::oddities`], for the referee to judge. Streams are counted in offsets: 0 is the
//! SYN, 1 the first byte. Times are in microseconds.

mod receive;
mod send;

use crate::packet::Tcp;
use holdfast_core::wire::{flags, Endpoint};
use receive::Receiver;
use send::Sender;

/// How a peer is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest segment that it takes, in bytes.
    pub mss: u16,
    /// Its window scale; `None`: it does without.
    pub wscale: Option<u8>,
    /// It permits SACK.
    pub sack: bool,
    /// It wants timestamps.
    pub ts: bool,
    /// Receive buffer in bytes.
    pub rcvbuf: usize,
    /// Initial sequence number.
    pub isn: u32,
    /// Its timestamp clock at time 0.
    pub ts_base: u32,
    /// Most bytes of payload that it hands to its device at once.
    pub gso: usize,
    /// It waits with small segments while data is in flight (RFC 896).
    pub nagle: bool,
    /// It sends tail loss probes (RFC 8985).
    pub tlp: bool,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// SYN sent.
    SynSent,
    /// SYN received and answered.
    SynRcvd,
    /// Open, or closing in either direction.
    Open,
    /// Both directions are closed.
    TimeWait,
    /// No more.
    Closed,
}

/// What a strict peer finds odd in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Odd {
    /// PAWS dropped it, though it carried bytes that were wanted.
    Paws {
        /// TSval of the segment.
        tsval: u32,
        /// Newest one before.
        recent: u32,
    },
    /// It acknowledges what was never sent.
    AckUnsent(u64),
    /// A SACK block outside of what is outstanding, or a D-SACK of what was never sent.
    Sack(u32, u32),
    /// It carries data beyond the window.
    BeyondWindow(u64),
    /// It lacks timestamps though they were agreed on.
    NoTimestamp,
    /// It echoes a timestamp that was never sent.
    Echo(u32),
    /// The right edge of the window moved back by so many bytes.
    Shrunk(u64),
    /// A block that was SACKed was never acknowledged: the peer reneged.
    Reneged,
    /// Other bytes than before at the same place.
    Changed(u64),
}

/// A TCP connection's end.
#[derive(Clone, Debug)]
pub struct Sock {
    pub(crate) cfg: Config,
    family: u8,
    me: Endpoint,
    peer: Endpoint,
    /// Where it is.
    pub state: State,
    /// Why it closed other than in peace.
    pub failed: Option<&'static str>,
    /// What it found odd, until taken.
    pub oddities: Vec<Odd>,
    s: Sender,
    r: Receiver,
    ts: bool,
    sack: bool,
    ts_recent: u32,
    ts_recent_at: u64,
    first_tsval: u32,
    last_oow: Option<u64>,
    pub(crate) sent_challenge: u64,
}

impl Sock {
    fn new(cfg: Config, family: u8, me: Endpoint, peer: Endpoint, state: State, now: u64) -> Sock {
        let mut sock = Sock {
            s: Sender::new(&cfg),
            r: Receiver::new(&cfg),
            ts: cfg.ts,
            sack: cfg.sack,
            family,
            me,
            peer,
            state,
            failed: None,
            oddities: Vec::new(),
            ts_recent: 0,
            ts_recent_at: 0,
            first_tsval: 0,
            last_oow: None,
            sent_challenge: 0,
            cfg,
        };
        sock.first_tsval = sock.tsval(now);
        sock
    }

    /// Begins to connect from `me` to `peer`.
    pub fn connect(cfg: Config, family: u8, me: Endpoint, peer: Endpoint, now: u64) -> Sock {
        Sock::new(cfg, family, me, peer, State::SynSent, now)
    }

    /// Answers the SYN `p`.
    pub fn accept(cfg: Config, p: &Tcp, now: u64) -> Sock {
        let mut k = Sock::new(cfg, p.family, p.to, p.from, State::SynRcvd, now);
        k.r.begin(p.seq);
        k.agree(p, now);
        k
    }

    /// A client in the middle of a stream: it has received so many bytes, and sent `sent`.
    pub fn resume(mut self, irs: u32, received: u64, sent: u64, peer: &Tcp, now: u64) -> Sock {
        self.r.begin(irs);
        self.agree(peer, now);
        self.state = State::Open;
        self.s.skip(1 + sent);
        self.s.wnd = 65535;
        self.s.wnd_edge = self.s.una + 65535;
        self.r.skip(1 + received);
        self
    }

    fn agree(&mut self, p: &Tcp, now: u64) {
        self.ts &= p.ts.is_some();
        self.sack &= p.sack_ok;
        let scaled = self.cfg.wscale.is_some() && p.wscale.is_some();
        self.r.scale = if scaled {
            self.cfg.wscale.unwrap_or(0)
        } else {
            0
        };
        self.s.scale = if scaled {
            p.wscale.unwrap_or(0).min(14)
        } else {
            0
        };
        self.s.mss =
            usize::from(p.mss.unwrap_or(536).min(self.cfg.mss)) - if self.ts { 12 } else { 0 };
        self.s.begin_window();
        self.s.wnd = u64::from(p.window);
        self.s.wnd_edge = 1 + self.s.wnd;
        if let Some((v, _)) = p.ts {
            self.ts_recent = v;
            self.ts_recent_at = now;
        }
    }

    fn tsval(&self, now: u64) -> u32 {
        self.cfg.ts_base.wrapping_add((now / 1000) as u32)
    }

    /// Takes a segment.
    pub fn input(&mut self, p: &Tcp, now: u64) {
        match self.state {
            State::Closed => {}
            State::SynSent => self.input_syn_sent(p, now),
            _ => self.input_open(p, now),
        }
    }

    fn input_syn_sent(&mut self, p: &Tcp, now: u64) {
        if p.has(flags::ACK) && p.ack != self.cfg.isn.wrapping_add(1) {
            return;
        }
        if p.has(flags::RST) {
            return self.fail("refused");
        }
        if !p.has(flags::SYN) || !p.has(flags::ACK) {
            return;
        }
        self.r.begin(p.seq);
        self.agree(p, now);
        self.s.acked_to(1, now);
        self.s.una = 1;
        self.state = State::Open;
        self.r.ack_now = true;
    }

    fn input_open(&mut self, p: &Tcp, now: u64) {
        let off = self.r.offset(p.seq);
        let end = off + i64::from(p.seq_len());
        if !self.acceptable(p, off, end, now) {
            return;
        }
        if p.has(flags::RST) {
            if off == self.r.next as i64 {
                self.fail("reset");
            } else {
                self.challenge(now);
            }
            return;
        }
        if p.has(flags::SYN) {
            if self.state == State::SynRcvd && off == 0 {
                self.s.syn_again();
            } else {
                self.challenge(now);
            }
            return;
        }
        if !p.has(flags::ACK) {
            return;
        }
        // tcp_replace_ts_recent()
        if let (true, Some((v, _))) = (self.ts, p.ts) {
            if off <= self.r.wup as i64 && (v.wrapping_sub(self.ts_recent) as i32) >= 0 {
                self.ts_recent = v;
                self.ts_recent_at = now;
            }
        }
        if !self.hear_ack(p, off, now) {
            return;
        }
        if self.state == State::SynRcvd {
            self.state = State::Open;
        }
        if p.seq_len() > 0 {
            self.r
                .data(p, off as u64, self.sack, &mut self.oddities, now);
        }
        if self.s.fin_acked() && self.r.fin_taken && self.state == State::Open {
            self.state = State::TimeWait;
        }
    }

    /// `tcp_validate_incoming()`: PAWS, then the window.
    fn acceptable(&mut self, p: &Tcp, off: i64, end: i64, now: u64) -> bool {
        let new = end > self.r.next as i64 && p.seq_len() > 0;
        if self.ts && !p.has(flags::RST) {
            match p.ts {
                None => {
                    self.oddities.push(Odd::NoTimestamp);
                }
                Some((v, e)) => {
                    let old = (v.wrapping_sub(self.ts_recent) as i32) < 0;
                    if old && now < self.ts_recent_at + 24 * 86400 * 1_000_000 {
                        if new && off <= self.r.next as i64 {
                            self.oddities.push(Odd::Paws {
                                tsval: v,
                                recent: self.ts_recent,
                            });
                        }
                        self.out_of_window(p, off, now);
                        return false;
                    }
                    let ahead = (self.tsval(now).wrapping_sub(e) as i32) < 0;
                    let before = (e.wrapping_sub(self.first_tsval) as i32) < 0;
                    if e != 0 && (ahead || before) {
                        self.oddities.push(Odd::Echo(e));
                    }
                }
            }
        }
        // tcp_sequence(): the left side is what was last acknowledged.
        let edge = self.r.edge.max(self.r.next) as i64;
        if end < self.r.wup as i64 || off > edge {
            if off > edge && p.seq_len() > 0 {
                self.oddities.push(Odd::BeyondWindow((off - edge) as u64));
            }
            if !p.has(flags::RST) {
                self.out_of_window(p, off, now);
            }
            return false;
        }
        true
    }

    /// Answers with an acknowledgement; to what has no payload only every 500 ms
    /// (`tcp_oow_rate_limited`).
    fn out_of_window(&mut self, p: &Tcp, off: i64, now: u64) {
        if p.payload.is_empty() {
            if self.last_oow.is_some_and(|t| now < t + 500_000) {
                return;
            }
            self.last_oow = Some(now);
        } else if self.sack && off < self.r.next as i64 {
            let end = (off + p.payload.len() as i64).min(self.r.next as i64);
            self.r.dsack = Some((off, end));
        }
        self.r.ack_now = true;
    }

    fn challenge(&mut self, now: u64) {
        if self.last_oow.is_none_or(|t| now >= t + 500_000) {
            self.last_oow = Some(now);
            self.sent_challenge += 1;
            self.r.ack_now = true;
        }
    }

    fn fail(&mut self, why: &'static str) {
        self.failed = Some(why);
        self.state = State::Closed;
    }

    /// Writes what is to be sent now.
    pub fn output(&mut self, now: u64, out: &mut Vec<Tcp>) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.output_data(now, out);
        if self.r.ack_due(now) && self.state != State::SynSent && self.state != State::SynRcvd {
            let p = self.segment(self.s.next, 0, flags::ACK, now);
            out.push(p);
        }
    }

    /// A segment from stream offset `at` with `len` bytes of data.
    pub(crate) fn segment(&mut self, at: u64, len: usize, bits: u8, now: u64) -> Tcp {
        let synced = self.state != State::SynSent;
        let mut p = Tcp {
            family: self.family,
            from: self.me,
            to: self.peer,
            seq: self.cfg.isn.wrapping_add(at as u32),
            flags: bits,
            payload: self.s.bytes(at, len),
            ..Tcp::default()
        };
        if bits & flags::SYN != 0 {
            p.mss = Some(self.cfg.mss);
            p.wscale = self
                .cfg
                .wscale
                .filter(|_| !synced || self.r.scale > 0 || self.s.scale > 0);
            p.sack_ok = self.sack;
            p.window = self.r.syn_window();
        } else {
            p.window = self.r.window();
        }
        if self.ts {
            p.ts = Some((self.tsval(now), if synced { self.ts_recent } else { 0 }));
        }
        if synced {
            p.ack = self.r.wire(self.r.next);
            if self.sack && bits & flags::SYN == 0 {
                p.sack = self.r.sack_blocks(if self.ts { 3 } else { 4 });
            }
            self.r.acknowledged();
        }
        p
    }

    /// Resets the peer and forgets everything.
    pub fn abort(&mut self, now: u64) -> Option<Tcp> {
        let known = !matches!(self.state, State::Closed | State::SynSent | State::SynRcvd);
        let p = known.then(|| self.segment(self.s.next, 0, flags::RST | flags::ACK, now));
        self.state = State::Closed;
        p
    }

    /// When [`Sock::tick`] is to be called.
    pub fn deadline(&self) -> Option<u64> {
        if self.state == State::Closed {
            return None;
        }
        [self.s.deadline(), self.r.delack]
            .into_iter()
            .flatten()
            .min()
    }

    /// A timer may have run out.
    pub fn tick(&mut self, now: u64) {
        if self.state == State::Closed {
            return;
        }
        let limit = if self.state == State::SynSent { 6 } else { 15 };
        if !self.s.tick(now, limit, &mut self.oddities) {
            self.fail("timeout");
        }
    }

    /// Queues data.
    pub fn write(&mut self, bytes: &[u8]) {
        self.s.write(bytes);
    }

    /// Bytes that are queued and not acknowledged.
    pub fn queued(&self) -> usize {
        self.s.queued()
    }

    /// Takes received data in order, `max` bytes at most.
    pub fn read(&mut self, max: usize) -> Vec<u8> {
        self.r.read(max, self.s.mss)
    }

    /// Whether the peer has closed and everything was read.
    pub fn at_end(&self) -> bool {
        self.r.fin_taken && self.r.ready() == 0
    }

    /// Bytes that can be read.
    pub fn ready(&self) -> usize {
        self.r.ready()
    }

    /// Sends no more after what is queued.
    pub fn close(&mut self) {
        self.s.close();
    }

    /// Whether the peer has acknowledged everything.
    pub fn all_acked(&self) -> bool {
        self.s.una == self.s.next && self.s.queued() == 0
    }

    /// Stream offset after the last byte sent, and that acknowledged.
    pub fn sent(&self) -> (u64, u64) {
        (self.s.next, self.s.una)
    }

    /// The offset of sequence number `seq` of the peer, nearest to what is expected.
    pub fn offset(&self, seq: u32) -> i64 {
        self.r.offset(seq)
    }

    /// The next offset expected from the peer.
    pub fn received(&self) -> u64 {
        self.r.next
    }
}
