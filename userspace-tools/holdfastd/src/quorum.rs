// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What waits until enough peers have the records it depends on.
//!
//! Updates are numbered in the order in which they are sent to every peer; a peer that
//! confirms a number has all before it. What waits for a number is let go in order.

use std::collections::{BTreeMap, VecDeque};

/// Things that wait for updates to be safe.
#[derive(Debug)]
pub struct Quorum<T> {
    pub(crate) needed: usize,
    /// The newest number that each connected, living peer has confirmed; 0 until it has all
    /// that was there when it came, and so long it is not counted on.
    peers: BTreeMap<String, u64>,
    waiting: VecDeque<(u64, T)>,
    next: u64,
    /// What was let go although no peer was there.
    pub alone: u64,
}

impl<T> Quorum<T> {
    /// Nothing waits. `needed`: confirmations that make an update safe.
    pub fn new(needed: usize) -> Self {
        Quorum {
            needed,
            peers: BTreeMap::new(),
            waiting: VecDeque::new(),
            next: 0,
            alone: 0,
        }
    }

    /// A number for the next update.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Lets `what` wait for all updates so far.
    pub fn wait(&mut self, what: T) {
        self.waiting.push_back((self.next, what));
    }

    /// A peer is connected and is being told everything; it has confirmed nothing yet.
    pub fn join(&mut self, peer: &str) {
        self.peers.insert(peer.to_owned(), 0);
    }

    /// A peer is dead or its connection is.
    pub fn leave(&mut self, peer: &str) {
        self.peers.remove(peer);
    }

    /// A peer has all updates up to `number`. Whether it is counted on from now on, and was not before.
    pub fn confirm(&mut self, peer: &str, number: u64) -> bool {
        let Some(n) = self.peers.get_mut(peer) else {
            return false;
        };
        let before = std::mem::replace(n, number.max(*n));
        before == 0 && *n > 0
    }

    /// Whether `peer` has all that was there when it came.
    pub fn has_all(&self, peer: &str) -> bool {
        self.peers.get(peer).is_some_and(|n| *n > 0)
    }

    /// What need not wait any more, in order.
    pub fn ready(&mut self) -> Vec<T> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let mut numbers: Vec<_> = self.peers.values().copied().filter(|n| *n > 0).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let safe = match self.needed.min(numbers.len()) {
            0 => u64::MAX,
            needed => numbers[needed - 1],
        };
        let count = self.waiting.iter().take_while(|(n, _)| *n <= safe).count();
        if numbers.is_empty() && self.needed > 0 {
            self.alone += count as u64;
        }
        self.waiting.drain(..count).map(|(_, t)| t).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two peers that have the first update; there is a second.
    fn both(needed: usize) -> Quorum<char> {
        let mut q = Quorum::new(needed);
        q.number();
        for peer in ["b", "c"] {
            q.join(peer);
            q.confirm(peer, 1);
        }
        q.number();
        q
    }

    #[test]
    fn a_peer_that_is_still_being_told_holds_nothing_up() {
        let mut q = Quorum::new(1);
        q.join("b");
        q.number();
        q.wait('x');
        assert_eq!(q.ready(), vec!['x']);
        assert_eq!(q.alone, 1);
    }

    #[test]
    fn what_waits_goes_in_order_once_enough_peers_have_it() {
        let mut q = both(1);
        q.wait('x');
        q.number();
        q.wait('y');
        assert_eq!(q.ready(), vec![]);
        q.confirm("c", 2);
        assert_eq!(q.ready(), vec!['x']);
        q.confirm("b", 3);
        assert_eq!(q.ready(), vec!['y']);
        assert_eq!(q.alone, 0);
    }

    #[test]
    fn two_are_asked_for_and_one_is_left() {
        let mut q = both(2);
        q.wait('x');
        q.confirm("b", 2);
        assert_eq!(q.ready(), vec![]);
        q.leave("c");
        assert_eq!(q.ready(), vec!['x']);
    }

    #[test]
    fn without_a_peer_nothing_waits_and_it_is_counted() {
        let mut q = Quorum::new(1);
        q.number();
        q.wait('x');
        assert_eq!(q.ready(), vec!['x']);
        assert_eq!(q.alone, 1);
    }
}
