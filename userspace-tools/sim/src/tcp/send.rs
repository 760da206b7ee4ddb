// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The sending half: acknowledgements, loss, timers, segmentation.

use super::{Config, Odd, Sock, State};
use crate::packet::Tcp;
use holdfast_core::wire::flags;
use std::collections::VecDeque;

const RTO_MIN: u64 = 200_000;
const RTO_MAX: u64 = 120_000_000;

#[derive(Clone, Copy, Debug)]
struct Loss {
    /// Recovery ends when this is acknowledged.
    until: u64,
    /// Next offset to send again.
    at: u64,
    /// After a timeout everything is lost, else what is not SACKed below the highest SACK.
    timeout: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub una: u64,
    pub next: u64,
    pub wnd: u64,
    pub wnd_edge: u64,
    wl1: i64,
    pub scale: u8,
    pub mss: usize,
    gso: usize,
    nagle: bool,
    tlp: bool,
    buf: VecDeque<u8>,
    /// Offset of the first byte in `buf`.
    base: u64,
    closing: bool,
    sacked: Vec<(u64, u64)>,
    dupacks: u32,
    loss: Option<Loss>,
    cwnd: usize,
    ssthresh: usize,
    srtt: Option<u64>,
    rttvar: u64,
    timed: Option<(u64, u64)>,
    rto_at: Option<u64>,
    backoff: u32,
    tries: u32,
    probe: bool,
    probe_tail: bool,
    tlp_at: Option<u64>,
    syn_due: bool,
}

impl Sender {
    pub fn new(cfg: &Config) -> Self {
        Sender {
            una: 0,
            next: 0,
            wnd: 0,
            wnd_edge: 0,
            wl1: 0,
            scale: 0,
            mss: 536,
            gso: cfg.gso,
            nagle: cfg.nagle,
            tlp: cfg.tlp,
            buf: VecDeque::new(),
            base: 1,
            closing: false,
            sacked: Vec::new(),
            dupacks: 0,
            loss: None,
            cwnd: 0,
            ssthresh: usize::MAX,
            srtt: None,
            rttvar: 0,
            timed: None,
            rto_at: None,
            backoff: 0,
            tries: 0,
            probe: false,
            probe_tail: false,
            tlp_at: None,
            syn_due: true,
        }
    }

    pub fn begin_window(&mut self) {
        self.cwnd = 10 * self.mss;
    }

    pub fn skip(&mut self, to: u64) {
        self.una = to;
        self.next = to;
        self.base = to;
        self.syn_due = false;
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.buf.extend(bytes);
    }

    pub fn queued(&self) -> usize {
        self.buf.len()
    }

    pub fn close(&mut self) {
        self.closing = true;
    }

    pub fn syn_again(&mut self) {
        self.syn_due = true;
    }

    /// Offset after the last byte of data that is known.
    fn end(&self) -> u64 {
        self.base + self.buf.len() as u64
    }

    fn limit(&self) -> u64 {
        self.end() + u64::from(self.closing)
    }

    pub fn fin_acked(&self) -> bool {
        self.closing && self.una == self.end() + 1
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        if len == 0 {
            return Vec::new();
        }
        let from = (at - self.base) as usize;
        self.buf.range(from..from + len).copied().collect()
    }

    fn rto(&self) -> u64 {
        let base = match self.srtt {
            Some(s) => s + (4 * self.rttvar).max(RTO_MIN),
            None => 1_000_000,
        };
        (base << self.backoff.min(20)).min(RTO_MAX)
    }

    fn measure(&mut self, rtt: u64) {
        match self.srtt {
            None => {
                self.srtt = Some(rtt);
                self.rttvar = rtt / 2;
            }
            Some(s) => {
                self.rttvar = (3 * self.rttvar + s.abs_diff(rtt)) / 4;
                self.srtt = Some((7 * s + rtt) / 8);
            }
        }
    }

    pub fn acked_to(&mut self, ack: u64, now: u64) {
        if let Some((off, at)) = self.timed.filter(|(off, _)| ack > *off) {
            let _ = off;
            self.measure(now - at);
            self.timed = None;
        }
        let drop = ack.saturating_sub(self.base).min(self.buf.len() as u64);
        self.buf.drain(..drop as usize);
        self.base += drop;
        self.una = ack;
        self.next = self.next.max(ack);
        self.dupacks = 0;
        self.backoff = 0;
        self.tries = 0;
        self.probe_tail = false;
        self.sacked.retain(|(_, r)| *r > ack);
        match &mut self.loss {
            Some(l) if ack >= l.until => {
                self.loss = None;
                self.cwnd = self.ssthresh.min(self.cwnd.max(2 * self.mss));
            }
            Some(l) => l.at = l.at.max(ack),
            None => {}
        }
        let grow = if self.cwnd < self.ssthresh {
            self.mss
        } else {
            self.mss * self.mss / self.cwnd.max(1)
        };
        self.cwnd = (self.cwnd + grow).min(1 << 20);
        self.arm(now);
    }

    fn arm(&mut self, now: u64) {
        let busy = self.next > self.una || self.syn_due;
        self.rto_at = busy.then(|| now + self.rto());
        self.tlp_at = match self.srtt {
            Some(s)
                if busy
                    && self.tlp
                    && self.loss.is_none()
                    && !self.probe_tail
                    && self.tries == 0 =>
            {
                Some(now + (2 * s).max(10_000) + 50_000)
            }
            _ => None,
        };
        if !busy && self.limit() > self.next && self.wnd_edge <= self.next {
            // Closed window: probe it.
            self.rto_at = Some(now + self.rto());
        }
    }

    fn in_flight(&self) -> usize {
        let sacked: u64 = self.sacked.iter().map(|(l, r)| r - l.max(&self.una)).sum();
        let sent = match self.loss {
            Some(l) if l.timeout => l.at.max(self.una).min(self.next) - self.una,
            _ => self.next - self.una,
        };
        sent.saturating_sub(sacked) as usize
    }

    pub fn deadline(&self) -> Option<u64> {
        [self.rto_at, self.tlp_at].into_iter().flatten().min()
    }

    /// `false`: the peer is given up.
    pub fn tick(&mut self, now: u64, limit: u32, odd: &mut Vec<Odd>) -> bool {
        if self.tlp_at.is_some_and(|t| now >= t) {
            self.tlp_at = None;
            self.probe_tail = true;
            return self.tick_tail(now);
        }
        if self.rto_at.is_none_or(|t| now < t) {
            return true;
        }
        self.rto_at = None;
        self.tries += 1;
        if self.tries > limit {
            return false;
        }
        self.backoff += 1;
        if self.una == 0 {
            self.syn_due = true;
        } else if self.next > self.una {
            self.ssthresh = (self.in_flight() / 2).max(2 * self.mss);
            self.cwnd = self.mss;
            if self.sacked.first().is_some_and(|(l, _)| *l <= self.una) {
                odd.push(Odd::Reneged);
                self.sacked.clear();
            }
            self.loss = Some(Loss {
                until: self.next,
                at: self.una,
                timeout: true,
            });
            self.timed = None;
            self.dupacks = 0;
        } else {
            self.probe = true;
        }
        self.rto_at = Some(now + self.rto());
        true
    }

    fn tick_tail(&mut self, now: u64) -> bool {
        // The last segment again; what is lost before it is then SACKed around.
        if self.loss.is_none() && self.next > self.una {
            let at = self.next.saturating_sub(self.mss as u64).max(self.una);
            self.loss = Some(Loss {
                until: self.next,
                at,
                timeout: false,
            });
            self.rto_at = Some(now + self.rto());
        }
        true
    }

    /// The next piece to send again: offset and length, FIN counted.
    fn again(&self) -> Option<(u64, u64)> {
        let l = self.loss?;
        let limit = if l.timeout || self.probe_tail {
            l.until
        } else {
            let high = self.sacked.iter().map(|b| b.0).max();
            high.unwrap_or(self.una + self.mss as u64)
                .max(self.una + 1)
                .min(l.until)
        };
        let mut at = l.at.max(self.una);
        while let Some((_, r)) = self.sacked.iter().find(|(sl, r)| *sl <= at && at < *r) {
            at = *r;
        }
        if at >= limit {
            return None;
        }
        let stop = self
            .sacked
            .iter()
            .map(|b| b.0)
            .filter(|sl| *sl > at)
            .min()
            .unwrap_or(limit);
        Some((at, (stop.min(limit) - at).min(self.mss as u64)))
    }
}

impl Sock {
    /// Takes in what `p` says of our stream; whether the segment is to be looked at further.
    pub(super) fn hear_ack(&mut self, p: &Tcp, off: i64, now: u64) -> bool {
        let una = self.s.una;
        let wire = self.cfg.isn.wrapping_add(una as u32);
        let ack = una as i64 + i64::from(p.ack.wrapping_sub(wire) as i32);
        if ack > self.s.next as i64 {
            self.oddities
                .push(Odd::AckUnsent((ack - self.s.next as i64) as u64));
            return false;
        }
        let sacked_before: usize = self.s.sacked.len();
        let more_sacked = self.hear_sack(p, ack);
        if ack < una as i64 {
            // Old; its data counts.
            return true;
        }
        let ack = ack as u64;
        let wnd = u64::from(p.window) << if p.has(flags::SYN) { 0 } else { self.s.scale };
        let newer = ack > una || off > self.s.wl1 || (off == self.s.wl1 && wnd > self.s.wnd);
        let same_window = wnd == self.s.wnd;
        if newer {
            let edge = ack + wnd;
            if edge + (1 << self.s.scale) <= self.s.wnd_edge {
                self.oddities.push(Odd::Shrunk(self.s.wnd_edge - edge));
            }
            self.s.wl1 = off;
            self.s.wnd = wnd;
            let opened = edge > self.s.wnd_edge;
            self.s.wnd_edge = edge;
            if opened && self.s.next == self.s.una {
                self.s.backoff = 0;
                self.s.arm(now);
            }
        }
        if wnd == 0 || (self.s.next == self.s.una && self.s.wnd_edge <= self.s.next) {
            // A peer that answers probes is alive.
            self.s.tries = 0;
        }
        if ack > una {
            if let (true, Some((_, e))) = (self.ts, p.ts) {
                let rtt = self.tsval(now).wrapping_sub(e);
                if e != 0 && rtt < 1 << 30 && self.s.loss.is_none() {
                    self.s.timed = None;
                    self.s.measure(u64::from(rtt) * 1000);
                }
            }
            self.s.acked_to(ack, now);
        } else if self.s.next > una
            && p.payload.is_empty()
            && !p.has(flags::FIN)
            && (same_window || more_sacked)
        {
            self.s.dupacks += 1;
            if more_sacked && sacked_before == 0 {
                self.s.dupacks = self.s.dupacks.max(1);
            }
            if self.s.dupacks >= 3 && self.s.loss.is_none() {
                self.s.ssthresh = (self.s.in_flight() / 2).max(2 * self.s.mss);
                self.s.cwnd = self.s.ssthresh;
                self.s.probe_tail = false;
                self.s.loss = Some(Loss {
                    until: self.s.next,
                    at: una,
                    timeout: false,
                });
            }
        }
        true
    }

    /// Takes in SACK blocks; whether they tell news.
    fn hear_sack(&mut self, p: &Tcp, ack: i64) -> bool {
        if !self.sack {
            if !p.sack.is_empty() {
                self.oddities.push(Odd::Sack(p.sack[0].0, p.sack[0].1));
            }
            return false;
        }
        let mut news = false;
        let base = self.s.una;
        let wire = self.cfg.isn.wrapping_add(base as u32);
        for (i, (l, r)) in p.sack.iter().enumerate() {
            let left = base as i64 + i64::from(l.wrapping_sub(wire) as i32);
            let right = base as i64 + i64::from(r.wrapping_sub(wire) as i32);
            let dsack = i == 0
                && (right <= ack
                    || p.sack.get(1).is_some_and(|(l2, r2)| {
                        (l.wrapping_sub(*l2) as i32) >= 0 && (r2.wrapping_sub(*r) as i32) >= 0
                    }));
            if left >= right || right > self.s.next as i64 || (left < 1 && !dsack) || left < 0 {
                self.oddities.push(Odd::Sack(*l, *r));
                continue;
            }
            if dsack || right <= self.s.una as i64 {
                continue;
            }
            let (mut l, mut r) = (left.max(self.s.una as i64) as u64, right as u64);
            if self.s.sacked.iter().any(|(bl, br)| *bl <= l && r <= *br) {
                continue;
            }
            news = true;
            self.s.sacked.retain(|(bl, br)| {
                let touches = *bl <= r && l <= *br;
                if touches {
                    l = l.min(*bl);
                    r = r.max(*br);
                }
                !touches
            });
            self.s.sacked.push((l, r));
            self.s.sacked.sort_unstable();
        }
        news
    }

    pub(super) fn output_data(&mut self, now: u64, out: &mut Vec<Tcp>) {
        if self.s.una == 0 {
            if self.s.syn_due {
                self.s.syn_due = false;
                let bits = if self.state == State::SynSent {
                    flags::SYN
                } else {
                    flags::SYN | flags::ACK
                };
                if self.s.next == 0 {
                    self.s.timed = Some((0, now));
                }
                self.s.next = self.s.next.max(1);
                out.push(self.segment(0, 0, bits, now));
                self.s.arm(now);
            }
            return;
        }
        while let Some((at, len)) = self.s.again() {
            let first = self.s.loss.is_some_and(|l| l.at <= self.s.una);
            if !first && self.s.in_flight() >= self.s.cwnd && !self.s.probe_tail {
                break;
            }
            self.emit(at, len, now, out);
            self.s.loss = self.s.loss.map(|l| Loss { at: at + len, ..l });
        }
        if self.s.probe_tail && self.s.loss.is_some_and(|l| !l.timeout) {
            // A tail probe is no loss yet.
            self.s.loss = None;
        }
        self.output_new(now, out);
        if std::mem::take(&mut self.s.probe) {
            // tcp_xmit_probe_skb(): below the window, so that it must be answered.
            let mut p = self.segment(self.s.una, 0, flags::ACK, now);
            p.seq = p.seq.wrapping_sub(1);
            out.push(p);
        }
    }

    fn output_new(&mut self, now: u64, out: &mut Vec<Tcp>) {
        let mut sent = false;
        while self.s.next < self.s.limit() {
            let s = &self.s;
            let room = s.wnd_edge.saturating_sub(s.next);
            let cwnd = s.cwnd.saturating_sub(s.in_flight()) as u64;
            let left = s.limit() - s.next;
            let most = (s.gso.max(s.mss) / s.mss * s.mss) as u64;
            let len = left.min(room).min(most);
            if len == 0 || (cwnd < len.min(s.mss as u64) && s.next > s.una) {
                break;
            }
            let len = if cwnd >= s.mss as u64 {
                len.min(cwnd / s.mss as u64 * s.mss as u64)
            } else {
                len.min(s.mss as u64)
            };
            // Nagle, and no silly windows from our side.
            let small = len < s.mss as u64;
            let tail = len == left;
            if small && s.next > s.una && (!tail || (s.nagle && !s.closing)) {
                break;
            }
            let at = s.next;
            if s.timed.is_none() {
                self.s.timed = Some((at, now));
            }
            self.emit(at, len, now, out);
            self.s.next = at + len;
            sent = true;
        }
        if sent || (self.s.rto_at.is_none() && self.s.limit() > self.s.next) {
            self.s.arm(now);
        }
    }

    fn emit(&mut self, at: u64, len: u64, now: u64, out: &mut Vec<Tcp>) {
        let data = len.min(self.s.end().saturating_sub(at));
        let fin = len > data;
        let mut bits = flags::ACK;
        if at + len >= self.s.limit() {
            bits |= flags::PSH;
        }
        if fin {
            bits |= flags::FIN;
        }
        out.push(self.segment(at, data as usize, bits, now));
        if self.s.rto_at.is_none() {
            self.s.rto_at = Some(now + self.s.rto());
        }
    }
}
