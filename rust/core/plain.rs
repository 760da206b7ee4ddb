// SPDX-License-Identifier: GPL-2.0

//! A plain packet: what nearly every packet of an open connection is.
//!
//! Without IP options or extension headers; of the control bits that matter here ACK and no other;
//! with no TCP options, or with timestamps as Linux and most others lay them out. Such a packet is
//! read into a few numbers at once, where its headers lie in one piece.
//! [`Packet`](super::packet::Packet) is any other.
//!
//! What is here is compiled once for each family: `AT` is [`V4`] or [`V6`].

use super::csum::Sum;
use super::options::ALIGNED;
use super::wire::{flags, Csum, Dir, Service, TCP_HEADER};

/// Bytes from the network header to the TCP header in IPv4.
pub const V4: usize = 20;
/// The same in IPv6.
pub const V6: usize = 40;
/// Bytes of the headers of the longest plain packet.
pub const MAX_PLAIN: usize = V6 + TCP_HEADER + TIMESTAMPS;

/// Bytes of the aligned timestamps.
const TIMESTAMPS: usize = 12;

/// The words of the 40 bytes of a [`Key`](super::wire::Key), in the machine's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub [u64; 5]);

/// `N` bytes at `at`; zeros if there are not so many.
#[inline(always)]
fn bytes<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    match from.get(at..).and_then(|b| b.first_chunk()) {
        Some(found) => *found,
        None => [0; N],
    }
}

#[inline(always)]
fn word(from: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes(from, at))
}

impl Name {
    /// The name of the flow of a packet in direction `dir` that begins with `front`, in which
    /// [`port_of`](super::wire::port_of) has found a port: it is TCP right behind a fixed header.
    /// `None`: it is not plain, or too little of it lies there. Options are not looked at yet.
    #[inline(always)]
    pub fn of<const AT: usize>(front: &[u8], dir: Dir) -> Option<Self> {
        const MATTER: u8 = flags::SYN | flags::FIN | flags::RST | flags::ACK;
        // One length is asked for, that of all headers without TCP options.
        if front.len() < AT + TCP_HEADER {
            return None;
        }
        let head = &front[..AT + TCP_HEADER];
        let family = if AT == V4 { 4 } else { 6 };
        if head[AT + 13] & MATTER != flags::ACK {
            return None;
        }
        let [source, destination] = if AT == V4 {
            let address = |at| {
                let [a, b, c, d] = bytes(head, at);
                [u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), 0]
            };
            [address(12), address(16)]
        } else {
            let half = |at| u64::from_ne_bytes(bytes(head, at));
            [[half(8), half(16)], [half(24), half(32)]]
        };
        let [s0, s1, d0, d1] = bytes(head, AT);
        Some(match dir {
            Dir::ToService => Name([
                source[0],
                source[1],
                destination[0],
                destination[1],
                u64::from_ne_bytes([s0, s1, d0, d1, family, 0, 0, 0]),
            ]),
            Dir::ToClient => Name([
                destination[0],
                destination[1],
                source[0],
                source[1],
                u64::from_ne_bytes([d0, d1, s0, s1, family, 0, 0, 0]),
            ]),
        })
    }

    /// Whether the flow is one of `service`.
    #[inline(always)]
    pub fn is_of(&self, service: &Service) -> bool {
        let [_, _, low, high, rest] = self.0;
        let [_, _, p0, p1, family, pad, ..] = rest.to_ne_bytes();
        let half = |at| u64::from_ne_bytes(bytes(&service.addr, at));
        let [s0, s1] = service.port;
        let same = u32::from_ne_bytes([p0, p1, family, pad])
            == u32::from_ne_bytes([s0, s1, service.family, service.pad]);
        same && low == half(0) && high == half(8)
    }
}

/// What is read of a plain packet. Numbers are in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The window field, not scaled.
    pub window: u16,
    /// TSval and TSecr.
    pub ts: Option<(u32, u32)>,
    /// Bytes of payload.
    pub len: u32,
}

impl Plain {
    /// Reads the packet that begins with `front`, of `total` bytes in all, which has a [`Name`].
    /// `None`: it is not plain, or its headers do not lie in `front`.
    #[inline(always)]
    pub fn read<const AT: usize>(front: &[u8], total: u32) -> Option<Self> {
        if front.len() < AT + TCP_HEADER {
            return None;
        }
        let head = &front[..AT + TCP_HEADER];
        let said = if AT == V4 {
            u32::from(u16::from_be_bytes([head[2], head[3]]))
        } else {
            match u16::from_be_bytes([head[4], head[5]]) {
                0 => 0,
                n => V6 as u32 + u32::from(n),
            }
        };
        // 0: a super-packet, as in `measure`.
        let total = match said {
            0 => total,
            n if n > total => return None,
            n => n,
        };
        let (ts, headers) = match head[AT + 12] >> 4 {
            5 => (None, AT + TCP_HEADER),
            8 => {
                let end = AT + TCP_HEADER + TIMESTAMPS;
                if front.len() < end {
                    return None;
                }
                let options = &front[AT + TCP_HEADER..end];
                if !options.starts_with(&ALIGNED) {
                    return None;
                }
                (Some((word(options, 4), word(options, 8))), end)
            }
            _ => return None,
        };
        Some(Plain {
            seq: word(head, AT + 4),
            ack: word(head, AT + 8),
            window: u16::from_be_bytes(bytes(head, AT + 14)),
            ts,
            len: total.checked_sub(headers as u32)?,
        })
    }

    /// Whether the headers would be others.
    #[inline(always)]
    pub fn differs(&self, from: &Plain) -> bool {
        let numbers = (self.seq ^ from.seq) | (self.ack ^ from.ack);
        numbers != 0 || self.window != from.window || self.ts != from.ts
    }

    /// Bytes of the headers.
    #[inline(always)]
    pub fn header_len<const AT: usize>(&self) -> usize {
        let options = if self.ts.is_some() { TIMESTAMPS } else { 0 };
        AT + TCP_HEADER + options
    }

    /// Writes `new` over the packet that was read as this, whose headers are `headers`. Its
    /// checksum stays as right as it was (RFC 1624), and so does the sum of all bytes.
    ///
    /// `false`, and nothing is done: the headers are not those, or the checksum is the other zero
    /// (0xffff), which a change of several fields at once need not keep.
    #[inline(always)]
    pub fn write<const AT: usize>(&self, new: &Plain, headers: &mut [u8], csum: Csum) -> bool {
        let tcp = headers.get_mut(AT..).unwrap_or_default();
        let Some((tcp, options)) = tcp.split_first_chunk_mut::<TCP_HEADER>() else {
            return false;
        };
        let mut sum = 0;
        if csum == Csum::Full {
            let check = u16::from_be_bytes([tcp[16], tcp[17]]);
            if check == 0xffff {
                return false;
            }
            sum = u64::from(!check);
            let windows = (u32::from(self.window), u32::from(new.window));
            for (old, new) in [(self.seq, new.seq), (self.ack, new.ack), windows] {
                sum += u64::from(!old) + u64::from(new);
            }
        }
        if let (Some(old), Some(new)) = (self.ts, new.ts) {
            let Some(options) = options.first_chunk_mut::<TIMESTAMPS>() else {
                return false;
            };
            options[4..8].copy_from_slice(&new.0.to_be_bytes());
            options[8..].copy_from_slice(&new.1.to_be_bytes());
            sum += u64::from(!old.0) + u64::from(new.0) + u64::from(!old.1) + u64::from(new.1);
        }
        tcp[4..8].copy_from_slice(&new.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&new.ack.to_be_bytes());
        tcp[14..16].copy_from_slice(&new.window.to_be_bytes());
        if csum == Csum::Full {
            tcp[16..18].copy_from_slice(&Sum::folded(sum).check().to_be_bytes());
        }
        true
    }
}
