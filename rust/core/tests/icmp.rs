// SPDX-License-Identifier: GPL-2.0

//! ICMP errors.

use super::super::wire::{Csum, Endpoint, Quote, WireError, MAX_QUOTE};
use super::{endpoint, spec, sum, tcp_check, Spec};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// An ICMP error that quotes the first `keep` bytes of `quoted`.
fn error(family: u8, kind: u8, quoted: &[u8], keep: usize) -> Vec<u8> {
    let quoted = &quoted[..keep.min(quoted.len())];
    let len = 8 + quoted.len();
    let mut p = vec![];
    if family == 4 {
        p.extend([
            0x45,
            0,
            0,
            (20 + len) as u8,
            0,
            0,
            0,
            0,
            64,
            1,
            0,
            0,
            1,
            2,
            3,
            4,
            5,
            6,
            7,
            8,
        ]);
        let check = !sum(&p);
        p[10..12].copy_from_slice(&check.to_be_bytes());
    } else {
        p.extend([0x60, 0, 0, 0, 0, len as u8, 58, 64]);
        p.extend([7; 16]);
        p.extend([9; 16]);
    }
    let at = p.len();
    p.extend([kind, 4, 0, 0, 0, 0, 5, 0]);
    p.extend(quoted);
    let check = icmp_check(&p, at);
    p[at + 2..at + 4].copy_from_slice(&check.to_be_bytes());
    p
}

fn icmp_check(p: &[u8], at: usize) -> u16 {
    let mut all = vec![];
    if p[0] >> 4 == 6 {
        all.extend(&p[8..40]);
        all.extend(((p.len() - at) as u32).to_be_bytes());
        all.extend([0, 58]);
    }
    let check = all.len() + 2;
    all.extend(&p[at..]);
    all[check..check + 2].fill(0);
    !sum(&all)
}

fn at(family: u8) -> usize {
    if family == 4 {
        20
    } else {
        40
    }
}

fn plain() -> impl Strategy<Value = Spec> {
    spec().prop_map(|mut s| {
        s.csum = Csum::Full;
        s
    })
}

proptest! {
    #[test]
    fn a_quotation_is_translated(
        spec in plain(), keep in 0..90usize, seq: u32, (a, b) in (endpoint(6), endpoint(6)),
    ) {
        let family = spec.key.family;
        let whole = spec.bytes();
        let tcp = whole.len() - spec.payload.len() - 20 - spec.options.len().next_multiple_of(4);
        let kind = if family == 4 { 3 } else { 2 };
        let mut p = error(family, kind, &whole, keep);
        let icmp = at(family);
        let mut q = match Quote::parse(&mut p) {
            Ok(q) => q,
            Err(e) => {
                prop_assert!(keep < tcp + 8);
                prop_assert_eq!(e, WireError::Short);
                return Ok(());
            }
        };
        prop_assert!(keep >= tcp + 8);
        prop_assert_eq!(q.key(spec.dir), spec.key);
        prop_assert_eq!(q.seq(), spec.seq);
        q.set_seq(seq);
        prop_assert_eq!(q.seq(), seq);
        let cut = |mut e: Endpoint| {
            if family == 4 {
                e.addr[4..].fill(0);
            }
            e
        };
        q.set_source(cut(a));
        q.set_destination(cut(b));
        prop_assert_eq!(q.key(spec.dir).ends(spec.dir), (cut(a), cut(b)));
        q.set_outer_destination(cut(b));
        let check = icmp_check(&p, icmp);
        prop_assert_eq!(&p[icmp + 2..icmp + 4], &check.to_be_bytes());
        // The quoted packet is what it would be if it had been sent like this.
        let quoted = &p[icmp + 8..];
        let mut want = whole.clone();
        let n = quoted.len().min(tcp + 8);
        want[..n].copy_from_slice(&quoted[..n]);
        let check = tcp_check(&want, tcp, Csum::Full);
        want[tcp + 16..tcp + 18].copy_from_slice(&check.to_be_bytes());
        // Half a checksum says nothing and stays as it was.
        let whole_check = quoted.len() >= tcp + 18;
        let n = if whole_check { quoted.len() } else { quoted.len().min(tcp + 16) };
        prop_assert_eq!(&quoted[..n], &want[..n]);
        if family == 4 {
            prop_assert_eq!(sum(&p[..20]), 0xffff);
            prop_assert_eq!(sum(&quoted[..usize::from(quoted[0] & 15) * 4]), 0xffff);
        }
    }

    #[test]
    fn other_messages_are_left_alone(spec in plain(), kind: u8) {
        let family = spec.key.family;
        let errors: &[u8] = if family == 4 { &[3, 11, 12] } else { &[1, 2, 3, 4] };
        let mut p = error(family, kind, &spec.bytes(), 90);
        prop_assert_eq!(Quote::parse(&mut p).is_ok(), errors.contains(&kind));
    }

    #[test]
    fn garbage_is_harmless(spec in plain(), flip: prop::sample::Index, with: u8, cut: prop::sample::Index) {
        let mut p = error(spec.key.family, 3, &spec.bytes(), MAX_QUOTE);
        let i = flip.index(p.len());
        p[i] ^= with;
        let end = cut.index(p.len() + 1);
        if let Ok(mut q) = Quote::parse(&mut p[..end]) {
            q.set_seq(1);
            q.set_source(Endpoint::default());
        }
    }
}
