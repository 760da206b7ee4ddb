// SPDX-License-Identifier: GPL-2.0

//! What a packet on the wire is called, and where its TCP header lies.
//!
//! Packets are read and changed as byte slices that begin at the network header. Here are
//! the names ([`Key`], [`Service`]) and the walk to the TCP header ([`measure`]); a parsed
//! packet is a [`Packet`], its options are [`Options`], a packet of our own a [`Segment`],
//! and what an ICMP error quotes a [`Quote`].

use super::counter::Counter;

pub use super::icmp::{Quote, MAX_QUOTE};
pub use super::options::Options;
pub use super::packet::Packet;
pub use super::segment::{Segment, SynOptions, MAX_HEADER};

/// The control bits of a TCP header (RFC 9293, section 3.1), as in [`Packet::flags`].
pub mod flags {
    /// No more data from the sender; takes one sequence number.
    pub const FIN: u8 = 0x01;
    /// Synchronises sequence numbers; takes one.
    pub const SYN: u8 = 0x02;
    /// Resets the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is valid.
    pub const URG: u8 = 0x20;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// A direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dir {
    /// From the client to the service (c2s).
    ToService,
    /// From the service to the client (s2c).
    ToClient,
}

/// What the check field of a TCP header holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Csum {
    /// The checksum of the pseudo header, header and payload.
    Full,
    /// Only the sum of the pseudo header; hardware will do the rest (`CHECKSUM_PARTIAL`).
    Partial,
}

/// The name of a flow: its 4-tuple, the same for both directions. Hashable as 40 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Key {
    /// Address of the client in network order: 16 bytes of IPv6, or 4 of IPv4 and 12 zeros.
    pub caddr: [u8; 16],
    /// Address of the service, as `caddr`.
    pub saddr: [u8; 16],
    /// Port of the client in network order.
    pub cport: [u8; 2],
    /// Port of the service in network order.
    pub sport: [u8; 2],
    /// 4 or 6.
    pub family: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// The name of a service, and the key it is looked up by. Hashable as 20 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Service {
    /// Address in network order, as [`Key::caddr`].
    pub addr: [u8; 16],
    /// Port in network order.
    pub port: [u8; 2],
    /// 4 or 6.
    pub family: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = {
    assert!(::core::mem::size_of::<Key>() == 40);
    assert!(::core::mem::size_of::<Service>() == 20);
};

/// One end of a connection. The family is that of the packet it is put into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address in network order, as [`Key::caddr`].
    pub addr: [u8; 16],
    /// Port in network order.
    pub port: [u8; 2],
}

impl Key {
    /// The key of the connection from `client` to `service`, both of `family` (4 or 6).
    pub const fn new(family: u8, client: Endpoint, service: Endpoint) -> Self {
        Key {
            caddr: client.addr,
            saddr: service.addr,
            cport: client.port,
            sport: service.port,
            family,
            pad: [0; 3],
        }
    }

    /// The client's end.
    pub const fn client(&self) -> Endpoint {
        Endpoint {
            addr: self.caddr,
            port: self.cport,
        }
    }

    /// The service's end.
    pub const fn server(&self) -> Endpoint {
        Endpoint {
            addr: self.saddr,
            port: self.sport,
        }
    }

    /// The service of this flow.
    pub const fn service(&self) -> Service {
        Service {
            addr: self.saddr,
            port: self.sport,
            family: self.family,
            pad: 0,
        }
    }

    /// Source and destination of a packet in direction `dir`.
    pub const fn ends(&self, dir: Dir) -> (Endpoint, Endpoint) {
        match dir {
            Dir::ToService => (self.client(), self.server()),
            Dir::ToClient => (self.server(), self.client()),
        }
    }

    /// The 40 bytes of the key, in the order of the fields.
    pub fn to_bytes(self) -> [u8; 40] {
        let [c0, c1] = self.cport;
        let [s0, s1] = self.sport;
        let mut out = [0; 40];
        let (addresses, rest) = out.split_at_mut(32);
        let (client, service) = addresses.split_at_mut(16);
        client.copy_from_slice(&self.caddr);
        service.copy_from_slice(&self.saddr);
        rest.copy_from_slice(&[c0, c1, s0, s1, self.family, 0, 0, 0]);
        out
    }

    /// The key of these bytes. `None`: the family is neither 4 nor 6, or what must be zero
    /// is not.
    pub fn from_bytes(bytes: &[u8; 40]) -> Option<Self> {
        let key = Key {
            caddr: get(bytes, 0)?,
            saddr: get(bytes, 16)?,
            cport: get(bytes, 32)?,
            sport: get(bytes, 34)?,
            family: get::<1>(bytes, 36)?[0],
            pad: get(bytes, 37)?,
        };
        let tail = |a: &[u8; 16]| a.iter().skip(4).all(|b| *b == 0);
        let valid = match key.family {
            4 => tail(&key.caddr) && tail(&key.saddr),
            6 => true,
            _ => false,
        };
        (valid && key.pad == [0; 3]).then_some(key)
    }
}

/// Why a packet cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The packet goes on, but the slice ends: come again with at least this many bytes,
    /// counted from the network header.
    Need(usize),
    /// The packet ends before its headers do, or the place for one to be written.
    Short,
    /// It carries something other than TCP.
    NotTcp,
    /// It is a part of a fragmented packet.
    Fragment,
    /// Its fields contradict each other.
    Malformed,
    /// IPv6 extension headers that change the meaning of the addresses, or too many.
    ExtensionHeader,
}

impl WireError {
    /// The counter of this error.
    pub const fn counter(self) -> Counter {
        match self {
            WireError::Need(_) | WireError::Short => Counter::Short,
            WireError::NotTcp => Counter::NotTcp,
            WireError::Fragment => Counter::Fragment,
            WireError::Malformed => Counter::Malformed,
            WireError::ExtensionHeader => Counter::ExtensionHeader,
        }
    }
}

/// Where the headers of a packet end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// 4 or 6.
    pub family: u8,
    /// Bytes from the network header to the TCP header.
    pub tcp_offset: usize,
    /// Bytes from the network header to the payload.
    pub header_len: usize,
    /// Bytes of payload. What lies behind the packet's own length (padding) is not counted.
    pub payload_len: u32,
}

/// The length in bytes of a TCP header without options.
pub const TCP_HEADER: usize = 20;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// As `IP6_MAX_EXT_HDRS_CNT` of `include/net/ipv6.h`.
const MAX_EXTENSION_HEADERS: usize = 12;

/// Finds the headers in `prefix`, the first bytes of a packet from its network header on.
/// `total_len`: bytes of the whole packet, of which a super-packet has more than its IP
/// header can say.
///
/// # Errors
/// [`WireError::Need`] asks for a longer prefix, which the packet has.
pub fn measure(prefix: &[u8], total_len: u32) -> Result<Measure, WireError> {
    let total = total_len as usize;
    let checked = |e| match e {
        WireError::Need(n) if n > total => WireError::Short,
        e => e,
    };
    let Network {
        family,
        tcp_offset,
        len,
    } = network(prefix, PROTO_TCP, false).map_err(checked)?;
    // 0: a super-packet (`iph_set_totlen`, `ipv6_set_payload_len`).
    let total = match len {
        0 => total,
        n if n > total => return Err(WireError::Short),
        n => n,
    };
    let need = tcp_offset + TCP_HEADER;
    if need > total {
        return Err(WireError::Short);
    }
    let doff = get::<1>(prefix, tcp_offset + 12).ok_or(WireError::Need(need))?[0] >> 4;
    let header_len = tcp_offset + usize::from(doff) * 4;
    if header_len < need || header_len > total {
        return Err(WireError::Malformed);
    }
    Ok(Measure {
        family,
        tcp_offset,
        header_len,
        payload_len: (total - header_len) as u32,
    })
}

/// The port of the service that a packet in direction `dir` may be of, in host byte order, if
/// that can be told from the fixed places of headers in `prefix` alone. `None` says nothing. With
/// it comes whether it is one of IPv6.
#[inline(always)]
pub fn port_of(prefix: &[u8], dir: Dir) -> Option<(u16, bool)> {
    // Of each family one length is asked for, that of the fixed header with both ports.
    let first = *prefix.first()?;
    let behind = match dir {
        Dir::ToService => 2,
        Dir::ToClient => 0,
    };
    // Anything but a whole packet without options is left to `measure`.
    if first == 0x45 {
        let head = prefix.first_chunk::<{ IPV4_HEADER + 4 }>()?;
        // Flags and offset, lifetime, protocol.
        let matter = u32::from_ne_bytes([0x3f, 0xff, 0, 0xff]);
        let word = u32::from_ne_bytes(*head[6..].first_chunk()?);
        if word & matter != u32::from_ne_bytes([0, 0, 0, PROTO_TCP]) {
            return None;
        }
        let port = *head[IPV4_HEADER + behind..].first_chunk()?;
        return Some((u16::from_be_bytes(port), false));
    }
    let head = prefix.first_chunk::<{ IPV6_HEADER + 4 }>()?;
    if first >> 4 != 6 || head[6] != PROTO_TCP {
        return None;
    }
    let port = *head[IPV6_HEADER + behind..].first_chunk()?;
    Some((u16::from_be_bytes(port), true))
}

/// The name of the flow of a packet in direction `dir` whose headers `m` has found in `prefix`.
pub fn key_of(prefix: &[u8], m: &Measure, dir: Dir) -> Key {
    let (source, destination) = ends(prefix, m.family, m.tcp_offset);
    key(m.family, dir, source, destination)
}

/// Whether a packet that begins with `prefix` carries ICMP, without extension headers.
pub fn is_icmp(prefix: &[u8]) -> bool {
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    match prefix.first().map(|b| b >> 4) {
        Some(4) => prefix.get(9) == Some(&ICMP),
        Some(6) => prefix.get(6) == Some(&ICMPV6),
        _ => false,
    }
}

pub(super) use super::csum::PROTO_TCP;

/// A network header.
pub(super) struct Network {
    pub(super) family: u8,
    /// Bytes to the transport header.
    pub(super) tcp_offset: usize,
    /// Bytes of the whole packet as the header says, 0 if it does not.
    pub(super) len: usize,
}

/// Walks the network header in `buf` to transport protocol `proto`. `quoted`: a first
/// fragment will do, because only the beginning of its payload is looked at.
pub(super) fn network(buf: &[u8], proto: u8, quoted: bool) -> Result<Network, WireError> {
    let first = get::<1>(buf, 0).ok_or(WireError::Need(IPV4_HEADER))?[0];
    match first >> 4 {
        4 => ipv4(buf, proto, quoted),
        6 => ipv6(buf, proto, quoted),
        _ => Err(WireError::Malformed),
    }
}

fn ipv4(buf: &[u8], proto: u8, quoted: bool) -> Result<Network, WireError> {
    let head = get::<IPV4_HEADER>(buf, 0).ok_or(WireError::Need(IPV4_HEADER))?;
    let ihl = usize::from(head[0] & 15) * 4;
    let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let frag = u16::from_be_bytes([head[6], head[7]]);
    if ihl < IPV4_HEADER || (len != 0 && len < ihl) {
        return Err(WireError::Malformed);
    }
    if head[9] != proto {
        return Err(WireError::NotTcp);
    }
    // Offset, and the flag More Fragments.
    if frag & if quoted { 0x1fff } else { 0x3fff } != 0 {
        return Err(WireError::Fragment);
    }
    Ok(Network {
        family: 4,
        tcp_offset: ihl,
        len,
    })
}

/// RFC 8200, section 4. AH and ESP hide or sign what we would change.
fn ipv6(buf: &[u8], proto: u8, quoted: bool) -> Result<Network, WireError> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTH: u8 = 51;
    const DESTINATION: u8 = 60;

    let head = get::<IPV6_HEADER>(buf, 0).ok_or(WireError::Need(IPV6_HEADER))?;
    let len = match usize::from(u16::from_be_bytes([head[4], head[5]])) {
        0 => 0,
        n => IPV6_HEADER + n,
    };
    let mut next = head[6];
    let mut at = IPV6_HEADER;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        if next == proto {
            return Ok(Network {
                family: 6,
                tcp_offset: at,
                len,
            });
        }
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTH | DESTINATION) {
            return Err(WireError::NotTcp);
        }
        let ext = get::<8>(buf, at).ok_or(WireError::Need(at + 8))?;
        match next {
            AUTH => return Err(WireError::ExtensionHeader),
            // While segments are left, the destination is not the last one, and the pseudo
            // header is of the last one.
            ROUTING if ext[3] != 0 => return Err(WireError::ExtensionHeader),
            FRAGMENT => {
                let frag = u16::from_be_bytes([ext[2], ext[3]]);
                // Atomic fragments (RFC 6946) are whole packets.
                if frag & if quoted { 0xfff8 } else { 0xfff9 } != 0 {
                    return Err(WireError::Fragment);
                }
                at += 8;
            }
            _ => at += (usize::from(ext[1]) + 1) * 8,
        }
        next = ext[0];
    }
    Err(WireError::ExtensionHeader)
}

/// `N` bytes at `at`, if there are so many.
pub(super) fn get<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    buf.get(at..)?.first_chunk().copied()
}

/// Puts `bytes` at `at`; nothing if they do not fit.
pub(super) fn put(buf: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = buf.get_mut(at..).and_then(|b| b.get_mut(..bytes.len())) {
        to.copy_from_slice(bytes);
    }
}

/// Bytes of an address of `family` (4 or 6).
pub(super) const fn addr_len(family: u8) -> usize {
    if family == 4 {
        4
    } else {
        16
    }
}

/// Offset of the source address in a network header of `family`; the destination follows it.
pub(super) const fn addr_offset(family: u8) -> usize {
    if family == 4 {
        12
    } else {
        8
    }
}

/// The address of `family` at `at`, zeros behind it.
#[inline]
fn address(buf: &[u8], family: u8, at: usize) -> [u8; 16] {
    if family != 4 {
        return get(buf, at).unwrap_or_default();
    }
    let mut addr = [0u8; 16];
    if let Some(room) = addr.first_chunk_mut::<4>() {
        *room = get(buf, at).unwrap_or_default();
    }
    addr
}

/// Source and destination of the packet whose network header begins `buf` and whose TCP
/// header is at `tcp`. The caller has checked the lengths.
pub(super) fn ends(buf: &[u8], family: u8, tcp: usize) -> (Endpoint, Endpoint) {
    let at = addr_offset(family);
    let len = addr_len(family);
    let end = |addr_at: usize, port_at: usize| Endpoint {
        addr: address(buf, family, addr_at),
        port: get(buf, port_at).unwrap_or_default(),
    };
    (end(at, tcp), end(at + len, tcp + 2))
}

/// The key of a packet from `source` to `destination` in direction `dir`.
pub(super) const fn key(family: u8, dir: Dir, source: Endpoint, destination: Endpoint) -> Key {
    match dir {
        Dir::ToService => Key::new(family, source, destination),
        Dir::ToClient => Key::new(family, destination, source),
    }
}
