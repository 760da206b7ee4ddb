// SPDX-License-Identifier: GPL-2.0

//! The Internet checksum: ones-complement sums of 16-bit words (RFC 1071) and their update
//! when a field changes (RFC 1624).
//!
//! Numbers here are what the wire says when read in network order; [`Sum::native`] is the
//! only place where the machine's byte order matters.

/// IP protocol number of TCP.
pub const PROTO_TCP: u8 = 6;

/// A ones-complement sum, always folded to 16 bits.
///
/// 0 and 0xffff are the same number; a sum is 0 only if everything summed was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u16);

impl Sum {
    /// The empty sum.
    pub const ZERO: Self = Sum(0);

    /// The sum whose folded value is `raw`.
    pub const fn new(raw: u16) -> Self {
        Sum(raw)
    }

    /// The sum of `bytes`, which begin at an even offset of what is summed. An odd last byte
    /// is the high half of its word.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        let mut total = 0u64;
        let mut words = bytes.chunks_exact(4);
        // 2^32 words of 2^32 would have to be summed to overflow.
        for w in &mut words {
            if let [a, b, c, d] = *w {
                total += u64::from(u32::from_be_bytes([a, b, c, d]));
            }
        }
        let mut last = [0u8; 4];
        for (to, from) in last.iter_mut().zip(words.remainder()) {
            *to = *from;
        }
        Self::fold(total + u64::from(u32::from_be_bytes(last)))
    }

    /// The sum of `bytes` that begin at `offset` of what is summed.
    #[inline]
    pub fn at(offset: usize, bytes: &[u8]) -> Self {
        let sum = Self::of(bytes);
        if offset % 2 == 0 {
            sum
        } else {
            // RFC 1071, section 2 (B): shifting all by one byte swaps the bytes of the sum.
            Sum(sum.0.swap_bytes())
        }
    }

    /// What the sum grows by when `old` at `offset` becomes `new`, of the same length.
    #[inline]
    pub fn change(offset: usize, old: &[u8], new: &[u8]) -> Self {
        Self::at(offset, new).add(Self::at(offset, old).negated())
    }

    /// The sum of parts whose sum is `total`.
    #[inline]
    pub const fn folded(total: u64) -> Self {
        Self::fold(total)
    }

    /// Each step adds the halves, and what is carried out of them, in the upper one.
    const fn fold(total: u64) -> Self {
        let words = (total.wrapping_add(total.rotate_right(32)) >> 32) as u32;
        Sum((words.wrapping_add(words.rotate_right(16)) >> 16) as u16)
    }

    /// Both together.
    #[must_use]
    pub const fn add(self, other: Self) -> Self {
        Self::fold(self.0 as u64 + other.0 as u64)
    }

    /// What has to be added to come to nothing.
    #[must_use]
    pub const fn negated(self) -> Self {
        Sum(!self.0)
    }

    /// The folded value.
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// The complement of the sum: what a check field holds.
    pub const fn check(self) -> u16 {
        !self.0
    }

    /// The sum as the kernel's `__wsum` has it, which sums words in the machine's byte order.
    pub const fn native(self) -> u32 {
        self.0.to_be() as u32
    }
}

/// `check`, a complete checksum, after what it covers grew by `change` (RFC 1624, eqn. 3).
pub const fn update(check: u16, change: Sum) -> u16 {
    Sum(!check).add(change).check()
}

/// `check`, which holds only the sum of the pseudo header (`CHECKSUM_PARTIAL`), after the
/// pseudo header grew by `change`. The field holds the sum itself, not its complement.
pub const fn update_partial(check: u16, change: Sum) -> u16 {
    Sum(check).add(change).raw()
}

/// The pseudo header of TCP over IPv4 (RFC 9293, section 3.1) or IPv6 (RFC 8200, section
/// 8.1), which have the same sum for the same addresses. `source` and `destination` in
/// network order, 4 or 16 bytes; `len`: bytes of TCP header and payload.
pub fn pseudo(source: &[u8], destination: &[u8], protocol: u8, len: u32) -> Sum {
    Sum::of(source)
        .add(Sum::of(destination))
        .add(Sum::of(&len.to_be_bytes()))
        .add(Sum::new(u16::from(protocol)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// RFC 1071, section 4.1, literally.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += (u32::from(pair[0]) << 8) | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn rfc1071_example() {
        assert_eq!(
            Sum::of(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]).raw(),
            0xddf2
        );
    }

    #[test]
    fn rfc1624_example() {
        // Section 4: HC = 0xdd2f, m = 0x5555, m' = 0x3285 gives 0x0000, not 0xffff.
        let change = Sum::change(0, &[0x55, 0x55], &[0x32, 0x85]);
        assert_eq!(update(0xdd2f, change), 0x0000);
    }

    proptest! {
        #[test]
        fn sum_is_that_of_the_rfc(bytes: Vec<u8>) {
            prop_assert_eq!(Sum::of(&bytes).raw(), reference(&bytes));
        }

        #[test]
        fn parts_add_up(bytes: Vec<u8>, cut: prop::sample::Index) {
            let cut = if bytes.is_empty() { 0 } else { cut.index(bytes.len()) };
            let sum = Sum::of(&bytes[..cut]).add(Sum::at(cut, &bytes[cut..]));
            prop_assert_eq!(sum, Sum::of(&bytes));
        }

        #[test]
        fn update_equals_recomputation(
            mut bytes in prop::collection::vec(any::<u8>(), 8..80),
            new in prop::collection::vec(any::<u8>(), 1..6),
            at: prop::sample::Index,
        ) {
            // A sum of all zeros, the one case where 0 and 0xffff differ, does not occur: the
            // pseudo header has a protocol.
            bytes.extend([0, PROTO_TCP]);
            let at = at.index(bytes.len() - 2 - new.len());
            let check = Sum::of(&bytes).check();
            let partial = Sum::of(&bytes).raw();
            let change = Sum::change(at, &bytes[at..at + new.len()], &new);
            bytes[at..at + new.len()].copy_from_slice(&new);
            prop_assert_eq!(update(check, change), Sum::of(&bytes).check());
            prop_assert_eq!(update_partial(partial, change), Sum::of(&bytes).raw());
        }

        #[test]
        fn native_is_the_sum_of_native_words(words: Vec<u16>) {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
            let mut sum = 0u64;
            for w in &words {
                sum += u64::from(*w);
            }
            prop_assert_eq!(u64::from(Sum::of(&bytes).native()) % 0xffff, sum % 0xffff);
        }
    }
}
