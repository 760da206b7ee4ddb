// SPDX-License-Identifier: GPL-2.0

//! A TCP packet over IPv4 or IPv6, read and changed in place.
//!
//! A [`Packet`] holds both headers and nothing of the payload, which may lie anywhere. Every
//! change keeps the checksums right by RFC 1624, so the payload is never read. A checksum
//! that was wrong stays wrong.

use super::csum::{update, update_partial, Sum};
use super::options::{kind, walk, Options};
use super::wire::{
    addr_len, addr_offset, ends, flags, get, key, measure, put, Csum, Dir, Endpoint, Key, Measure,
    WireError, TCP_HEADER,
};

/// The headers of a TCP packet.
///
/// # Invariants
/// `buf` has exactly `m.header_len` bytes, of which the last `m.header_len - m.tcp_offset`,
/// at least 20, are the TCP header. `options` is what its options say.
pub struct Packet<'a> {
    buf: &'a mut [u8],
    m: Measure,
    csum: Csum,
    options: Options,
    complete: Sum,
}

// Offsets in the TCP header.
const SEQ: usize = 4;
const ACK: usize = 8;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
const CHECK: usize = 16;
/// Offset of the header checksum of IPv4.
const IPV4_CHECK: usize = 10;

impl<'a> Packet<'a> {
    /// Reads the headers in `buf`, which begins at the network header and may go on behind
    /// the TCP header. `total_len`: bytes of the whole packet.
    ///
    /// # Errors
    /// Those of [`measure`]; [`WireError::Need`] if `buf` does not hold all of both headers.
    pub fn parse(buf: &'a mut [u8], total_len: u32, csum: Csum) -> Result<Self, WireError> {
        let m = measure(buf, total_len)?;
        Self::measured(buf, m, csum)
    }

    /// As [`Packet::parse`], of a packet that [`measure`] has measured to be `m`.
    ///
    /// # Errors
    /// [`WireError::Need`] if `buf` does not hold all of both headers.
    pub fn measured(buf: &'a mut [u8], m: Measure, csum: Csum) -> Result<Self, WireError> {
        if m.header_len < m.tcp_offset + TCP_HEADER {
            return Err(WireError::Malformed);
        }
        let buf = buf
            .get_mut(..m.header_len)
            .ok_or(WireError::Need(m.header_len))?;
        let mut p = Packet {
            buf,
            m,
            csum,
            options: Options::default(),
            complete: Sum::ZERO,
        };
        p.options = Options::parse(p.option_bytes(), p.syn());
        Ok(p)
    }

    /// The name of the flow, if the packet goes in direction `dir`.
    pub fn key(&self, dir: Dir) -> Key {
        let (source, destination) = ends(self.buf, self.m.family, self.m.tcp_offset);
        key(self.m.family, dir, source, destination)
    }

    /// 4 or 6.
    pub const fn family(&self) -> u8 {
        self.m.family
    }

    /// What the check field holds.
    pub const fn csum(&self) -> Csum {
        self.csum
    }

    /// Both headers, as they are now.
    pub fn header(&self) -> &[u8] {
        self.buf
    }

    /// Bytes from the network header to the TCP header.
    pub const fn tcp_offset(&self) -> u32 {
        self.m.tcp_offset as u32
    }

    /// Bytes from the network header to the payload.
    pub const fn payload_offset(&self) -> u32 {
        self.m.header_len as u32
    }

    /// Bytes of payload.
    pub const fn payload_len(&self) -> u32 {
        self.m.payload_len
    }

    /// The control bits: see [`super::wire::flags`].
    pub fn flags(&self) -> u8 {
        self.tcp::<1>(FLAGS)[0]
    }

    /// Whether SYN is set.
    pub fn syn(&self) -> bool {
        self.flags() & flags::SYN != 0
    }

    /// Whether ACK is set.
    pub fn has_ack(&self) -> bool {
        self.flags() & flags::ACK != 0
    }

    /// Whether FIN is set.
    pub fn fin(&self) -> bool {
        self.flags() & flags::FIN != 0
    }

    /// Whether RST is set.
    pub fn rst(&self) -> bool {
        self.flags() & flags::RST != 0
    }

    /// The sequence number of the first byte (of the SYN, if set), in host byte order.
    pub fn seq(&self) -> u32 {
        u32::from_be_bytes(self.tcp(SEQ))
    }

    /// The acknowledgement number, in host byte order; means nothing without ACK.
    pub fn ack(&self) -> u32 {
        u32::from_be_bytes(self.tcp(ACK))
    }

    /// The window field, in host byte order and not scaled.
    pub fn window(&self) -> u16 {
        u16::from_be_bytes(self.tcp(WINDOW))
    }

    /// Sequence numbers that the segment takes: payload, SYN and FIN.
    pub fn seq_len(&self) -> u32 {
        self.m.payload_len + u32::from(self.syn()) + u32::from(self.fin())
    }

    /// The options.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// What has to be added to `skb->csum` (`csum_add`) if it covers the packet
    /// (`CHECKSUM_COMPLETE`), after all changes so far. In the machine's byte order.
    ///
    /// Fields of the TCP header and their checksum cancel out, and so do the addresses of
    /// IPv4 and the header checksum; those of IPv6 cancel out with the TCP checksum. What is
    /// left is the change of the TCP checksum by the addresses of IPv4, as in
    /// `inet_proto_csum_replace4`.
    pub const fn complete_change(&self) -> u32 {
        self.complete.native()
    }

    /// Sets the sequence number (host byte order).
    pub fn set_seq(&mut self, seq: u32) {
        self.patch_field(SEQ, seq.to_be_bytes());
    }

    /// Sets the acknowledgement number (host byte order).
    pub fn set_ack(&mut self, ack: u32) {
        self.patch_field(ACK, ack.to_be_bytes());
    }

    /// Sets the window field (host byte order, not scaled).
    pub fn set_window(&mut self, window: u16) {
        self.patch_field(WINDOW, window.to_be_bytes());
    }

    /// Clears control bits, those set in `which`. SYN cannot be cleared this way: the meaning
    /// of the options hangs on it.
    pub fn clear_flags(&mut self, which: u8) {
        let now = self.flags() & !(which & !flags::SYN);
        self.patch(FLAGS, &[now]);
    }

    /// Sets control bits, those set in `which`, SYN excepted.
    pub fn set_flags(&mut self, which: u8) {
        let now = self.flags() | (which & !flags::SYN);
        self.patch(FLAGS, &[now]);
    }

    /// Sets TSval and TSecr (host byte order). Returns whether there are timestamps to set.
    pub fn set_timestamps(&mut self, tsval: u32, tsecr: u32) -> bool {
        let Some(at) = self.options.ts_at() else {
            return false;
        };
        if at % 2 == 0 {
            self.patch_field(TCP_HEADER + at, tsval.to_be_bytes());
            self.patch_field(TCP_HEADER + at + 4, tsecr.to_be_bytes());
        } else {
            self.patch(TCP_HEADER + at, &tsval.to_be_bytes());
            self.patch(TCP_HEADER + at + 4, &tsecr.to_be_bytes());
        }
        self.options.ts = Some((tsval, tsecr));
        true
    }

    /// Sets SACK block `i` (host byte order). Returns whether there is one.
    pub fn set_sack(&mut self, i: usize, left: u32, right: u32) -> bool {
        let Some(at) = self
            .options
            .sack_at()
            .filter(|_| i < self.options.sack().len())
        else {
            return false;
        };
        self.patch(TCP_HEADER + at + 2 + i * 8, &left.to_be_bytes());
        self.patch(TCP_HEADER + at + 2 + i * 8 + 4, &right.to_be_bytes());
        self.reread();
        true
    }

    /// Removes SACK block `i`; those behind it move up, and the room is filled with NOPs. The
    /// option goes with its last block, and one before it, which nobody should have sent, comes to light.
    /// Returns whether there was one.
    pub fn remove_sack_block(&mut self, i: usize) -> bool {
        let n = self.options.sack().len();
        let Some(at) = self.options.sack_at().filter(|_| i < n) else {
            return false;
        };
        for k in i + 1..n {
            if let Some((left, right)) = self.options.sack().get(k).copied() {
                self.set_sack(k - 1, left, right);
            }
        }
        if n == 1 {
            self.patch(TCP_HEADER + at, &[kind::NOP; 10]);
        } else {
            self.patch(TCP_HEADER + at + 2 + (n - 1) * 8, &[kind::NOP; 8]);
            self.patch(TCP_HEADER + at + 1, &[(2 + (n - 1) * 8) as u8]);
        }
        self.reread();
        true
    }

    /// Overwrites every option of `kind` with NOPs. Returns whether there was one.
    pub fn blank_option(&mut self, kind: u8) -> bool {
        const BLANK: [u8; 40] = [kind::NOP; 40];
        let mut found = false;
        // Ends: one option less each time round.
        while let Some((at, len)) = self.find_option(kind) {
            self.patch(TCP_HEADER + at, BLANK.get(..len).unwrap_or(&BLANK));
            found = true;
        }
        self.reread();
        found
    }

    /// Sets source address and port. The family stays.
    pub fn set_source(&mut self, end: Endpoint) {
        self.patch_addr(addr_offset(self.m.family), end.addr);
        self.patch(0, &end.port);
    }

    /// Sets destination address and port. The family stays.
    pub fn set_destination(&mut self, end: Endpoint) {
        self.patch_addr(
            addr_offset(self.m.family) + addr_len(self.m.family),
            end.addr,
        );
        self.patch(2, &end.port);
    }

    /// `N` bytes of the TCP header, within its 20 fixed ones.
    fn tcp<const N: usize>(&self, at: usize) -> [u8; N] {
        get(self.buf, self.m.tcp_offset + at).unwrap_or([0; N])
    }

    fn option_bytes(&self) -> &[u8] {
        self.buf
            .get(self.m.tcp_offset + TCP_HEADER..)
            .unwrap_or(&[])
    }

    /// Offset in the options and length of the first option of `kind`.
    fn find_option(&self, kind: u8) -> Option<(usize, usize)> {
        walk(self.option_bytes())
            .flatten()
            .find(|i| i.kind == kind)
            .map(|i| (i.at, i.len))
    }

    fn reread(&mut self) {
        self.options = Options::parse(self.option_bytes(), self.syn());
    }

    /// Writes `new` at `at` of the TCP header and corrects its checksum.
    fn patch(&mut self, at: usize, new: &[u8]) {
        let change = replace(self.buf, self.m.tcp_offset + at, new);
        self.corrected(change);
    }

    /// As [`Packet::patch`], of a field that begins at an even offset.
    #[inline]
    fn patch_field<const N: usize>(&mut self, at: usize, new: [u8; N]) {
        let at = self.m.tcp_offset + at;
        let Some(field) = self.buf.get_mut(at..).and_then(|b| b.first_chunk_mut()) else {
            return;
        };
        let old: [u8; N] = ::core::mem::replace(field, new);
        // A partial checksum does not cover it.
        if self.csum == Csum::Full && old != new {
            self.corrected(Sum::change(at, &old, &new));
        }
    }

    /// What the checksum covers has grown by `change`.
    fn corrected(&mut self, change: Sum) {
        if self.csum == Csum::Full {
            let check = update(self.check(), change);
            put(self.buf, self.m.tcp_offset + CHECK, &check.to_be_bytes());
        }
    }

    /// Writes the address at `at` of the network header, and corrects both checksums.
    fn patch_addr(&mut self, at: usize, addr: [u8; 16]) {
        let new = addr.get(..addr_len(self.m.family)).unwrap_or(&addr);
        let change = replace(self.buf, at, new);
        let check = match self.csum {
            Csum::Full => update(self.check(), change),
            Csum::Partial => update_partial(self.check(), change),
        };
        put(self.buf, self.m.tcp_offset + CHECK, &check.to_be_bytes());
        if self.m.family == 4 {
            let check = update(
                get(self.buf, IPV4_CHECK).map_or(0, u16::from_be_bytes),
                change,
            );
            put(self.buf, IPV4_CHECK, &check.to_be_bytes());
            if self.csum == Csum::Full {
                self.complete = self.complete.add(change.negated());
            }
        }
    }

    fn check(&self) -> u16 {
        u16::from_be_bytes(self.tcp(CHECK))
    }
}

/// Writes `new` at `at`, and says what the sum over `buf` grew by; nothing if it does not fit.
pub(super) fn replace(buf: &mut [u8], at: usize, new: &[u8]) -> Sum {
    match buf.get_mut(at..).and_then(|b| b.get_mut(..new.len())) {
        Some(old) => {
            let change = Sum::change(at, old, new);
            old.copy_from_slice(new);
            change
        }
        None => Sum::ZERO,
    }
}
