// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Watches what leaves for the client, and fails on what must never happen.
//!
//! The peers watch too: what they find odd ([`Odd`]) is judged here.

use crate::node::Node;
use crate::packet::Tcp;
use crate::tcp::{Odd, Sock, State};
use holdfast_core::wire::flags;
use std::collections::VecDeque;

/// Bytes of the stream that are kept for comparison behind what the client acknowledged.
const KEEP: u64 = 1 << 20;

/// The judge of one connection.
#[derive(Debug, Default)]
pub struct Referee {
    /// What went wrong, in order.
    pub violations: Vec<String>,
    /// Resets that went to the client where it could still come to: others it ignores (RFC 5961, section 3.2).
    pub resets: u32,
    /// Position up to which bytes may leave; `None`: there is no gate.
    pub committed: Option<u64>,
    /// Right edge of the window that each socket of a node told.
    told: Vec<((u32, u32), u64)>,
    /// Offset and TSval of the last packets that left.
    tsvals: VecDeque<(i64, u32)>,
    /// The bytes from `base` on that bind; `None`: none does yet.
    stream: VecDeque<Option<u8>>,
    base: u64,
    begun: bool,
}

impl Referee {
    /// Notes a violation.
    pub fn blame(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Judges `p`, which leaves `node` for `client`.
    pub fn leaves(&mut self, node: &Node, p: &Tcp, client: &Sock) {
        if p.has(flags::RST) {
            self.resets += u32::from(client.offset(p.seq) >= client.received() as i64);
            return;
        }
        if matches!(client.state, State::SynSent | State::Closed) {
            return;
        }
        if p.has(flags::SYN) {
            return;
        }
        if let Some((tsval, _)) = p.ts {
            // PAWS (RFC 7323, section 5) at a client that has seen all before: only what lies
            // below can have made a timestamp recent.
            let at = client.offset(p.seq);
            let newer = |t: u32| (tsval.wrapping_sub(t) as i32) < 0;
            if let Some((_, last)) = self
                .tsvals
                .iter()
                .find(|(below, t)| *below <= at && newer(*t))
            {
                let last = *last;
                self.blame(format!(
                    "node {} sends TSval {tsval} after {last}: {p}",
                    node.id
                ));
            }
            if self.tsvals.len() == 64 {
                self.tsvals.pop_front();
            }
            self.tsvals.push_back((at, tsval));
        }
        self.judge_ack(node, p, client);
        self.judge_data(node, p, client);
    }

    fn judge_ack(&mut self, node: &Node, p: &Tcp, client: &Sock) {
        let (next, una) = client.sent();
        let isn = client.cfg.isn;
        let offset = |seq: u32| {
            una as i64 + i64::from(seq.wrapping_sub(isn.wrapping_add(una as u32)) as i32)
        };
        if !p.has(flags::ACK) {
            return self.blame(format!("without ACK: {p}"));
        }
        let ack = offset(p.ack);
        if ack > next as i64 || ack < 1 {
            self.blame(format!(
                "node {} acknowledges offset {ack} of {next}: {p}",
                node.id
            ));
        }
        let snap = node.flow.as_ref().map(|f| f.snapshot(0));
        let gate = snap
            .as_ref()
            .and_then(|s| s.ack_gate)
            .filter(|_| node.policy.protect);
        if let Some(gate) = gate {
            if (p.ack.wrapping_sub(gate as u32) as i32) > 0 {
                self.blame(format!(
                    "ack {} beyond the gate {}: {p}",
                    p.ack, gate as u32
                ));
            }
        }
        for (l, r) in &p.sack {
            let (left, right) = (offset(*l), offset(*r));
            if left >= right || right > next as i64 || left < 1 {
                self.blame(format!("SACK {left}-{right} of {next}: {p}"));
            }
            if gate.is_some_and(|g| (r.wrapping_sub(g as u32) as i32) > 0) {
                self.blame(format!("SACK beyond the gate: {p}"));
            }
        }
        if client.offset(p.seq) + (p.seq_len() as i64) < client.received() as i64 {
            // The client takes nothing else from it (a probe).
            return;
        }
        let shift = snap.map_or(0, |s| s.handshake.service_shift());
        let edge = (ack.max(0) as u64) + (u64::from(p.window) << shift);
        let who = (node.id, node.dropped);
        match self.told.iter_mut().find(|t| t.0 == who) {
            // Rounding to another scale may take less than one unit.
            Some(t) if edge + (1 << shift) <= t.1 && ack >= una as i64 => {
                let by = t.1 - edge;
                self.blame(format!(
                    "node {} moves the window back by {by}: {p}",
                    node.id
                ));
            }
            Some(t) => t.1 = t.1.max(edge),
            None => self.told.push((who, edge)),
        }
    }

    fn judge_data(&mut self, node: &Node, p: &Tcp, client: &Sock) {
        if p.payload.is_empty() {
            return;
        }
        let end = p.seq.wrapping_add(p.payload.len() as u32);
        if let Some(c) = self.committed {
            let beyond = end.wrapping_sub(c as u32) as i32;
            if beyond > 0 {
                self.blame(format!(
                    "node {} lets {beyond} bytes go before commit: {p}",
                    node.id
                ));
            }
        }
        let at = client.offset(p.seq);
        if at < 1 {
            return self.blame(format!("data before the stream: {p}"));
        }
        let seen = |k: u64| *self.stream.get(usize::try_from(k).ok()?)?;
        let other = (at as u64..).zip(&p.payload).find(|(offset, byte)| {
            let known = offset.checked_sub(self.base).and_then(seen);
            known.is_some_and(|b| b != **byte)
        });
        if let Some((offset, _)) = other {
            self.blame(format!(
                "other bytes at offset {offset} from node {}: {p}",
                node.id
            ));
        }
    }

    /// The payload of `p` is what the client has or may get: nobody may send it other bytes.
    pub fn binds(&mut self, p: &Tcp, client: &Sock) {
        if p.payload.is_empty() || matches!(client.state, State::SynSent | State::Closed) {
            return;
        }
        let next = client.received();
        let at = client.offset(p.seq).max(0) as u64;
        if !self.begun {
            self.begun = true;
            self.base = at.min(next);
        }
        let keep = next.saturating_sub(KEEP);
        while self.base < keep && self.stream.pop_front().is_some() {
            self.base += 1;
        }
        self.base = self.base.max(keep);
        for (offset, byte) in (at..).zip(&p.payload) {
            let Some(k) = offset.checked_sub(self.base) else {
                continue;
            };
            let k = k as usize;
            if k >= self.stream.len() {
                if k > self.stream.len() + (8 << 20) {
                    return self.blame(format!("data far ahead: {p}"));
                }
                self.stream.resize(k + 1, None);
            }
            self.stream[k].get_or_insert(*byte);
        }
    }

    /// Judges what `who` found odd in `p`. `late`: it comes from a server that is not in
    /// charge any more, whose clock and window are of the past.
    pub fn odd(&mut self, who: &str, p: &Tcp, odd: Odd, late: bool) {
        let harmless = match odd {
            // Packets that overtake each other do that; see `leaves`.
            Odd::Paws { .. } => true,
            Odd::Shrunk(_) | Odd::BeyondWindow(_) | Odd::Echo(_) | Odd::Reneged => late,
            _ => false,
        };
        if !harmless {
            self.blame(format!("{who} finds {odd:?} in {p}"));
        }
    }
}
