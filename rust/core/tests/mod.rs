// SPDX-License-Identifier: GPL-2.0

//! Packets for tests, put together and checked without the code that is tested.

mod excerpt;
mod express;
mod gates;
mod ghost;
mod icmp;
mod joined;
mod kit;
mod lost;
mod observe;
mod packet;
mod replay;
mod rescue;
mod served;
mod splice;
mod wire;

use super::wire::{Csum, Dir, Endpoint, Key};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// A packet as a test wants it.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) key: Key,
    pub(super) dir: Dir,
    /// IPv4 options or IPv6 extension headers, with the protocol number of the first.
    pub(super) extra: (u8, Vec<u8>),
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// TCP options, padded to whole words here.
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) csum: Csum,
}

impl Spec {
    /// All bytes of the packet.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut tcp = vec![];
        let (source, destination) = self.key.ends(self.dir);
        let mut options = self.options.clone();
        while options.len() % 4 != 0 {
            options.push(0);
        }
        tcp.extend(source.port);
        tcp.extend(destination.port);
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.push((((20 + options.len()) / 4) << 4) as u8);
        tcp.push(self.flags);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&options);
        tcp.extend(&self.payload);
        let extra = &self.extra.1;
        let mut ip = vec![];
        if self.key.family == 4 {
            ip.extend([0x45 + (extra.len() / 4) as u8, 0]);
            ip.extend(((20 + extra.len() + tcp.len()) as u16).to_be_bytes());
            ip.extend([0x12, 0x34, 0x40, 0, 61, 6, 0, 0]);
            ip.extend(&source.addr[..4]);
            ip.extend(&destination.addr[..4]);
            ip.extend(extra);
            let check = !sum(&ip);
            ip[10..12].copy_from_slice(&check.to_be_bytes());
        } else {
            ip.extend([0x60, 1, 2, 3]);
            ip.extend(((extra.len() + tcp.len()) as u16).to_be_bytes());
            ip.extend([if extra.is_empty() { 6 } else { self.extra.0 }, 61]);
            ip.extend(source.addr);
            ip.extend(destination.addr);
            ip.extend(extra);
        }
        let at = ip.len();
        ip.extend(tcp);
        let check = tcp_check(&ip, at, self.csum);
        ip[at + 16..at + 18].copy_from_slice(&check.to_be_bytes());
        ip
    }
}

/// The folded sum of 16-bit words (RFC 1071, section 4.1, literally).
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += (u64::from(pair[0]) << 8) | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The TCP checksum of a whole packet, computed from nothing.
pub(super) fn tcp_check(packet: &[u8], tcp: usize, csum: Csum) -> u16 {
    let addrs = if packet[0] >> 4 == 4 { 12..20 } else { 8..40 };
    let mut all = packet[addrs].to_vec();
    all.extend(((packet.len() - tcp) as u32).to_be_bytes());
    all.extend([0, 6]);
    if csum == Csum::Partial {
        return sum(&all);
    }
    all.extend(&packet[tcp..]);
    let check = all.len() - (packet.len() - tcp) + 16;
    all[check..check + 2].fill(0);
    !sum(&all)
}

/// Whether the checksums of `packet` are what they would be if computed anew.
pub(super) fn sound(packet: &[u8], csum: Csum) -> bool {
    let mut copy = packet.to_vec();
    let m = super::wire::measure(packet, packet.len() as u32).unwrap();
    let at = m.tcp_offset + 16;
    let ip_sound = m.family == 6 || {
        copy[10..12].fill(0);
        packet[10..12] == (!sum(&copy[..usize::from(packet[0] & 15) * 4])).to_be_bytes()
    };
    ip_sound && packet[at..at + 2] == tcp_check(packet, m.tcp_offset, csum).to_be_bytes()
}

pub(super) fn endpoint(family: u8) -> impl Strategy<Value = Endpoint> {
    any::<([u8; 16], [u8; 2])>().prop_map(move |(mut addr, port)| {
        if family == 4 {
            addr[4..].fill(0);
        }
        Endpoint { addr, port }
    })
}

pub(super) fn key() -> impl Strategy<Value = Key> {
    prop_oneof![Just(4u8), Just(6u8)].prop_flat_map(|family| {
        (endpoint(family), endpoint(family)).prop_map(move |(c, s)| Key::new(family, c, s))
    })
}

pub(super) fn dir() -> impl Strategy<Value = Dir> {
    prop_oneof![Just(Dir::ToService), Just(Dir::ToClient)]
}

pub(super) fn csum() -> impl Strategy<Value = Csum> {
    prop_oneof![Just(Csum::Full), Just(Csum::Partial)]
}

/// A timestamps option.
pub(super) fn ts_option(tsval: u32, tsecr: u32) -> Vec<u8> {
    [&[8, 10][..], &tsval.to_be_bytes(), &tsecr.to_be_bytes()].concat()
}

/// A SACK option.
pub(super) fn sack_option(blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut out = vec![5, 2 + 8 * blocks.len() as u8];
    for (left, right) in blocks {
        out.extend(left.to_be_bytes());
        out.extend(right.to_be_bytes());
    }
    out
}

/// Options of a segment without SYN: timestamps and SACK, present or not, at any alignment.
pub(super) fn options() -> impl Strategy<Value = Vec<u8>> {
    let ts = prop::option::of(any::<(u32, u32)>());
    let block = (any::<u32>(), 1..1u32 << 30).prop_map(|(l, len)| (l, l.wrapping_add(len)));
    let sack = prop::collection::vec(block, 0..=4);
    (ts, sack, 0..4usize, any::<bool>()).prop_map(|(ts, mut sack, pad, swap)| {
        if ts.is_some() {
            sack.truncate(3);
        }
        let mut parts = vec![];
        if let Some((tsval, tsecr)) = ts {
            parts.push(ts_option(tsval, tsecr));
        }
        if !sack.is_empty() {
            parts.push(sack_option(&sack));
        }
        if swap {
            parts.reverse();
        }
        let room = 40 - parts.iter().map(Vec::len).sum::<usize>();
        [vec![1; pad.min(room)], parts.concat()].concat()
    })
}

/// IPv4 options or IPv6 extension headers.
fn extra(family: u8) -> impl Strategy<Value = (u8, Vec<u8>)> {
    (0..3usize).prop_map(move |n| match (family, n) {
        (_, 0) => (0, vec![]),
        (4, n) => (0, vec![1; n * 4]),
        // Hop-by-hop, and behind it destination options or an atomic fragment.
        (_, 1) => (
            0,
            [&[60, 0, 1, 4, 0, 0, 0, 0], &[6, 1][..], &[0; 14]].concat(),
        ),
        _ => (44, vec![6, 0, 0, 0, 1, 2, 3, 4]),
    })
}

/// Any packet of an established flow.
pub(super) fn spec() -> impl Strategy<Value = Spec> {
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    let fields = any::<(u32, u32, u16, bool)>();
    (key(), dir(), fields, options(), payload, csum()).prop_flat_map(
        |(key, dir, (seq, ack, window, fin), options, payload, csum)| {
            extra(key.family).prop_map(move |extra| Spec {
                key,
                dir,
                extra,
                seq,
                ack,
                flags: 0x10 | u8::from(fin),
                window,
                options: options.clone(),
                payload: payload.clone(),
                csum,
            })
        },
    )
}
