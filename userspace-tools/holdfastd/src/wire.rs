// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What nodes of every version understand of each other: heartbeats, and how a link of records
//! begins. `Documentation/daemon.md` has the layout.
//!
//! **What is laid out here never changes**, neither do the keys by which it is sealed: nodes must
//! hear that each other live and what they own, whatever else they cannot tell each other.
//! What is added comes behind what is there, where older versions do not look. [`VERSION`] is
//! raised when an update or a record changes so that those who knew the old form cannot read it.

use std::net::IpAddr;

/// Of updates and records (`store.rs`, `link.rs` and the library's `record.rs`), and of how they are
/// sealed. Nodes of different versions tell each other none.
pub const VERSION: u16 = 4;

/// What the key of heartbeats is made for.
pub const BEATS: &str = "holdfast heartbeat";

/// What the key of links is made for.
pub const LINKS: &str = "holdfast records";

/// Most bytes of a name: its length is one byte.
pub const NAME_MAX: usize = 255;

const LEAVING: u8 = 1;
const DEAF: u8 = 1 << 1;
const CONNECTED: u8 = 1 << 2;
const DRAINED: u8 = 1 << 3;
const ECHO: u8 = 1 << 4;
const UNLINKED: u8 = 1 << 5;

/// Of a claim: the address is one of IPv6.
const SIX: u8 = 1;
/// Of a claim: another program has moved the address away.
const GONE: u8 = 1 << 1;

/// What a heartbeat says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The sender's [`VERSION`].
    pub version: u16,
    /// Name of the sender.
    pub from: String,
    /// Of this start of the sender's machine.
    pub boot: u64,
    /// Random number of this start of the sender.
    pub session: u64,
    /// Counts the heartbeats of the session.
    pub seq: u64,
    /// The receiver's session as the sender knows it: proves that this is no recording.
    pub echo: Option<u64>,
    /// Addresses that the sender owns, and the generation of each claim.
    pub claims: Vec<(IpAddr, u32)>,
    /// The sender stops in order; its kernel goes on.
    pub leaving: bool,
    /// Nothing of the receiver reaches the sender, who is heard.
    pub deaf: bool,
    /// The sender is not cut off from the segment of the service, as far as it knows.
    pub connected: bool,
    /// The sender takes no addresses.
    pub drained: bool,
    /// The sender has no link to the receiver: it lets bytes go without telling of them.
    pub unlinked: bool,
    /// Addresses of [`Beat::claims`] that another program has moved away from the sender.
    pub gone: Vec<IpAddr>,
    /// The sender's daemon, for people; empty if it does not say.
    pub release: String,
}

impl Beat {
    /// As it is sent, before it is sealed. What does not fit is left out: bytes of names beyond
    /// [`NAME_MAX`], claims beyond 65535.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.version.to_be_bytes().to_vec();
        put_name(&mut out, &self.from);
        for number in [self.boot, self.session, self.seq] {
            out.extend(number.to_be_bytes());
        }
        let flags = [
            (self.leaving, LEAVING),
            (self.deaf, DEAF),
            (self.connected, CONNECTED),
            (self.drained, DRAINED),
            (self.echo.is_some(), ECHO),
            (self.unlinked, UNLINKED),
        ];
        out.push(flags.iter().filter(|f| f.0).map(|f| f.1).sum());
        out.extend(self.echo.unwrap_or(0).to_be_bytes());
        let count = u16::try_from(self.claims.len()).unwrap_or(u16::MAX);
        out.extend(count.to_be_bytes());
        for (addr, generation) in self.claims.iter().take(count.into()) {
            let gone = if self.gone.contains(addr) { GONE } else { 0 };
            match addr {
                IpAddr::V4(four) => {
                    out.push(gone);
                    out.extend(four.octets());
                }
                IpAddr::V6(six) => {
                    out.push(gone | SIX);
                    out.extend(six.octets());
                }
            }
            out.extend(generation.to_be_bytes());
        }
        put_name(&mut out, &self.release);
        out
    }

    /// What somebody with the secret has sent; `None` if it is no heartbeat. What follows the
    /// parts that are known is of a newer version, and ignored.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let r = &mut rest;
        let version = u16::from_be_bytes(take(r)?);
        let from = take_name(r)?;
        let (boot, session, seq) = (number(r)?, number(r)?, number(r)?);
        let [flags] = take(r)?;
        let echo = Some(number(r)?).filter(|_| flags & ECHO != 0);
        let count = u16::from_be_bytes(take(r)?);
        let (mut claims, mut gone) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let [kind] = take(r)?;
            let addr = match kind & SIX {
                0 => IpAddr::from(take::<4>(r)?),
                _ => IpAddr::from(take::<16>(r)?),
            };
            claims.push((addr, u32::from_be_bytes(take(r)?)));
            if kind & GONE != 0 {
                gone.push(addr);
            }
        }
        Some(Beat {
            version,
            from,
            boot,
            session,
            seq,
            echo,
            claims,
            leaving: flags & LEAVING != 0,
            deaf: flags & DEAF != 0,
            connected: flags & CONNECTED != 0,
            drained: flags & DRAINED != 0,
            unlinked: flags & UNLINKED != 0,
            gone,
            // From here on older versions may have less.
            release: take_name(r).unwrap_or_default(),
        })
    }
}

/// The first words of both ends of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's [`VERSION`].
    pub version: u16,
    /// Name of the sender.
    pub name: String,
}

impl Hello {
    /// What this version says as node `name`.
    pub fn new(name: &str) -> Self {
        let name = name.to_owned();
        let version = VERSION;
        Hello { version, name }
    }

    /// As it is sent, before it is sealed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.version.to_be_bytes().to_vec();
        put_name(&mut out, &self.name);
        out
    }

    /// What somebody with the secret has sent; `None` if it is no hello.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let version = u16::from_be_bytes(take(&mut rest)?);
        let name = take_name(&mut rest)?;
        Some(Hello { version, name })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_be_bytes)
}

fn take_name(rest: &mut &[u8]) -> Option<String> {
    let [len] = take(rest)?;
    let (name, behind) = rest.split_at_checked(len.into())?;
    *rest = behind;
    String::from_utf8(name.to_vec()).ok()
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    let mut len = name.len().min(NAME_MAX);
    while !name.is_char_boundary(len) {
        len -= 1;
    }
    // NAME_MAX is the largest that fits.
    out.push(len as u8);
    out.extend_from_slice(&name.as_bytes()[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn beat() -> Beat {
        Beat {
            version: VERSION,
            from: "a".into(),
            boot: 1,
            session: 2,
            seq: 3,
            echo: Some(4),
            claims: vec![
                ("192.0.2.10".parse().unwrap(), 5),
                ("2001:db8::10".parse().unwrap(), 6),
            ],
            leaving: true,
            deaf: false,
            connected: true,
            drained: false,
            unlinked: true,
            gone: vec!["2001:db8::10".parse().unwrap()],
            release: "1.2".into(),
        }
    }

    /// The layout that nodes of all versions rely upon.
    #[test]
    fn the_layout_stays() {
        let [high, low] = VERSION.to_be_bytes();
        let mut want = vec![high, low, 1, b'a'];
        for n in 1..=3 {
            want.extend([0, 0, 0, 0, 0, 0, 0, n]);
        }
        want.push(0b11_0101);
        want.extend([0, 0, 0, 0, 0, 0, 0, 4, 0, 2]);
        want.extend([0, 192, 0, 2, 10, 0, 0, 0, 5]);
        want.extend([
            3, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ]);
        want.extend([0, 0, 0, 6, 3, b'1', b'.', b'2']);
        assert_eq!(beat().encode(), want);
        assert_eq!(Hello::new("b").encode(), [high, low, 1, b'b']);
    }

    #[test]
    fn a_newer_one_may_say_more_and_an_older_one_less() {
        let mut more = beat().encode();
        // Flags and fields that nobody knows yet.
        more[28] |= 0b1100_0000;
        more.extend([9; 100]);
        assert_eq!(Beat::decode(&more), Some(beat()));
        let whole = beat().encode();
        let less = Beat {
            release: String::new(),
            ..beat()
        };
        for len in whole.len() - 4..whole.len() {
            assert_eq!(Beat::decode(&whole[..len]), Some(less.clone()));
        }
        for len in 0..whole.len() - 4 {
            assert_eq!(Beat::decode(&whole[..len]), None, "{len}");
        }
        let other = Beat {
            version: 77,
            ..beat()
        };
        assert_eq!(Beat::decode(&other.encode()), Some(other));
        let mut hello = Hello::new("b").encode();
        hello.extend([9; 100]);
        assert_eq!(Hello::decode(&hello), Some(Hello::new("b")));
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_between_two_letters() {
        let long = Beat {
            from: "é".repeat(200),
            ..beat()
        };
        let heard = Beat::decode(&long.encode()).unwrap();
        assert_eq!(heard.from, "é".repeat(127));
        assert_eq!(heard.claims, long.claims);
    }

    proptest! {
        #[test]
        fn garbage_is_no_heartbeat_or_one_that_is_sent_on_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            keep in 0..400usize,
        ) {
            let _ = Hello::decode(&bytes);
            let mut spoiled = beat().encode();
            spoiled.truncate(keep);
            spoiled.extend(&bytes);
            for bytes in [bytes, spoiled] {
                let Some(mut beat) = Beat::decode(&bytes) else { continue };
                // An address that is claimed twice is gone twice.
                let claimed = beat.claims.iter().map(|c| c.0);
                beat.gone = claimed.filter(|a| beat.gone.contains(a)).collect();
                prop_assert_eq!(Beat::decode(&beat.encode()), Some(beat));
            }
        }
    }
}
