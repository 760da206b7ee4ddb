// SPDX-License-Identifier: GPL-2.0

//! TCP options, read as Linux reads them (`tcp_parse_options` of `net/ipv4/tcp_input.c`).

use super::wire::get;

/// The most bytes of options that a TCP header can hold.
pub const MAX_OPTIONS: usize = 40;
/// As `TCP_MAX_WSCALE`: the largest window scale (RFC 7323, section 2.3).
pub const MAX_WSCALE: u8 = 14;

/// Option kinds (IANA, TCP parameters).
pub mod kind {
    /// End of the list; one byte.
    pub const EOL: u8 = 0;
    /// Padding; one byte.
    pub const NOP: u8 = 1;
    /// Maximum segment size (RFC 9293).
    pub const MSS: u8 = 2;
    /// Window scale (RFC 7323).
    pub const WSCALE: u8 = 3;
    /// SACK permitted (RFC 2018).
    pub const SACK_PERMITTED: u8 = 4;
    /// SACK blocks (RFC 2018).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323).
    pub const TIMESTAMPS: u8 = 8;
    /// MD5 signature (RFC 2385).
    pub const MD5: u8 = 19;
    /// Authentication (RFC 5925).
    pub const AO: u8 = 29;
    /// Multipath TCP (RFC 8684).
    pub const MPTCP: u8 = 30;
    /// Fast Open cookie (RFC 7413).
    pub const FASTOPEN: u8 = 34;
    /// Accurate ECN, order 0 (RFC 9768).
    pub const ACCECN0: u8 = 172;
    /// Accurate ECN, order 1 (RFC 9768).
    pub const ACCECN1: u8 = 174;
    /// Experiments (RFC 6994), among them old Fast Open and SMC.
    pub const EXP1: u8 = 253;
    /// Experiments (RFC 6994), among them old Fast Open and SMC.
    pub const EXP2: u8 = 254;

    /// What is blanked on the SYN of a protected flow: options that lead the stream, or a
    /// part of it, past the sequence numbers that we translate.
    pub const DIVERTING: [u8; 4] = [MPTCP, FASTOPEN, EXP1, EXP2];
}

/// What nearly every segment begins its options with (`tcp_parse_aligned_timestamp`; RFC 7323,
/// appendix A).
pub(super) const ALIGNED: [u8; 4] = [kind::NOP, kind::NOP, kind::TIMESTAMPS, 10];

/// `TCPOPT_FASTOPEN_MAGIC`.
const FASTOPEN_MAGIC: [u8; 2] = [0xf9, 0x89];

/// The options of a segment. Numbers are in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size in bytes; SYN segments only, and never 0.
    pub mss: Option<u16>,
    /// Window scale, at most [`MAX_WSCALE`]; SYN segments only.
    pub wscale: Option<u8>,
    /// SACK permitted; SYN segments only.
    pub sack_ok: bool,
    /// TSval and TSecr.
    pub ts: Option<(u32, u32)>,
    /// It is signed with MD5.
    pub md5: bool,
    /// It is signed with TCP-AO.
    pub ao: bool,
    /// It speaks Multipath TCP.
    pub mptcp: bool,
    /// It speaks Fast Open.
    pub fastopen: bool,
    /// There is an option that is none of these.
    pub unknown: bool,
    /// The list is broken, and its rest was not read; or timestamps or SACK occur twice, of
    /// which Linux takes the last.
    pub malformed: bool,
    pub(super) sack: [(u32, u32); 4],
    pub(super) sack_len: u8,
    /// Offsets in the options of the data of timestamps and of the kind byte of SACK.
    pub(super) ts_at: u8,
    pub(super) sack_at: u8,
}

/// An option: its kind, and where its `len` bytes (kind and length with them) begin.
pub(super) struct Item {
    pub(super) kind: u8,
    pub(super) at: usize,
    pub(super) len: usize,
}

/// The options of a list, without the one-byte ones. `Err`: it is broken here.
pub(super) fn walk(bytes: &[u8]) -> impl Iterator<Item = Result<Item, ()>> + '_ {
    let mut at = 0;
    ::core::iter::from_fn(move || loop {
        match *bytes.get(at)? {
            kind::EOL => return None,
            kind::NOP => at += 1,
            kind => {
                let len = bytes.get(at + 1).map_or(0, |l| usize::from(*l));
                let item = Item { kind, at, len };
                if len < 2 || at + len > bytes.len() {
                    at = bytes.len();
                    return Some(Err(()));
                }
                at += len;
                return Some(Ok(item));
            }
        }
    })
}

impl Options {
    /// Reads `bytes`, the options of a TCP header. `syn`: the segment has SYN set.
    ///
    /// A broken option ends the list, as in Linux; what came before it counts.
    #[inline]
    pub fn parse(bytes: &[u8], syn: bool) -> Self {
        if bytes.len() == 12 && bytes.starts_with(&ALIGNED) {
            return Options {
                ts: word(bytes, 4).zip(word(bytes, 8)),
                ts_at: 4,
                ..Options::default()
            };
        }
        Self::parse_all(bytes, syn)
    }

    fn parse_all(bytes: &[u8], syn: bool) -> Self {
        let mut o = Options::default();
        for item in walk(bytes) {
            match item {
                Ok(item) => o.take(bytes, &item, syn),
                Err(()) => o.malformed = true,
            }
        }
        o
    }

    fn take(&mut self, bytes: &[u8], item: &Item, syn: bool) {
        let data = item.at + 2;
        match (item.kind, item.len) {
            (kind::MSS, 4) if syn => {
                self.mss = get(bytes, data)
                    .map(u16::from_be_bytes)
                    .filter(|m| *m != 0)
                    .or(self.mss);
            }
            (kind::WSCALE, 3) if syn => {
                self.wscale = get::<1>(bytes, data).map(|w| w[0].min(MAX_WSCALE));
            }
            (kind::SACK_PERMITTED, 2) if syn => self.sack_ok = true,
            (kind::TIMESTAMPS, 10) => {
                self.malformed |= self.ts.is_some();
                self.ts = word(bytes, data).zip(word(bytes, data + 4));
                self.ts_at = data as u8;
            }
            (kind::SACK, 10 | 18 | 26 | 34) => {
                self.malformed |= self.sack_len != 0;
                self.sack_len = ((item.len - 2) / 8) as u8;
                self.sack_at = item.at as u8;
                for (i, block) in self.sack.iter_mut().enumerate() {
                    let at = data + i * 8;
                    *block = word(bytes, at).zip(word(bytes, at + 4)).unwrap_or_default();
                }
            }
            (
                kind::MSS | kind::WSCALE | kind::SACK_PERMITTED | kind::TIMESTAMPS | kind::SACK,
                _,
            ) => {}
            (kind::ACCECN0 | kind::ACCECN1, _) => {}
            (kind::MD5, _) => self.md5 = true,
            (kind::AO, _) => self.ao = true,
            (kind::MPTCP, _) => self.mptcp = true,
            (kind::FASTOPEN, _) => self.fastopen = true,
            (kind::EXP2, n) if n >= 4 && get(bytes, data) == Some(FASTOPEN_MAGIC) => {
                self.fastopen = true;
            }
            _ => self.unknown = true,
        }
    }

    /// The SACK blocks: left and right edge (the first byte that is not in the block).
    pub fn sack(&self) -> &[(u32, u32)] {
        self.sack.get(..usize::from(self.sack_len)).unwrap_or(&[])
    }

    /// Whether the segment is signed, so that any change would make it invalid.
    pub const fn signed(&self) -> bool {
        self.md5 || self.ao
    }

    /// Offset in the options of TSval, if there are timestamps.
    pub(super) fn ts_at(&self) -> Option<usize> {
        self.ts.map(|_| usize::from(self.ts_at))
    }

    /// Offset in the options of the kind byte of SACK, if there are blocks.
    pub(super) fn sack_at(&self) -> Option<usize> {
        (self.sack_len != 0).then_some(usize::from(self.sack_at))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    get(bytes, at).map(u32::from_be_bytes)
}
