// SPDX-License-Identifier: GPL-2.0

//! The two gates: what the client may learn, and when.
//!
//! The **ack gate** never lets an acknowledgement beyond a position reach the client, so
//! that the client itself keeps the bytes of a request until they are safe elsewhere. The
//! **data gate** never lets bytes of the service beyond a position reach it (output commit).
//!
//! Under a gated acknowledgement the window grows by what was taken from it, so that its
//! right edge never moves back (RFC 9293, section 3.8.6: shrinking the window is discouraged,
//! and Linux takes it for an attack on fast retransmit). SACK and D-SACK blocks that reach
//! beyond the gate are removed: the client would believe bytes delivered that it must keep.

use super::seq::{C2s, Pos, S2c};

/// Retransmissions of the last held byte that are seen before it is let go: the client's
/// count of retries is not reset any more, so holding on would end the connection
/// (`tcp_retries2`, 15 by default).
const LAST_BYTE_TRIES: u8 = 8;

/// Milliseconds after which bytes that come again were held too long: somewhat less than the
/// shortest timeout (`TCP_RTO_MIN`, 200 ms).
const SURELY_RTO: u64 = 150;

/// What an acknowledgement tells: the next byte expected, and the end of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The next byte expected from the client.
    pub ack: Pos<C2s>,
    /// The position up to which the client may send.
    pub edge: Pos<C2s>,
}

/// Holds acknowledgements back. Client space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckGate {
    gate: Option<Pos<C2s>>,
    told: Option<Word>,
    tries: u8,
    /// When the gate was closed, in milliseconds.
    since: u64,
}

impl AckGate {
    /// Tells the client nothing beyond `gate` from `now` (in milliseconds) on.
    pub fn close(&mut self, gate: Pos<C2s>, now: u64) {
        // Never behind what the client was told: it has forgotten those bytes.
        let gate = self.told.map_or(gate, |t| t.ack.max(gate));
        self.gate = Some(gate);
        self.tries = 0;
        self.since = now;
    }

    /// Lets every acknowledgement pass. Says whether the gate was closed.
    pub fn open(&mut self) -> bool {
        self.gate.take().is_some()
    }

    /// The position of the gate while it is closed.
    pub fn position(&self) -> Option<Pos<C2s>> {
        self.gate
    }

    /// Lowers `word` to the gate. Says whether that took anything from it.
    pub fn apply(&self, word: Word) -> (Word, bool) {
        match self.gate {
            Some(gate) if gate < word.ack => (Word { ack: gate, ..word }, true),
            _ => (word, false),
        }
    }

    /// Whether a lowered `word` says nothing that the client does not know, so that a pure
    /// acknowledgement with it is better swallowed: three of them would start a fast
    /// retransmit (RFC 5681, section 3.2).
    pub fn stale(&self, word: Word) -> bool {
        self.told
            .is_some_and(|t| word.ack <= t.ack && word.edge <= t.edge)
    }

    /// The newest acknowledgement that the client was told.
    pub fn told(&self) -> Option<Pos<C2s>> {
        self.told.map(|t| t.ack)
    }

    /// Remembers that the client is told `word`.
    pub fn tell(&mut self, word: Word) {
        let told = self.told.get_or_insert(word);
        told.ack = told.ack.max(word.ack);
        told.edge = told.edge.max(word.edge);
    }

    /// The client sent bytes below `next` (the end of what it ever sent) again: gives it one
    /// byte, which clears its count of retries, and in the end all of them. The last byte
    /// stays held for [`LAST_BYTE_TRIES`] more. Says whether the gate moved.
    ///
    /// Not at once: a copy that the network made, or a fast retransmit, must not give away a
    /// byte that is not safe elsewhere yet. No timeout is that short.
    pub fn retransmission(&mut self, next: Pos<C2s>, now: u64) -> bool {
        let Some(gate) = self.gate.filter(|_| now >= self.since + SURELY_RTO) else {
            return false;
        };
        if gate.plus(1) < next {
            self.gate = Some(gate.plus(1));
            return true;
        }
        self.tries += 1;
        self.tries >= LAST_BYTE_TRIES && self.open()
    }
}

/// Holds bytes of the service back. Client space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataGate {
    gate: Option<Pos<S2c>>,
}

impl DataGate {
    /// Lets no byte at or beyond `gate` pass.
    pub fn close(&mut self, gate: Pos<S2c>) {
        self.gate = Some(gate);
    }

    /// Lets everything pass.
    pub fn open(&mut self) {
        self.gate = None;
    }

    /// The position of the gate while it is closed.
    pub fn position(&self) -> Option<Pos<S2c>> {
        self.gate
    }

    /// Whether a segment whose last byte (FIN counts) is before `end` must wait.
    pub fn holds(&self, end: Pos<S2c>) -> bool {
        self.gate.is_some_and(|gate| end > gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(ack: u64, edge: u64) -> Word {
        Word {
            ack: Pos::new(ack),
            edge: Pos::new(edge),
        }
    }

    #[test]
    fn a_lowered_ack_keeps_the_right_edge() {
        let mut g = AckGate::default();
        assert_eq!(g.apply(word(150, 1000)), (word(150, 1000), false));
        g.close(Pos::new(100), 0);
        assert_eq!(g.apply(word(150, 1000)), (word(100, 1000), true));
        assert_eq!(g.apply(word(100, 1000)), (word(100, 1000), false));
    }

    #[test]
    fn only_news_pass() {
        let mut g = AckGate::default();
        g.close(Pos::new(100), 0);
        assert!(!g.stale(word(100, 1000)), "nothing was told yet");
        g.tell(word(100, 1000));
        assert!(g.stale(word(100, 1000)));
        assert!(!g.stale(word(100, 1001)), "a window update is news");
        assert!(!g.stale(word(101, 1000)));
    }

    #[test]
    fn a_gate_never_takes_back_what_was_told() {
        let mut g = AckGate::default();
        g.tell(word(120, 1000));
        g.close(Pos::new(100), 0);
        assert_eq!(g.position(), Some(Pos::new(120)));
    }

    #[test]
    fn each_retransmission_is_answered_and_the_last_byte_goes_at_last() {
        let mut g = AckGate::default();
        g.close(Pos::new(100), 0);
        let next = Pos::new(104);
        assert!(
            !g.retransmission(next, 100),
            "a copy of the network's making"
        );
        for at in 101..104 {
            assert!(g.retransmission(next, 200));
            assert_eq!(g.position(), Some(Pos::new(at)));
        }
        let moved = (1..).take_while(|_| !g.retransmission(next, 200)).count();
        assert_eq!(moved, usize::from(LAST_BYTE_TRIES) - 1);
        assert_eq!(g.position(), None);
        assert!(!g.retransmission(next, 200));
    }

    #[test]
    fn a_segment_that_ends_at_the_gate_passes() {
        let mut g = DataGate::default();
        assert!(!g.holds(Pos::new(1)));
        g.close(Pos::new(500));
        assert!(!g.holds(Pos::new(500)));
        assert!(g.holds(Pos::new(501)));
        g.open();
        assert!(!g.holds(Pos::new(501)));
    }
}
