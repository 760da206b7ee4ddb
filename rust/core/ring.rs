// SPDX-License-Identifier: GPL-2.0

//! Layout of the log ring and the arithmetic of its indices.
//!
//! The ring is shared with one reader in userspace. Producer and consumer are byte counts
//! that never wrap (64 bits); a count modulo the size of the data area is an offset in it.
//!
//! ```text
//!   consumer                     producer
//!      v                            v
//!  ....[ record ][ record ][ record ]..........
//!  free           to be read          free
//! ```
//!
//! A record is contiguous: where it would cross the end of the area, a [`Kind::Pad`] record
//! fills the rest. A record is whole before the producer count moves over it. Everything is in
//! native byte order and 8-byte aligned.
//! The kernel never trusts the consumer count: one that is impossible counts as a full ring.

use ::core::mem::size_of;

/// Records begin and end on multiples of this many bytes.
pub const ALIGN: u64 = 8;

/// Size of the fixed part of a record in bytes.
pub const HEADER: usize = size_of::<Record>();

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Nothing: the rest of the area before its end. Only `len` and `kind` are valid.
    Pad = 0,
    /// The service answered a SYN. `pos`, `ack`: first positions of s2c and c2s. Data: [`Desc`].
    /// The timestamps are as the client will send them: its TSval and the service's.
    Opened = 1,
    /// Bytes of the client, once their checksum was right and they were in the window.
    /// `pos`: c2s position; `ack`: what the client has acknowledged (s2c).
    C2s = 2,
    /// Bytes of the service. `pos`: s2c position; `ack`: what the local socket has
    /// acknowledged (c2s): c2s bytes below it are final.
    S2c = 3,
    /// A request begins at `ack` (c2s); its response begins at `pos` (s2c).
    Object = 4,
    /// A packet of a flow that nobody here knows. `pos`: its acknowledgement number, that is
    /// the next byte the client expects; `ack`: its sequence number. Data: [`Desc`].
    Orphan = 5,
    /// A client that was asked to has said where it stands. As [`Kind::Orphan`].
    Located = 6,
    /// Bytes that the server answered to a ghost. `pos`: count from the first byte of the
    /// answer. With [`flags::FIN`] (no data): the server has closed.
    Answer = 7,
    /// The flow is joined. `pos`: the s2c position of the first byte of the server's own.
    Spliced = 8,
    /// The flow could not be continued, not yet or not any more. `window`: a [`super::counter::Counter`].
    Failed = 9,
    /// The flow is over. With [`flags::RST`] it was reset.
    Closed = 10,
    /// How far a long response has come. `pos`: acknowledged by the client (s2c).
    Progress = 11,
    /// The flow cannot be continued from here on. `window`: a [`super::counter::Counter`].
    Unprotected = 12,
    /// The local server has closed early, and that is held back. `pos`: acknowledged by the
    /// client (s2c); `ack`: by the server (c2s). With [`flags::RST`] it was a reset.
    Lost = 13,
    /// A connection to a server is opened in the client's name; any [`Kind::Answer`] before was
    /// another's. `pos`: where the client stands (s2c); `ack`: next c2s position.
    Asked = 14,
}

impl Kind {
    /// The kind with this number, if there is one.
    pub fn from_raw(raw: u16) -> Option<Self> {
        use Kind::*;
        [
            Pad,
            Opened,
            C2s,
            S2c,
            Object,
            Orphan,
            Located,
            Answer,
            Spliced,
            Failed,
            Closed,
            Progress,
            Unprotected,
            Lost,
            Asked,
        ]
        .into_iter()
        .find(|k| *k as u16 == raw)
    }
}

impl Record {
    /// Whether somebody waits until it is read: bytes that are held, or a flow without a server.
    /// Of all else the reader may hear a little later.
    pub fn is_urgent(&self) -> bool {
        use Kind::*;
        let patient = [Opened, C2s, S2c, Object, Closed, Progress];
        let patient = patient.iter().any(|k| *k as u16 == self.kind);
        !patient || self.flags & flags::HELD != 0
    }
}

/// Bits of [`Record::flags`].
pub mod flags {
    /// The packet had FIN set.
    pub const FIN: u16 = 1;
    /// The packet had RST set.
    pub const RST: u16 = 2;
    /// The packet had PSH set.
    pub const PSH: u16 = 4;
    /// `tsval` and `tsecr` are valid.
    pub const TIMESTAMPS: u16 = 8;
    /// The bytes are held back until flow-commit.
    pub const HELD: u16 = 16;
    /// The packet carried payload (orphans, whose payload is not logged).
    pub const PAYLOAD: u16 = 32;
    /// The client holds bytes beyond the one that it expects (it sent such a SACK block).
    pub const SACKED: u16 = 64;
}

/// The fixed part of a record. The data follow, padded to [`ALIGN`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// Bytes of the whole record with padding.
    pub len: u32,
    /// A [`Kind`].
    pub kind: u16,
    /// Of [`flags`].
    pub flags: u16,
    /// The number of the flow.
    pub flow: u64,
    /// A position; which one, says [`Kind`].
    pub pos: u64,
    /// A position of the other stream; which one, says [`Kind`].
    pub ack: u64,
    /// Monotonic clock in nanoseconds.
    pub time: u64,
    /// Records that were lost for want of room since the ring was opened.
    pub lost: u64,
    /// Bytes of data.
    pub data_len: u32,
    /// The window of the packet in bytes, scaled; or a number as [`Kind`] says.
    pub window: u32,
    /// TSval of the packet, in client space.
    pub tsval: u32,
    /// TSecr of the packet, in client space.
    pub tsecr: u32,
}

/// A flow's name and the options of its handshake, as data of some records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Desc {
    /// 4-tuple, as in [`super::wire::Key`].
    pub key: [u8; 40],
    /// Initial sequence number of the client.
    pub isn_c2s: u32,
    /// Initial sequence number of the service, in client space.
    pub isn_s2c: u32,
    /// Raised by each takeover.
    pub generation: u32,
    /// The client's MSS option in bytes; 0 if it sent none.
    pub mss: u16,
    /// The client's window scale, or 255 if it offered none.
    pub wscale_client: u8,
    /// The window scale that the client was told, or 255.
    pub wscale_service: u8,
    /// 1: SACK permitted; 2: timestamps.
    pub options: u16,
    /// Unused, zero.
    pub reserved: [u8; 6],
}

/// Copies `field` to `out` from `*at` on and moves on.
fn put<const N: usize>(out: &mut [u8], at: &mut usize, field: [u8; N]) {
    if let Some(to) = out.get_mut(*at..*at + N) {
        to.copy_from_slice(&field);
    }
    *at += N;
}

/// The `N` bytes of `bytes` from `*at` on, moving on; zero if they are not there.
fn take<const N: usize>(bytes: &[u8], at: &mut usize) -> [u8; N] {
    let field = bytes.get(*at..*at + N).and_then(|b| b.try_into().ok());
    *at += N;
    field.unwrap_or([0; N])
}

impl Record {
    /// The record as it lies in the ring.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let at = &mut 0;
        put(&mut out, at, self.len.to_ne_bytes());
        put(&mut out, at, self.kind.to_ne_bytes());
        put(&mut out, at, self.flags.to_ne_bytes());
        for word in [self.flow, self.pos, self.ack, self.time, self.lost] {
            put(&mut out, at, word.to_ne_bytes());
        }
        for half in [self.data_len, self.window, self.tsval, self.tsecr] {
            put(&mut out, at, half.to_ne_bytes());
        }
        out
    }

    /// The record that lies in the ring as `bytes`.
    pub fn from_bytes(bytes: &[u8; HEADER]) -> Self {
        let at = &mut 0;
        Record {
            len: u32::from_ne_bytes(take(bytes, at)),
            kind: u16::from_ne_bytes(take(bytes, at)),
            flags: u16::from_ne_bytes(take(bytes, at)),
            flow: u64::from_ne_bytes(take(bytes, at)),
            pos: u64::from_ne_bytes(take(bytes, at)),
            ack: u64::from_ne_bytes(take(bytes, at)),
            time: u64::from_ne_bytes(take(bytes, at)),
            lost: u64::from_ne_bytes(take(bytes, at)),
            data_len: u32::from_ne_bytes(take(bytes, at)),
            window: u32::from_ne_bytes(take(bytes, at)),
            tsval: u32::from_ne_bytes(take(bytes, at)),
            tsecr: u32::from_ne_bytes(take(bytes, at)),
        }
    }
}

impl Desc {
    /// Bytes of a description.
    pub const SIZE: usize = size_of::<Desc>();

    /// The description as data of a record.
    pub fn to_bytes(self) -> [u8; Desc::SIZE] {
        let mut out = [0; Desc::SIZE];
        let at = &mut 0;
        put(&mut out, at, self.key);
        for word in [self.isn_c2s, self.isn_s2c, self.generation] {
            put(&mut out, at, word.to_ne_bytes());
        }
        put(&mut out, at, self.mss.to_ne_bytes());
        put(&mut out, at, [self.wscale_client, self.wscale_service]);
        put(&mut out, at, self.options.to_ne_bytes());
        put(&mut out, at, self.reserved);
        out
    }

    /// The description that is the data `bytes` of a record.
    pub fn from_bytes(bytes: &[u8; Desc::SIZE]) -> Self {
        let at = &mut 0;
        Desc {
            key: take(bytes, at),
            isn_c2s: u32::from_ne_bytes(take(bytes, at)),
            isn_s2c: u32::from_ne_bytes(take(bytes, at)),
            generation: u32::from_ne_bytes(take(bytes, at)),
            mss: u16::from_ne_bytes(take(bytes, at)),
            wscale_client: take::<1>(bytes, at)[0],
            wscale_service: take::<1>(bytes, at)[0],
            options: u16::from_ne_bytes(take(bytes, at)),
            reserved: take(bytes, at),
        }
    }
}

const _: () = {
    assert!(size_of::<Record>() == 64);
    assert!(size_of::<Desc>() == 64);
};

/// A place in the data area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Offset in bytes of the record in the data area.
    pub offset: usize,
    /// Bytes of the record with padding.
    pub len: u32,
    /// Offset and length in bytes of the padding record to write first, if any.
    pub pad: Option<(usize, u32)>,
}

/// The producer's end of the ring.
#[derive(Debug)]
pub struct Producer {
    head: u64,
    size: u64,
    lost: u64,
    /// Count below which the reader is to read without delay.
    urgent: u64,
}

impl Producer {
    /// An empty ring with a data area of `size` bytes, a power of two of at least 4096.
    pub const fn new(size: u64) -> Self {
        Producer {
            head: 0,
            size,
            lost: 0,
            urgent: 0,
        }
    }

    /// The producer count to publish.
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// Records lost so far.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Count below which the reader is to read without delay: behind the newest record that
    /// [is urgent](Record::is_urgent), or everything once a quarter of the area is in use.
    pub const fn urgent(&self) -> u64 {
        self.urgent
    }

    /// What was written last is `record`; `consumer` is as for [`Self::reserve`].
    pub fn wrote(&mut self, consumer: u64, record: &Record) {
        if record.is_urgent() || self.head.wrapping_sub(consumer) > self.size / 4 {
            self.urgent = self.head;
        }
    }

    /// Makes room for a record with `data_len` bytes of data. `consumer` is the count that
    /// the reader published, of any value. `None`: no room; the record counts as lost.
    pub fn reserve(&mut self, consumer: u64, data_len: usize) -> Option<Slot> {
        let slot = self.place(consumer, data_len);
        match slot {
            Some(s) => {
                let pad = s.pad.map_or(0, |(_, len)| len);
                self.head += u64::from(s.len) + u64::from(pad);
            }
            None => self.lost += 1,
        }
        slot
    }

    fn place(&self, consumer: u64, data_len: usize) -> Option<Slot> {
        let used = self
            .head
            .checked_sub(consumer)
            .filter(|u| *u <= self.size)?;
        let want = (HEADER as u64)
            .checked_add(data_len as u64)?
            .checked_next_multiple_of(ALIGN)?;
        // Half the area at most, so that a record always fits once the reader has caught up.
        if want > self.size / 2 {
            return None;
        }
        let offset = self.head & (self.size - 1);
        let rest = self.size - offset;
        let (offset, pad) = if rest < want {
            (0, Some((offset as usize, rest as u32)))
        } else {
            (offset, None)
        };
        let need = want + pad.map_or(0, |(_, len)| u64::from(len));
        (used + need <= self.size).then_some(Slot {
            offset: offset as usize,
            len: want as u32,
            pad,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_never_overlap_and_never_cross_the_end() {
        let mut p = Producer::new(4096);
        let (mut consumer, mut seen) = (0u64, 0u64);
        for i in 0..10_000usize {
            let data = (i * 37) % 700;
            let head = p.head();
            let Some(slot) = p.reserve(consumer, data) else {
                consumer = p.head();
                continue;
            };
            seen += 1;
            assert!(slot.offset + slot.len as usize <= 4096);
            assert!(slot.len as usize >= HEADER + data && slot.len % 8 == 0);
            let start = slot.pad.map_or(head, |(_, len)| head + u64::from(len));
            assert_eq!(start & 4095, slot.offset as u64);
            assert!(p.head() - consumer <= 4096);
        }
        assert!(seen > 5_000);
    }

    #[test]
    fn an_impossible_consumer_is_a_full_ring() {
        let mut p = Producer::new(4096);
        assert!(p.reserve(0, 100).is_some());
        assert!(p.reserve(1 << 40, 8).is_none());
        assert!(p.reserve(u64::MAX, 8).is_none());
        assert!(p.reserve(p.head(), 8).is_some());
        assert_eq!(p.lost(), 2);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let r = Record {
            len: 1,
            kind: 2,
            flags: 3,
            flow: 4,
            pos: 5 << 40,
            ack: 6,
            time: 7,
            lost: 8,
            data_len: 9,
            window: 10,
            tsval: 11,
            tsecr: 12,
        };
        assert_eq!(Record::from_bytes(&r.to_bytes()), r);
        let d = Desc {
            key: [7; 40],
            isn_c2s: 1,
            isn_s2c: 2,
            generation: 3,
            mss: 4,
            wscale_client: 5,
            wscale_service: 6,
            options: 7,
            reserved: [0; 6],
        };
        assert_eq!(Desc::from_bytes(&d.to_bytes()), d);
    }

    #[test]
    fn what_somebody_waits_for_is_urgent_and_so_is_a_ring_that_fills() {
        let mut p = Producer::new(4096);
        let mut write = |consumer, kind: Kind, flags| {
            let record = Record {
                kind: kind as u16,
                flags,
                ..Record::default()
            };
            assert!(p.reserve(consumer, 0).is_some());
            p.wrote(consumer, &record);
            (p.head(), p.urgent())
        };
        assert_eq!(write(0, Kind::C2s, flags::PSH), (64, 0));
        assert_eq!(write(0, Kind::S2c, flags::HELD), (128, 128));
        assert_eq!(write(0, Kind::S2c, 0), (192, 128));
        assert_eq!(write(0, Kind::Orphan, 0), (256, 256));
        while write(0, Kind::S2c, 0).0 < 1024 {}
        assert_eq!(write(64, Kind::S2c, 0), (1088, 256));
        assert_eq!(write(0, Kind::S2c, 0), (1152, 1152));
        // A reader that says what cannot be makes haste for itself only.
        assert_eq!(write(1152, Kind::S2c, 0), (1216, 1152));
    }

    #[test]
    fn an_oversized_record_is_refused() {
        let mut p = Producer::new(4096);
        assert!(p.reserve(0, 4096).is_none());
        assert!(p.reserve(0, usize::MAX).is_none());
    }
}
