// SPDX-License-Identifier: GPL-2.0

//! Packets of our own: probes, acknowledgements, and what a ghost says.

use super::csum::{pseudo, Sum};
use super::options::kind;
use super::wire::{addr_len, put, Dir, Key, WireError, PROTO_TCP, TCP_HEADER};

/// The most bytes of headers that [`Segment::write`] writes: IPv6, TCP, and the options of a
/// SYN.
pub const MAX_HEADER: usize = 40 + TCP_HEADER + MAX_OPTIONS;

/// MSS, SACK permitted with timestamps, window scale.
const MAX_OPTIONS: usize = 4 + 12 + 4;

/// `IPDEFTTL`, also as hop limit.
const TTL: u8 = 64;

/// The options of a SYN besides timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size in bytes; 0: none is said.
    pub mss: u16,
    /// Window scale, if one is said.
    pub wscale: Option<u8>,
    /// Whether SACK is permitted.
    pub sack_ok: bool,
}

/// A TCP segment of some flow, to be written. Numbers are in host byte order, in the space of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which way it goes; decides about source and destination.
    pub dir: Dir,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; written as it is, with or without ACK.
    pub ack: u32,
    /// Control bits: see [`super::wire::flags`].
    pub flags: u8,
    /// The window field, not scaled.
    pub window: u16,
    /// TSval and TSecr, if timestamps are used.
    pub ts: Option<(u32, u32)>,
    /// The options of a SYN. The caller sets SYN in `flags`.
    pub syn: Option<SynOptions>,
}

/// Bytes written so far.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    /// Too much for `out` is noticed at the end, by its length.
    fn add(&mut self, bytes: &[u8]) {
        put(self.out, self.len, bytes);
        self.len += bytes.len();
    }
}

impl Segment {
    /// Writes the network and TCP headers for flow `key` to `out`, with a complete checksum over `payload`,
    /// which is to follow them. Returns the bytes written, at most [`MAX_HEADER`].
    ///
    /// # Errors
    /// [`WireError::Short`]: `out` is too short. [`WireError::Malformed`]: the payload is too
    /// long for a packet, or the key has no family.
    pub fn write(&self, key: &Key, payload: &[u8], out: &mut [u8]) -> Result<usize, WireError> {
        let ip_len = match key.family {
            4 => 20,
            6 => 40,
            _ => return Err(WireError::Malformed),
        };
        let mut options = [0u8; MAX_OPTIONS];
        let options = self.options(&mut options);
        let tcp_len = TCP_HEADER + options.len();
        let payload_len = u16::try_from(payload.len()).map_err(|_| WireError::Malformed)?;
        let segment_len = (tcp_len as u16)
            .checked_add(payload_len)
            .ok_or(WireError::Malformed)?;
        let out = out.get_mut(..ip_len + tcp_len).ok_or(WireError::Short)?;

        let (source, destination) = key.ends(self.dir);
        let n = addr_len(key.family);
        let saddr = source.addr.get(..n).unwrap_or(&[]);
        let daddr = destination.addr.get(..n).unwrap_or(&[]);
        if key.family == 4 {
            ipv4(
                out,
                segment_len.checked_add(20).ok_or(WireError::Malformed)?,
                saddr,
                daddr,
            );
        } else {
            ipv6(out, segment_len, saddr, daddr);
        }

        let Some(tcp) = out.get_mut(ip_len..) else {
            return Err(WireError::Short);
        };
        let mut w = Writer { out: tcp, len: 0 };
        w.add(&source.port);
        w.add(&destination.port);
        w.add(&self.seq.to_be_bytes());
        w.add(&self.ack.to_be_bytes());
        w.add(&[(tcp_len as u8 / 4) << 4, self.flags]);
        w.add(&self.window.to_be_bytes());
        w.add(&[0; 4]);
        w.add(options);
        let check = pseudo(saddr, daddr, PROTO_TCP, u32::from(segment_len))
            .add(Sum::of(tcp))
            .add(Sum::of(payload))
            .check();
        put(tcp, 16, &check.to_be_bytes());
        Ok(ip_len + tcp_len)
    }

    /// The options in the order and alignment of `tcp_options_write` (`net/ipv4/tcp_output.c`);
    /// always whole words.
    fn options<'a>(&self, room: &'a mut [u8; MAX_OPTIONS]) -> &'a [u8] {
        let mut w = Writer { out: room, len: 0 };
        if let Some(mss) = self.syn.map(|s| s.mss).filter(|mss| *mss != 0) {
            w.add(&[kind::MSS, 4]);
            w.add(&mss.to_be_bytes());
        }
        let sack_ok = self.syn.is_some_and(|s| s.sack_ok);
        if let Some((tsval, tsecr)) = self.ts {
            // SACK permitted takes the place of the padding.
            w.add(if sack_ok {
                &[kind::SACK_PERMITTED, 2]
            } else {
                &[kind::NOP, kind::NOP]
            });
            w.add(&[kind::TIMESTAMPS, 10]);
            w.add(&tsval.to_be_bytes());
            w.add(&tsecr.to_be_bytes());
        } else if sack_ok {
            w.add(&[kind::NOP, kind::NOP, kind::SACK_PERMITTED, 2]);
        }
        if let Some(wscale) = self.syn.and_then(|s| s.wscale) {
            w.add(&[kind::NOP, kind::WSCALE, 3, wscale]);
        }
        let len = w.len;
        room.get(..len).unwrap_or(&[])
    }
}

/// No fragments, so the identification may be 0 (RFC 6864, section 4.1).
fn ipv4(out: &mut [u8], len: u16, source: &[u8], destination: &[u8]) {
    const DONT_FRAGMENT: u8 = 0x40;
    let mut head = [0u8; 20];
    let mut w = Writer {
        out: &mut head,
        len: 0,
    };
    w.add(&[0x45, 0]);
    w.add(&len.to_be_bytes());
    w.add(&[0, 0, DONT_FRAGMENT, 0, TTL, PROTO_TCP, 0, 0]);
    w.add(source);
    w.add(destination);
    let check = Sum::of(&head).check();
    put(&mut head, 10, &check.to_be_bytes());
    put(out, 0, &head);
}

fn ipv6(out: &mut [u8], payload_len: u16, source: &[u8], destination: &[u8]) {
    let mut w = Writer { out, len: 0 };
    w.add(&[0x60, 0, 0, 0]);
    w.add(&payload_len.to_be_bytes());
    w.add(&[PROTO_TCP, TTL]);
    w.add(source);
    w.add(destination);
}
