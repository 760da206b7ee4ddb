// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The ciphers of a link behind its handshake: AES-256-GCM, for which processors have instructions.
//!
//! The handshake's own cipher stays what it was, so that nodes of all versions hear which one the
//! other speaks. Its keys, new for each connection and one for each direction, are used for
//! nothing else. A nonce is the count of messages under its key, laid out as Noise does for AESGCM
//! (section 12.4 of its specification): a connection loses and repeats nothing.

use std::io;

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use snow::HandshakeState;

use super::channel::bad;

/// Bytes by which a message grows.
pub const TAG: usize = 16;

/// One direction.
struct Way {
    cipher: Aes256Gcm,
    /// Messages so far.
    count: u64,
}

impl Way {
    fn new(key: [u8; 32]) -> Self {
        let cipher = Aes256Gcm::new(&key.into());
        Way { cipher, count: 0 }
    }

    /// The nonce of the next message.
    fn nonce(&mut self) -> io::Result<[u8; 12]> {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.count.to_be_bytes());
        self.count = self.count.checked_add(1).ok_or_else(|| bad("worn out"))?;
        Ok(nonce)
    }
}

/// Both directions of a connection.
pub struct Ciphers {
    ours: Way,
    theirs: Way,
}

impl Ciphers {
    /// Those of a handshake that is finished; `first`: we have begun it.
    pub fn of(hs: &mut HandshakeState, first: bool) -> Self {
        let (initiator, responder) = hs.dangerously_get_raw_split();
        let (initiator, responder) = (Way::new(initiator), Way::new(responder));
        let (ours, theirs) = match first {
            true => (initiator, responder),
            false => (responder, initiator),
        };
        Ciphers { ours, theirs }
    }

    /// Seals the message that `out` has from `start` on; it grows by [`TAG`] bytes.
    ///
    /// # Errors
    ///
    /// Too many or too long messages.
    pub fn seal(&mut self, out: &mut Vec<u8>, start: usize) -> io::Result<()> {
        let nonce = self.ours.nonce()?;
        let (nonce, message) = (Nonce::from_slice(&nonce), &mut out[start..]);
        let cipher = &self.ours.cipher;
        let tag = cipher.encrypt_in_place_detached(nonce, &[], message);
        out.extend_from_slice(&tag.map_err(bad)?);
        Ok(())
    }

    /// The message that was sealed as `frame`, in its place.
    ///
    /// # Errors
    ///
    /// It is not the peer's next message, byte for byte.
    pub fn open<'a>(&mut self, frame: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let len = frame.len().checked_sub(TAG);
        let (message, tag) = frame.split_at_mut(len.ok_or_else(|| bad("too short"))?);
        let nonce = self.theirs.nonce()?;
        let (nonce, tag) = (Nonce::from_slice(&nonce), Tag::from_slice(tag));
        let cipher = &self.theirs.cipher;
        let opened = cipher.decrypt_in_place_detached(nonce, &[], message, tag);
        opened.map_err(bad)?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Ciphers, Ciphers) {
        let new = || Way::new([1; 32]);
        let other = || Way::new([2; 32]);
        let a = Ciphers {
            ours: new(),
            theirs: other(),
        };
        let b = Ciphers {
            ours: other(),
            theirs: new(),
        };
        (a, b)
    }

    fn sealed(by: &mut Ciphers, message: &[u8]) -> Vec<u8> {
        let mut out = message.to_vec();
        by.seal(&mut out, 0).unwrap();
        out
    }

    #[test]
    fn messages_open_once_in_order_and_at_the_other_end() {
        let (mut a, mut b) = pair();
        for message in [&b"one"[..], b"", b"two"] {
            let mut frame = sealed(&mut a, message);
            assert_eq!(b.open(&mut frame).unwrap(), message);
            let mut frame = sealed(&mut b, message);
            assert_eq!(a.open(&mut frame).unwrap(), message);
        }
        let three = sealed(&mut a, b"three");
        assert!(b.open(&mut three.clone()).is_ok());
        assert!(b.open(&mut three.clone()).is_err(), "a second time");
        let mut next = sealed(&mut a, b"next");
        assert!(b.open(&mut next).is_err(), "behind a second time");
        let (mut a, mut b) = pair();
        let mut four = sealed(&mut a, b"four");
        assert!(a.open(&mut four).is_err(), "its own");
        sealed(&mut a, b"lost");
        assert!(
            b.open(&mut sealed(&mut a, b"five")).is_err(),
            "out of order"
        );
    }

    #[test]
    fn what_was_touched_does_not_open() {
        let whole = sealed(&mut pair().0, b"hello");
        for i in 0..whole.len() {
            let mut bad = whole.clone();
            bad[i] ^= 1;
            assert!(pair().1.open(&mut bad).is_err());
            assert!(pair().1.open(&mut whole[..i].to_vec()).is_err());
        }
    }
}
