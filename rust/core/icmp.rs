// SPDX-License-Identifier: GPL-2.0

//! ICMP errors quote the packet that caused them, and it is by that quotation that the local
//! stack finds the socket: without its translation, path-MTU discovery dies on every spliced
//! flow (RFC 1191, RFC 8201, RFC 5927).

use super::csum::{update, Sum};
use super::packet::replace;
use super::wire::{
    addr_len, addr_offset, ends, get, key, network, put, Dir, Endpoint, Key, WireError,
};

/// Bytes of an ICMP packet, from its network header on, that are enough for [`Quote::parse`]
/// in practice: two IP headers of the greatest length without extension headers, ICMP, TCP.
pub const MAX_QUOTE: usize = 60 + 8 + 60 + 20;

const PROTO_ICMP: u8 = 1;
const PROTO_ICMPV6: u8 = 58;
/// Bytes of an ICMP error before the quotation, in both versions.
const ICMP_HEADER: usize = 8;

/// The TCP packet that an ICMP error quotes, of which at least 8 bytes are there.
///
/// # Invariants
/// The outer and the quoted network header, and 8 bytes behind each, lie in `buf`; `icmp`,
/// `inner` and `tcp` are even.
pub struct Quote<'a> {
    buf: &'a mut [u8],
    outer_family: u8,
    icmp: usize,
    family: u8,
    inner: usize,
    tcp: usize,
}

impl<'a> Quote<'a> {
    /// Reads the ICMP error in `buf`, which begins at the outer network header: destination
    /// unreachable, time exceeded, parameter problem, or packet too big. The end of the
    /// packet may be missing, as [`MAX_QUOTE`] says.
    ///
    /// # Errors
    /// [`WireError::NotTcp`]: it is no ICMP error, or not about TCP. [`WireError::Fragment`]:
    /// it is one itself, or quotes one that does not begin with a TCP header.
    pub fn parse(buf: &'a mut [u8]) -> Result<Self, WireError> {
        let first = get::<1>(buf, 0).ok_or(WireError::Short)?[0];
        let proto = if first >> 4 == 4 {
            PROTO_ICMP
        } else {
            PROTO_ICMPV6
        };
        let short = |e| match e {
            WireError::Need(_) => WireError::Short,
            e => e,
        };
        let outer = network(buf, proto, false).map_err(short)?;
        let icmp = outer.tcp_offset;
        let inner = icmp + ICMP_HEADER;
        let kind = get::<ICMP_HEADER>(buf, icmp).ok_or(WireError::Short)?[0];
        // Source quench and redirects are ignored by TCP, or none of our business.
        let error = match outer.family {
            4 => matches!(kind, 3 | 11 | 12),
            _ => matches!(kind, 1..=4),
        };
        if !error {
            return Err(WireError::NotTcp);
        }
        let quoted = buf.get(inner..).unwrap_or(&[]);
        let quoted = network(quoted, super::wire::PROTO_TCP, true).map_err(short)?;
        if quoted.family != outer.family {
            return Err(WireError::Malformed);
        }
        let tcp = inner + quoted.tcp_offset;
        // Ports and sequence number: what RFC 792 promises.
        get::<8>(buf, tcp).ok_or(WireError::Short)?;
        Ok(Quote {
            outer_family: outer.family,
            family: quoted.family,
            icmp,
            inner,
            tcp,
            buf,
        })
    }

    /// The name of the flow, if the quoted packet went in direction `dir`: an error that
    /// comes in for the service quotes [`Dir::ToClient`].
    pub fn key(&self, dir: Dir) -> Key {
        let quoted = self.buf.get(self.inner..).unwrap_or(&[]);
        let (source, destination) = ends(quoted, self.family, self.tcp - self.inner);
        key(self.family, dir, source, destination)
    }

    /// The quoted sequence number, in host byte order.
    pub fn seq(&self) -> u32 {
        get(self.buf, self.tcp + 4).map_or(0, u32::from_be_bytes)
    }

    /// Sets the quoted sequence number (host byte order).
    pub fn set_seq(&mut self, seq: u32) {
        let change = self.patch(self.tcp + 4, &seq.to_be_bytes());
        self.mend(self.tcp + 16, change);
    }

    /// Sets the quoted source. The family stays.
    pub fn set_source(&mut self, end: Endpoint) {
        self.patch_end(self.inner + addr_offset(self.family), self.tcp, end);
    }

    /// Sets the quoted destination. The family stays.
    pub fn set_destination(&mut self, end: Endpoint) {
        let at = self.inner + addr_offset(self.family) + addr_len(self.family);
        self.patch_end(at, self.tcp + 2, end);
    }

    /// Sets the destination of the ICMP packet itself, that is the address to which it goes
    /// (the port is not used). Like all changes here, it leaves `skb->csum` as it is
    /// (`CHECKSUM_COMPLETE`): that of the checksum field cancels that of the address.
    pub fn set_outer_destination(&mut self, end: Endpoint) {
        let at = addr_offset(self.outer_family) + addr_len(self.outer_family);
        let addr = end.addr;
        let new = addr.get(..addr_len(self.outer_family)).unwrap_or(&addr);
        let change = replace(self.buf, at, new);
        // ICMP of IPv4 has no pseudo header (RFC 792), that of IPv6 has (RFC 4443).
        let check_at = if self.outer_family == 4 {
            10
        } else {
            self.icmp + 2
        };
        let check = update(
            get(self.buf, check_at).map_or(0, u16::from_be_bytes),
            change,
        );
        put(self.buf, check_at, &check.to_be_bytes());
    }

    /// Writes into the ICMP message and corrects its checksum; says what was changed.
    fn patch(&mut self, at: usize, new: &[u8]) -> Sum {
        let change = replace(self.buf, at, new);
        let check_at = self.icmp + 2;
        let check = update(
            get(self.buf, check_at).map_or(0, u16::from_be_bytes),
            change,
        );
        put(self.buf, check_at, &check.to_be_bytes());
        change
    }

    /// Corrects the quoted checksum at `at` after a change, unless the quotation ends before
    /// it or in the middle of it.
    fn mend(&mut self, at: usize, change: Sum) {
        if let Some(check) = get(self.buf, at).map(u16::from_be_bytes) {
            self.patch(at, &update(check, change).to_be_bytes());
        }
    }

    fn patch_end(&mut self, addr_at: usize, port_at: usize, end: Endpoint) {
        let addr = end.addr;
        let new = addr.get(..addr_len(self.family)).unwrap_or(&addr);
        let addr_change = self.patch(addr_at, new);
        if self.family == 4 {
            self.mend(self.inner + 10, addr_change);
        }
        let port_change = self.patch(port_at, &end.port);
        self.mend(self.tcp + 16, addr_change.add(port_change));
    }
}
