// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Puts the logged pieces of one byte stream in order.

use std::collections::BTreeMap;

/// Why a piece was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A byte of it differs from the one that stands at its position.
    Conflict,
    /// It reaches beyond the limit.
    TooLong,
}

/// The bytes of a stream from a position on, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    base: u64,
    limit: usize,
    bytes: Vec<u8>,
    /// Pieces beyond the first gap, by position; they do not overlap `bytes`.
    pending: BTreeMap<u64, Vec<u8>>,
}

impl Stream {
    /// An empty stream from position `base` on that takes `limit` bytes at most.
    pub fn new(base: u64, limit: usize) -> Self {
        Stream {
            base,
            limit,
            bytes: Vec::new(),
            pending: BTreeMap::new(),
        }
    }

    /// The bytes from the start to the first gap.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The position behind them.
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Takes a piece. What lies before the start is not looked at.
    ///
    /// # Errors
    ///
    /// The piece is not taken if it contradicts one that was, or would pass the limit.
    pub fn insert(&mut self, pos: u64, data: &[u8]) -> Result<(), Refused> {
        let before = self.base.saturating_sub(pos);
        if before >= data.len() as u64 {
            return Ok(());
        }
        let (pos, data) = (pos.max(self.base), &data[before as usize..]);
        let offset = pos - self.base;
        if offset.saturating_add(data.len() as u64) > self.limit as u64 {
            return Err(Refused::TooLong);
        }
        let offset = offset as usize;
        let known = self.bytes.get(offset..).unwrap_or_default();
        if known.iter().zip(data).any(|(a, b)| a != b) {
            return Err(Refused::Conflict);
        }
        for (at, piece) in &self.pending {
            let from = pos.max(*at);
            let to = (pos + data.len() as u64).min(at + piece.len() as u64);
            if from < to {
                let ours = &data[(from - pos) as usize..(to - pos) as usize];
                let theirs = &piece[(from - at) as usize..(to - at) as usize];
                if ours != theirs {
                    return Err(Refused::Conflict);
                }
            }
        }
        if offset > self.bytes.len() {
            // One position is kept once, by its longest piece.
            let piece = self.pending.entry(pos).or_default();
            if piece.len() < data.len() {
                *piece = data.to_vec();
            }
            return Ok(());
        }
        self.bytes
            .extend_from_slice(data.get(self.bytes.len() - offset..).unwrap_or_default());
        while let Some(entry) = self.pending.first_entry() {
            let behind = self.base + self.bytes.len() as u64;
            if *entry.key() > behind {
                break;
            }
            let skip = (behind - *entry.key()) as usize;
            let piece = entry.remove();
            self.bytes
                .extend_from_slice(piece.get(skip..).unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn contradictions_are_seen_ahead_of_and_behind_a_gap() {
        let mut s = Stream::new(100, 50);
        s.insert(100, b"abc").unwrap();
        s.insert(106, b"ghi").unwrap();
        assert_eq!(s.insert(102, b"x"), Err(Refused::Conflict));
        assert_eq!(s.insert(104, b"efx"), Err(Refused::Conflict));
        assert_eq!(s.insert(90, b"short"), Ok(()));
        assert_eq!(s.insert(150, b"x"), Err(Refused::TooLong));
        s.insert(98, b"..abcdefg").unwrap();
        assert_eq!((s.bytes(), s.end()), (&b"abcdefghi"[..], 109));
    }

    proptest! {
        #[test]
        fn any_order_of_any_pieces_gives_the_stream(
            bytes in prop::collection::vec(any::<u8>(), 1..200),
            cuts in prop::collection::vec((0usize..200, 1usize..60), 0..60),
        ) {
            let mut s = Stream::new(u64::from(u32::MAX) - 10, 200);
            for (from, len) in cuts {
                let from = from % bytes.len();
                let piece = &bytes[from..(from + len).min(bytes.len())];
                s.insert(u64::from(u32::MAX) - 10 + from as u64, piece).unwrap();
                prop_assert_eq!(s.bytes(), &bytes[..s.bytes().len()]);
            }
            s.insert(u64::from(u32::MAX) - 10, &bytes).unwrap();
            prop_assert_eq!(s.bytes(), &bytes[..]);
        }
    }
}
