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
    /// `None`: too little of it lies there. Whether it is plain is not looked at yet.
    #[inline(always)]
    pub fn of<const AT: usize>(front: &[u8], dir: Dir) -> Option<Self> {
        // One length is asked for, that of all headers without TCP options.
        if front.len() < AT + TCP_HEADER {
            return None;
        }
        let head = &front[..AT + TCP_HEADER];
        let family = if AT == V4 { 4 } else { 6 };
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

    /// Of an IPv4 flow, both addresses and the ports: the words that may differ.
    #[inline(always)]
    pub fn ipv4(&self) -> [[u8; 4]; 3] {
        let [client, _, service, _, rest] = self.0;
        let first = |word: u64| bytes(&word.to_ne_bytes(), 0);
        [first(client), first(service), first(rest)]
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

/// Whether the packet that begins with `front`, which has a [`Name`], is a plain one, and if so whether
/// it has timestamps. `None`: it is not, or its headers do not lie in `front`.
#[inline(always)]
pub fn stamped<const AT: usize>(front: &[u8]) -> Option<bool> {
    /// Of the data offset and the control bits, as they lie in the header.
    const fn kind(offset: u8, flags: u8) -> u16 {
        u16::from_ne_bytes([offset, flags])
    }
    const MATTER: u16 = kind(0xf0, flags::SYN | flags::FIN | flags::RST | flags::ACK);
    const BARE: u16 = kind(0x50, flags::ACK);
    const STAMPED: u16 = kind(0x80, flags::ACK);
    let end = AT + TCP_HEADER + TIMESTAMPS;
    // The longer one first: one length is asked for.
    let long = front.len() >= end;
    if !long && front.len() < AT + TCP_HEADER {
        return None;
    }
    match u16::from_ne_bytes(bytes(front, AT + 12)) & MATTER {
        STAMPED if long && front[AT + TCP_HEADER..end].starts_with(&ALIGNED) => Some(true),
        BARE => Some(false),
        _ => None,
    }
}

/// Bytes of the headers of a plain packet.
#[inline(always)]
pub const fn header_len<const AT: usize>(stamped: bool) -> usize {
    AT + TCP_HEADER + if stamped { TIMESTAMPS } else { 0 }
}

/// The length of a packet that does not say `total`.
#[cold]
#[inline(never)]
fn other_len(said: u16, whole: u32, total: u32) -> Option<u32> {
    match said {
        // A super-packet, as in `measure`.
        0 => Some(total),
        _ => Some(whole).filter(|n| *n <= total),
    }
}

impl Plain {
    /// Reads the packet that begins with `front`, of `total` bytes in all, which has a [`Name`].
    /// `None`: it is not plain, or its headers do not lie in `front`.
    #[inline(always)]
    pub fn read<const AT: usize>(front: &[u8], total: u32) -> Option<Self> {
        Self::sized::<AT>(front, total, stamped::<AT>(front)?)
    }

    /// As [`Plain::read`], where it is known whether there are timestamps.
    #[inline(always)]
    pub fn sized<const AT: usize>(front: &[u8], total: u32, stamped: bool) -> Option<Self> {
        let n = header_len::<AT>(stamped);
        if front.len() < n {
            return None;
        }
        let (head, options) = front[..n].split_at(AT + TCP_HEADER);
        let (said, fixed) = if AT == V4 {
            (u16::from_be_bytes(bytes(head, 2)), 0)
        } else {
            (u16::from_be_bytes(bytes(head, 4)), V6 as u32)
        };
        let whole = u32::from(said) + fixed;
        let total = if whole == total {
            total
        } else {
            other_len(said, whole, total)?
        };
        let ts = if stamped {
            Some((word(options, 4), word(options, 8)))
        } else {
            None
        };
        Some(Plain {
            seq: word(head, AT + 4),
            ack: word(head, AT + 8),
            window: u16::from_be_bytes(bytes(head, AT + 14)),
            ts,
            len: total.checked_sub(n as u32)?,
        })
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
        let stamps = self.ts.zip(new.ts);
        let options = match stamps {
            None => &mut [0; TIMESTAMPS],
            Some(_) => match options.first_chunk_mut::<TIMESTAMPS>() {
                Some(options) => options,
                None => return false,
            },
        };
        if csum == Csum::Full {
            let check = u16::from_be_bytes([tcp[16], tcp[17]]);
            if check == 0xffff {
                return false;
            }
            let change = |old: u32, new: u32| u64::from(!old) + u64::from(new);
            let mut sum = u64::from(!check);
            sum += change(self.seq, new.seq) + change(self.ack, new.ack);
            if self.window != new.window {
                sum += change(self.window.into(), new.window.into());
            }
            if let Some((old, new)) = stamps {
                if old.0 != new.0 {
                    sum += change(old.0, new.0);
                }
                if old.1 != new.1 {
                    sum += change(old.1, new.1);
                }
            }
            tcp[16..18].copy_from_slice(&Sum::folded(sum).check().to_be_bytes());
        }
        tcp[4..8].copy_from_slice(&new.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&new.ack.to_be_bytes());
        if self.window != new.window {
            tcp[14..16].copy_from_slice(&new.window.to_be_bytes());
        }
        if let Some((old, new)) = stamps {
            // What does not change in any packet of a direction is seen by the compiler.
            if old.0 != new.0 {
                options[4..8].copy_from_slice(&new.0.to_be_bytes());
            }
            if old.1 != new.1 {
                options[8..].copy_from_slice(&new.1.to_be_bytes());
            }
        }
        true
    }
}
