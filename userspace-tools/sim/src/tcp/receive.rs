// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The receiving half: reassembly, SACK, the window, delayed acknowledgements.

use super::{Config, Odd};
use crate::packet::Tcp;
use holdfast_core::wire::flags;
use std::collections::{BTreeMap, VecDeque};

const DELACK: u64 = 40_000;

#[derive(Clone, Debug)]
pub(super) struct Receiver {
    irs: u32,
    /// Next offset expected; what the last acknowledgement said; end of the window.
    pub next: u64,
    pub wup: u64,
    pub edge: u64,
    pub scale: u8,
    buf: VecDeque<u8>,
    cap: usize,
    ooo: BTreeMap<u64, Vec<u8>>,
    fin: Option<u64>,
    pub fin_taken: bool,
    /// Most recent first.
    blocks: Vec<(u64, u64)>,
    pub dsack: Option<(i64, i64)>,
    pub ack_now: bool,
    pub delack: Option<u64>,
    unacked: usize,
    quick: u32,
}

impl Receiver {
    pub fn new(cfg: &Config) -> Self {
        Receiver {
            irs: 0,
            next: 0,
            wup: 0,
            edge: 0,
            scale: 0,
            buf: VecDeque::new(),
            cap: cfg.rcvbuf,
            ooo: BTreeMap::new(),
            fin: None,
            fin_taken: false,
            blocks: Vec::new(),
            dsack: None,
            ack_now: false,
            delack: None,
            unacked: 0,
            quick: 8,
        }
    }

    pub fn begin(&mut self, irs: u32) {
        self.irs = irs;
        self.next = 1;
        self.wup = 1;
        self.edge = 1 + self.cap.min(65535) as u64;
    }

    pub fn skip(&mut self, next: u64) {
        self.next = next;
        self.wup = next;
        self.edge = next + self.cap as u64;
    }

    pub fn offset(&self, seq: u32) -> i64 {
        let next = self.wire(self.next);
        self.next as i64 + i64::from(seq.wrapping_sub(next) as i32)
    }

    pub fn wire(&self, off: u64) -> u32 {
        self.irs.wrapping_add(off as u32)
    }

    pub fn syn_window(&self) -> u16 {
        self.cap.min(65535) as u16
    }

    /// The window field; its right edge never moves back (`__tcp_select_window`).
    pub fn window(&mut self) -> u16 {
        let free = self.cap.saturating_sub(self.buf.len()) as u64;
        let wanted = self.next + (free >> self.scale << self.scale);
        let edge = self.edge.max(wanted);
        let field = ((edge - self.next) + (1 << self.scale) - 1) >> self.scale;
        let field = field.min(65535);
        self.edge = self.edge.max(self.next + (field << self.scale));
        field as u16
    }

    pub fn acknowledged(&mut self) {
        self.wup = self.next;
        self.ack_now = false;
        self.delack = None;
        self.unacked = 0;
        self.dsack = None;
    }

    pub fn ack_due(&mut self, now: u64) -> bool {
        self.ack_now || self.delack.is_some_and(|t| now >= t)
    }

    pub fn sack_blocks(&self, most: usize) -> Vec<(u32, u32)> {
        let blocks = self.blocks.iter().map(|(l, r)| (*l as i64, *r as i64));
        let all = self.dsack.into_iter().chain(blocks);
        all.take(most)
            .map(|(l, r)| (self.wire(l as u64), self.wire(r as u64)))
            .collect()
    }

    /// Takes the payload and FIN of an acceptable segment at offset `off`; one before the stream
    /// has wrapped around.
    pub fn data(&mut self, p: &Tcp, off: u64, sack: bool, odd: &mut Vec<Odd>, now: u64) {
        let mut bytes = &p.payload[..];
        let end = off.wrapping_add(bytes.len() as u64);
        if p.has(flags::FIN) {
            if self.fin.is_some_and(|f| f != end) {
                odd.push(Odd::Changed(end));
            }
            self.fin = Some(end);
        }
        if self.fin.is_some_and(|f| end > f) {
            odd.push(Odd::Changed(end));
        }
        let edge = self.edge.max(self.next);
        if end > edge {
            odd.push(Odd::BeyondWindow(end - edge));
            bytes = &bytes[..bytes.len().min(edge.saturating_sub(off) as usize)];
        }
        let end = off.wrapping_add(bytes.len() as u64);
        if p.payload.is_empty() {
            // A FIN alone.
        } else if end <= self.next {
            // A duplicate (RFC 2883).
            self.dsack = sack.then_some((off as i64, end as i64));
            self.ack_now = true;
        } else if off > self.next {
            self.ack_now = true;
            if end > off {
                self.out_of_order(off, end, bytes, sack, odd);
            }
        } else {
            if off < self.next && sack {
                self.dsack = Some((off as i64, self.next as i64));
            }
            self.take(&bytes[(self.next - off) as usize..]);
            self.unacked += bytes.len();
            let filled = !self.ooo.is_empty();
            self.drain();
            let quick = self.quick > 0;
            self.quick = self.quick.saturating_sub(1);
            if filled || quick || self.unacked > 2 * 1000 || off < self.next && self.dsack.is_some()
            {
                self.ack_now = true;
            } else {
                self.delack = self.delack.or(Some(now + DELACK));
            }
        }
        if self.fin == Some(self.next) && !self.fin_taken {
            self.fin_taken = true;
            self.next += 1;
        }
        if p.has(flags::FIN) {
            self.ack_now = true;
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.buf.extend(bytes);
        self.next += bytes.len() as u64;
    }

    fn out_of_order(&mut self, off: u64, end: u64, bytes: &[u8], sack: bool, odd: &mut Vec<Odd>) {
        for (at, piece) in &self.ooo {
            let from = off.max(*at);
            let to = end.min(at + piece.len() as u64);
            if from < to {
                let ours = &bytes[(from - off) as usize..(to - off) as usize];
                if ours != &piece[(from - at) as usize..(to - at) as usize] {
                    odd.push(Odd::Changed(from));
                }
            }
        }
        if self.blocks.iter().any(|(l, r)| *l <= off && end <= *r) {
            self.dsack = sack.then_some((off as i64, end as i64));
            return;
        }
        let piece = self.ooo.entry(off).or_default();
        if piece.len() < bytes.len() {
            *piece = bytes.to_vec();
        }
        let (mut l, mut r) = (off, end);
        self.blocks.retain(|(bl, br)| {
            let touches = *bl <= r && l <= *br;
            if touches {
                l = l.min(*bl);
                r = r.max(*br);
            }
            !touches
        });
        self.blocks.insert(0, (l, r));
    }

    fn drain(&mut self) {
        while let Some(entry) = self.ooo.first_entry() {
            if *entry.key() > self.next {
                break;
            }
            let skip = (self.next - *entry.key()) as usize;
            let piece = entry.remove();
            if let Some(rest) = piece.get(skip..) {
                self.take(rest);
            }
        }
        let next = self.next;
        self.blocks.retain(|(_, r)| *r > next);
    }

    pub fn ready(&self) -> usize {
        self.buf.len()
    }

    pub fn read(&mut self, max: usize, mss: usize) -> Vec<u8> {
        let n = max.min(self.buf.len());
        let out: Vec<u8> = self.buf.drain(..n).collect();
        // A window update when it is worth one (RFC 9293, section 3.8.6.2.2).
        let free = self.cap - self.buf.len().min(self.cap);
        let offered = self.edge.saturating_sub(self.next) as usize;
        if free >= offered + (2 * mss).min(self.cap / 2).max(1) && offered < self.cap / 2 {
            self.ack_now = true;
        }
        out
    }
}
