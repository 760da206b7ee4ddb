// SPDX-License-Identifier: GPL-2.0

//! Changes of a packet keep its checksums and touch nothing else; our own packets are sound.

use super::super::csum::Sum;
use super::super::options::{kind, Options};
use super::super::wire::{flags, Csum, Dir, Packet, Segment, SynOptions, MAX_HEADER};
use super::{endpoint, key, sound, spec, sum, ts_option, Spec};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn parse<'a>(bytes: &'a mut [u8], spec: &Spec) -> Packet<'a> {
    let len = bytes.len() as u32;
    Packet::parse(bytes, len, spec.csum).unwrap()
}

#[test]
fn options_are_read_as_linux_reads_them() {
    let syn = [
        2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7, 1, 3, 3, 15,
    ];
    let o = Options::parse(&syn, true);
    assert_eq!(
        (o.mss, o.wscale, o.sack_ok, o.ts),
        (Some(1460), Some(14), true, Some((9, 7)))
    );
    let o = Options::parse(&syn, false);
    assert_eq!(
        (o.mss, o.wscale, o.sack_ok, o.ts),
        (None, None, false, Some((9, 7)))
    );
    assert!(!o.malformed && !o.unknown);

    // What follows EOL, a length below 2 or beyond the end does not count.
    for stop in [&[0, 0][..], &[99, 1], &[99, 40], &[99]] {
        let list = [&[2, 4, 1, 1], stop, &[4, 2]].concat();
        let o = Options::parse(&list[..if stop.len() == 1 { 5 } else { list.len() }], true);
        assert_eq!((o.mss, o.sack_ok), (Some(257), false));
        assert_eq!(o.malformed, stop[0] != 0);
    }
    // Timestamps and SACK of a wrong length are passed over.
    assert_eq!(
        Options::parse(&[8, 9, 0, 0, 0, 0, 0, 0, 0, 4, 2], true).ts,
        None
    );
    assert!(Options::parse(&[5, 9, 0, 0, 0, 0, 0, 0, 0], false)
        .sack()
        .is_empty());
    assert!(Options::parse(&[5, 2], false).sack().is_empty());

    let signed = |o: &[u8]| Options::parse(o, false).signed();
    assert!(signed(&[&[19, 18][..], &[0; 16]].concat()) && signed(&[29, 4, 1, 1]));
    assert!(Options::parse(&[30, 3, 0], true).mptcp);
    assert!(Options::parse(&[34, 2], true).fastopen);
    assert!(Options::parse(&[254, 4, 0xf9, 0x89], true).fastopen);
    assert!(Options::parse(&[254, 4, 0xe2, 0xd4], true).unknown);
}

#[test]
fn blanked_options_are_gone() {
    let mut spec = fixed(Csum::Full);
    spec.flags = flags::SYN;
    spec.options = vec![1, 30, 4, 0, 1, 2, 4, 5, 180, 34, 2, 30, 3, 9];
    let mut bytes = spec.bytes();
    let mut p = parse(&mut bytes, &spec);
    assert!(p.blank_option(kind::MPTCP) && p.blank_option(kind::FASTOPEN));
    assert!(!p.blank_option(kind::MPTCP) && !p.blank_option(kind::AO));
    let o = *p.options();
    assert_eq!(
        (o.mss, o.mptcp, o.fastopen, o.malformed),
        (Some(1460), false, false, false)
    );
    assert!(sound(&bytes, Csum::Full));
    assert_eq!(bytes[40..54], [1, 1, 1, 1, 1, 2, 4, 5, 180, 1, 1, 1, 1, 1]);
}

fn fixed(csum: Csum) -> Spec {
    let end = |a: u8| super::super::wire::Endpoint {
        addr: [a, 0, 0, a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        port: [0, a],
    };
    Spec {
        key: super::Key::new(4, end(10), end(80)),
        dir: Dir::ToService,
        extra: (0, vec![]),
        seq: 1,
        ack: 2,
        flags: flags::ACK,
        window: 3,
        options: vec![],
        payload: vec![],
        csum,
    }
}

/// One change of a packet.
#[derive(Clone, Debug)]
enum Edit {
    Seq(u32),
    Ack(u32),
    Window(u16),
    Ts(u32, u32),
    Sack(usize, u32, u32),
    RemoveSack(usize),
    Clear(u8),
    Blank(u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<u32>().prop_map(Edit::Seq),
        any::<u32>().prop_map(Edit::Ack),
        any::<u16>().prop_map(Edit::Window),
        any::<(u32, u32)>().prop_map(|(a, b)| Edit::Ts(a, b)),
        (0..5usize, any::<u32>(), any::<u32>()).prop_map(|(i, a, b)| Edit::Sack(i, a, b)),
        (0..5usize).prop_map(Edit::RemoveSack),
        any::<u8>().prop_map(Edit::Clear),
        prop_oneof![Just(5u8), Just(8u8)].prop_map(Edit::Blank),
    ]
}

proptest! {
    #[test]
    fn a_packet_says_what_was_put_into_it(spec in spec()) {
        let mut bytes = spec.bytes();
        let p = parse(&mut bytes, &spec);
        prop_assert_eq!(p.key(spec.dir), spec.key);
        prop_assert_eq!((p.seq(), p.ack(), p.window()), (spec.seq, spec.ack, spec.window));
        prop_assert_eq!(p.flags(), spec.flags);
        prop_assert_eq!(p.payload_len() as usize, spec.payload.len());
        prop_assert_eq!(p.header().len() as u32, p.payload_offset());
        prop_assert_eq!(p.seq_len(), p.payload_len() + u32::from(p.fin()));
        prop_assert!(sound(&bytes, spec.csum));
    }

    #[test]
    fn edits_keep_the_checksum(spec in spec(), edits in prop::collection::vec(edit(), 1..12)) {
        let mut bytes = spec.bytes();
        let mut p = parse(&mut bytes, &spec);
        let mut sack = p.options().sack().to_vec();
        let mut ts = p.options().ts;
        for e in edits {
            match e {
                Edit::Seq(n) => { p.set_seq(n); prop_assert_eq!(p.seq(), n); }
                Edit::Ack(n) => { p.set_ack(n); prop_assert_eq!(p.ack(), n); }
                Edit::Window(n) => { p.set_window(n); prop_assert_eq!(p.window(), n); }
                Edit::Ts(a, b) => {
                    prop_assert_eq!(p.set_timestamps(a, b), ts.is_some());
                    ts = ts.map(|_| (a, b));
                }
                Edit::Sack(i, a, b) => {
                    prop_assert_eq!(p.set_sack(i, a, b), i < sack.len());
                    if let Some(s) = sack.get_mut(i) { *s = (a, b); }
                }
                Edit::RemoveSack(i) => {
                    prop_assert_eq!(p.remove_sack_block(i), i < sack.len());
                    if i < sack.len() { sack.remove(i); }
                }
                Edit::Clear(f) => { p.clear_flags(f); prop_assert_eq!(p.flags() & f, 0); }
                Edit::Blank(k) => {
                    p.blank_option(k);
                    if k == 5 { sack.clear() } else { ts = None }
                }
            }
            prop_assert_eq!(p.options().sack(), &sack[..]);
            prop_assert_eq!(p.options().ts, ts);
        }
        prop_assert_eq!(p.complete_change(), 0);
        prop_assert!(sound(&bytes, spec.csum));
        prop_assert_eq!(&bytes[bytes.len() - spec.payload.len()..], &spec.payload[..]);
    }

    #[test]
    fn new_addresses_keep_all_sums(
        (spec, a, b) in spec().prop_flat_map(|s| {
            let f = s.key.family;
            (Just(s), endpoint(f), endpoint(f))
        }),
    ) {
        let mut bytes = spec.bytes();
        // `skb->csum`: what the IP receive path leaves of it covers the TCP segment of IPv4
        // (its header has sum zero) and, until it is pulled, the whole packet of IPv6.
        let before = sum(&bytes);
        let mut p = parse(&mut bytes, &spec);
        p.set_source(a);
        p.set_destination(b);
        let change = p.complete_change();
        let (c, s) = p.key(spec.dir).ends(spec.dir);
        prop_assert_eq!((c, s), (a, b));
        prop_assert!(sound(&bytes, spec.csum));
        if spec.csum == Csum::Full {
            let change = Sum::new(u16::from_be(change as u16));
            prop_assert_eq!(Sum::new(before).add(change).raw() % 0xffff, sum(&bytes) % 0xffff);
        }
    }

    #[test]
    fn own_segments_are_sound(
        key in key(), dir in super::dir(), numbers: (u32, u32, u16), ts: Option<(u32, u32)>,
        syn in prop::option::of((1..9000u16, prop::option::of(0..15u8), any::<bool>())),
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let syn = syn.map(|(mss, wscale, sack_ok)| SynOptions { mss, wscale, sack_ok });
        let segment = Segment {
            dir, seq: numbers.0, ack: numbers.1, window: numbers.2, ts, syn,
            flags: if syn.is_some() { flags::SYN | flags::ACK } else { flags::ACK },
        };
        let mut out = [0xaa; MAX_HEADER];
        let n = segment.write(&key, &payload, &mut out).unwrap();
        let mut bytes: Vec<u8> = [&out[..n], &payload].concat();
        prop_assert!(segment.write(&key, &payload, &mut out[..n - 1]).is_err());
        prop_assert!(sound(&bytes, Csum::Full));
        let len = bytes.len() as u32;
        let p = Packet::parse(&mut bytes, len, Csum::Full).unwrap();
        prop_assert_eq!((p.key(dir), p.seq(), p.ack(), p.window(), p.flags()),
            (key, segment.seq, segment.ack, segment.window, segment.flags));
        let o = p.options();
        prop_assert_eq!(o.ts, ts);
        prop_assert_eq!(p.payload_len() as usize, payload.len());
        prop_assert_eq!((o.mss, o.wscale, o.sack_ok), match syn {
            Some(s) => (Some(s.mss), s.wscale, s.sack_ok),
            None => (None, None, false),
        });
        prop_assert!(!o.malformed && !o.unknown);
    }
}

#[test]
fn the_options_of_a_syn_lie_as_linux_lays_them() {
    let spec = fixed(Csum::Full);
    let mut segment = Segment {
        dir: Dir::ToService,
        seq: 0,
        ack: 0,
        flags: flags::SYN,
        window: 64240,
        ts: Some((1, 0)),
        syn: Some(SynOptions {
            mss: 1460,
            wscale: Some(7),
            sack_ok: true,
        }),
    };
    let mut out = [0; MAX_HEADER];
    assert_eq!(segment.write(&spec.key, &[], &mut out), Ok(60));
    let ts = ts_option(1, 0);
    assert_eq!(
        out[40..60],
        [&[2, 4, 5, 180, 4, 2][..], &ts, &[1, 3, 3, 7]].concat()
    );
    segment.ts = None;
    assert_eq!(segment.write(&spec.key, &[], &mut out), Ok(52));
    assert_eq!(out[40..52], [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7]);
    assert!(segment
        .write(&spec.key, &vec![0; 65_536], &mut out)
        .is_err());
    assert!(segment
        .write(&spec.key, &vec![0; 65_500], &mut out)
        .is_err());
}
