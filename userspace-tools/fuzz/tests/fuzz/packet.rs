// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Packets as bytes: headers that end early, contradict each other or lie about lengths.

use super::flow::checksum_is_right;
use holdfast_core::wire::{
    is_icmp, key_of, measure, Csum, Dir, Packet, Quote, WireError, MAX_QUOTE,
};
use holdfast_fuzz::{noise, run, spoil, spoiled, Rng};
use holdfast_sim::packet::Tcp;

/// Packets of both families, with all options, plain and with IPv6 extension headers.
pub fn seeds(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for family in [4, 6] {
        let mut t = Tcp {
            family,
            seq: rng.bits() as u32,
            ack: rng.bits() as u32,
            flags: 0x10,
            window: 1000,
            ts: Some((1, 2)),
            sack: vec![(3, 4), (5, 6), (7, 8)],
            payload: vec![0x55; 40],
            ..Tcp::default()
        };
        (t.from.port, t.to.port) = ([0x20, 1], [0, 80]);
        all.push(t.encode());
        let syn = Tcp {
            flags: 2,
            mss: Some(1460),
            wscale: Some(7),
            sack_ok: true,
            sack: vec![],
            payload: vec![],
            ..t
        };
        all.push(syn.encode());
    }
    // Hop-by-hop, routing and destination options before TCP.
    let plain = all[2].clone();
    let mut chain = plain[..40].to_vec();
    chain[6] = 0;
    chain.extend([43, 0, 1, 4, 0, 0, 0, 0]);
    chain.extend([60, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend([6, 0, 1, 4, 0, 0, 0, 0]);
    chain.extend(&plain[40..]);
    let len = (chain.len() - 40) as u16;
    chain[4..6].copy_from_slice(&len.to_be_bytes());
    all.push(chain);
    all
}

/// Headers are found inside the bytes or not at all, in as few readings as promised, and no
/// change goes beyond them or spoils a checksum that was right.
#[test]
fn packets() {
    run("packets", |rng| {
        let seeds = seeds(rng);
        let seeds: Vec<&[u8]> = seeds.iter().map(|s| &s[..]).collect();
        let mut bytes = spoiled(rng, &seeds);
        let total = match rng.below(10) {
            0 => rng.below(80_000) as u32,
            _ => bytes.len() as u32,
        };
        is_icmp(&bytes);
        // As the hooks do: more is read only where more was asked for.
        let mut n = bytes.len().min(64);
        let m = loop {
            match measure(&bytes[..n], total) {
                Ok(m) => break Some(m),
                Err(WireError::Need(more)) => {
                    assert!(
                        more > n && more <= total as usize,
                        "{more} of {total}, after {n}"
                    );
                    if more > bytes.len() {
                        break None;
                    }
                    n = more;
                }
                Err(_) => break None,
            }
        };
        let Some(m) = m else { return };
        assert!(m.tcp_offset + 20 <= m.header_len);
        assert!(m.header_len as u64 + u64::from(m.payload_len) <= u64::from(total));
        key_of(&bytes[..n], &m, Dir::ToService);
        let (was, header_len) = (bytes.clone(), m.header_len);
        let right = checksum_is_right(&bytes);
        let Ok(mut p) = Packet::parse(&mut bytes, total, Csum::Full) else {
            return;
        };
        let blocks = p.options().sack().len();
        for _ in 0..rng.below(12) {
            let (a, b) = (rng.bits() as u32, rng.bits() as u32);
            let i = rng.below(6) as usize;
            match rng.below(9) {
                0 => p.set_seq(a),
                1 => p.set_ack(a),
                2 => p.set_window(a as u16),
                3 => assert_eq!(p.set_timestamps(a, b), p.options().ts.is_some()),
                4 => assert!(p.set_sack(i, a, b) == (i < p.options().sack().len())),
                5 => {
                    p.remove_sack_block(i);
                }
                6 => {
                    p.blank_option(a as u8);
                }
                7 => p.clear_flags(a as u8),
                _ => p.set_flags(a as u8),
            }
            assert!(p.options().sack().len() <= blocks.max(4));
        }
        assert!(bytes.len() == was.len());
        assert_eq!(bytes.get(header_len..), was.get(header_len..));
        assert!(
            !right || checksum_is_right(&bytes),
            "{was:02x?} {bytes:02x?}"
        );
    });
}

/// ICMP errors that quote garbage are not read, or changed within what they quote.
#[test]
fn quotations() {
    run("quotations", |rng| {
        let seeds = seeds(rng);
        let quoted = &seeds[rng.below(4) as usize];
        let v4 = quoted[0] >> 4 == 4;
        let mut bytes = if v4 {
            let mut b = vec![
                0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 9, 10, 0, 0, 80,
            ];
            b.extend([3, 4, 0, 0, 0, 0, 5, 0]);
            b
        } else {
            let mut b = vec![0x60, 0, 0, 0, 0, 0, 58, 64];
            b.extend([0xfd; 32]);
            b.extend([2, 0, 0, 0, 0, 0, 5, 0]);
            b
        };
        bytes.extend(&quoted[..quoted.len().min(rng.range(0, 100) as usize)]);
        for _ in 0..rng.below(5) {
            spoil(rng, &mut bytes);
        }
        if rng.permille(50) {
            bytes = noise(rng, 100);
        }
        bytes.truncate(MAX_QUOTE);
        let was = bytes.clone();
        if let Ok(mut q) = Quote::parse(&mut bytes) {
            q.key(Dir::ToClient);
            let seq = rng.bits() as u32;
            q.set_seq(seq);
            assert_eq!(q.seq(), seq);
        } else {
            assert_eq!(bytes, was);
        }
    });
}
