// SPDX-License-Identifier: GPL-2.0

//! The walk to the TCP header.

use super::super::wire::{key_of, measure, port_of, Csum, Dir, Key, Packet, WireError};
use super::{key, spec};
use proptest::prelude::*;
use std::vec::Vec;

fn v4() -> Vec<u8> {
    let mut p = [0u8; 60].to_vec();
    p[0] = 0x45;
    p[3] = 60;
    p[9] = 6;
    p[32] = 0x50;
    p
}

/// IPv6 with the extension headers `ext`, of which the first is `next`, and TCP.
fn v6(next: u8, ext: &[u8]) -> Vec<u8> {
    let mut p = [0u8; 40].to_vec();
    p[0] = 0x60;
    p[5] = ext.len() as u8 + 20;
    p[6] = next;
    p.extend(ext);
    p.extend([0; 12]);
    p.extend([0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    p
}

fn look(p: &[u8]) -> Result<(usize, usize, u32), WireError> {
    measure(p, p.len() as u32).map(|m| (m.tcp_offset, m.header_len, m.payload_len))
}

#[test]
fn ipv4() {
    assert_eq!(look(&v4()), Ok((20, 40, 20)));
    let with = |at: usize, byte: u8| {
        let mut p = v4();
        p[at] = byte;
        look(&p)
    };
    assert_eq!(
        with(0, 0x46),
        Err(WireError::Malformed),
        "data offset is 0 then"
    );
    assert_eq!(with(0, 0x44), Err(WireError::Malformed));
    assert_eq!(with(0, 0x55), Err(WireError::Malformed));
    assert_eq!(with(9, 17), Err(WireError::NotTcp));
    assert_eq!(with(6, 0x40), Ok((20, 40, 20)), "don't fragment");
    assert_eq!(with(6, 0x20), Err(WireError::Fragment), "more fragments");
    assert_eq!(with(7, 1), Err(WireError::Fragment), "offset");
    assert_eq!(
        with(32, 0x40),
        Err(WireError::Malformed),
        "data offset below 5"
    );
    assert_eq!(
        with(32, 0xf0),
        Err(WireError::Malformed),
        "data offset beyond the packet"
    );
    assert_eq!(with(3, 61), Err(WireError::Short), "truncated");
    assert_eq!(with(3, 45), Ok((20, 40, 5)), "padding");
    assert_eq!(with(3, 39), Err(WireError::Short));
    assert_eq!(with(3, 19), Err(WireError::Malformed));
    assert_eq!(with(3, 0), Ok((20, 40, 20)), "a super-packet");
}

#[test]
fn ipv6() {
    assert_eq!(look(&v6(6, &[])), Ok((40, 60, 0)));
    assert_eq!(look(&v6(0, &[6, 0, 0, 0, 0, 0, 0, 0])), Ok((48, 68, 0)));
    assert_eq!(
        look(&v6(60, &[[6, 1].as_slice(), &[0; 14]].concat())),
        Ok((56, 76, 0))
    );
    assert_eq!(look(&v6(43, &[6, 0, 0, 0, 0, 0, 0, 0])), Ok((48, 68, 0)));
    assert_eq!(
        look(&v6(43, &[6, 0, 0, 1, 0, 0, 0, 0])),
        Err(WireError::ExtensionHeader)
    );
    assert_eq!(
        look(&v6(51, &[6, 0, 0, 0, 0, 0, 0, 0])),
        Err(WireError::ExtensionHeader)
    );
    assert_eq!(
        look(&v6(44, &[6, 0, 0, 0, 9, 9, 9, 9])),
        Ok((48, 68, 0)),
        "atomic"
    );
    assert_eq!(
        look(&v6(44, &[6, 0, 0, 1, 9, 9, 9, 9])),
        Err(WireError::Fragment)
    );
    assert_eq!(
        look(&v6(44, &[6, 0, 0, 8, 9, 9, 9, 9])),
        Err(WireError::Fragment)
    );
    assert_eq!(look(&v6(59, &[])), Err(WireError::NotTcp));
    assert_eq!(look(&v6(50, &[])), Err(WireError::NotTcp));
    let many = [60, 0, 0, 0, 0, 0, 0, 0].repeat(20);
    assert_eq!(look(&v6(60, &many)), Err(WireError::ExtensionHeader));
}

proptest! {
    /// What a caller does who pulls as many bytes as asked for: it ends, with the same result.
    #[test]
    fn need_leads_to_the_answer(spec in spec()) {
        let mut bytes = spec.bytes();
        let total = bytes.len() as u32;
        let whole = measure(&bytes, total).unwrap();
        let mut have = 0;
        let found = loop {
            match measure(&bytes[..have], total) {
                Err(WireError::Need(n)) => {
                    prop_assert!(n > have && n <= bytes.len());
                    have = n;
                }
                other => break other,
            }
        };
        prop_assert_eq!(found, Ok(whole));
        let n = whole.header_len;
        prop_assert!(Packet::parse(&mut bytes[..n], total, spec.csum).is_ok());
        let short = Packet::parse(&mut bytes[..n - 1], total, spec.csum);
        prop_assert_eq!(short.err(), Some(WireError::Need(n)));
    }

    /// Any bytes at all: no panic, and nothing beyond the end.
    #[test]
    fn garbage_is_harmless(mut bytes: Vec<u8>, version in 4..7u8, total: u32, proto in 0..70u8) {
        if let Some(b) = bytes.first_mut() {
            *b = (version << 4) | (*b & 15);
        }
        for at in [6, 9] {
            if let Some(b) = bytes.get_mut(at) {
                *b = proto;
            }
        }
        if let Ok(m) = measure(&bytes, total) {
            prop_assert!(m.header_len as u64 + u64::from(m.payload_len) <= u64::from(total));
        }
        let len = bytes.len() as u32;
        if let Ok(mut p) = Packet::parse(&mut bytes, len, Csum::Full) {
            while p.remove_sack_block(0) {}
            p.set_timestamps(1, 2);
            p.blank_option(8);
        }
    }

    #[test]
    fn truncated_or_flipped_packets_are_harmless(
        spec in spec(), cut: prop::sample::Index, flip: prop::sample::Index, with: u8,
    ) {
        let mut bytes = spec.bytes();
        let i = flip.index(bytes.len());
        bytes[i] ^= with;
        let end = cut.index(bytes.len() + 1);
        let total = bytes.len() as u32;
        if let Ok(mut p) = Packet::parse(&mut bytes[..end], total, spec.csum) {
            p.set_sack(0, 1, 2);
            while p.remove_sack_block(0) {}
            p.set_timestamps(1, 2);
            prop_assert!(p.payload_offset() + p.payload_len() <= total);
        }
    }

    #[test]
    fn a_key_survives_its_bytes(key in key()) {
        prop_assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key));
        let mut bytes = key.to_bytes();
        bytes[39] = 1;
        prop_assert_eq!(Key::from_bytes(&bytes), None);
        let mut bytes = key.to_bytes();
        bytes[36] = 5;
        prop_assert_eq!(Key::from_bytes(&bytes), None);
    }
}

#[test]
fn the_port_alone_is_that_of_the_key() {
    for (mut p, tcp, proto) in [(v4(), 20, 9), (v6(6, &[]), 40, 6)] {
        let family = tcp == 40;
        p[tcp..tcp + 4].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(port_of(&p, Dir::ToService), Some((0x0304, family)));
        assert_eq!(port_of(&p, Dir::ToClient), Some((0x0102, family)));
        let m = measure(&p, p.len() as u32).unwrap();
        assert_eq!(key_of(&p, &m, Dir::ToService).sport, [3, 4]);
        // What is not all there, or is not the plain case, says nothing.
        assert_eq!(port_of(&p[..tcp], Dir::ToService), None);
        p[proto] = 17;
        assert_eq!(port_of(&p, Dir::ToService), None);
    }
    for (at, byte) in [(6, 0x20), (7, 1), (0, 0x46)] {
        let mut p = v4();
        p[at] = byte;
        assert_eq!(port_of(&p, Dir::ToService), None);
    }
    assert_eq!(port_of(&[], Dir::ToService), None);
}
