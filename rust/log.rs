// SPDX-License-Identifier: GPL-2.0

//! The log: copies chosen bytes of flows, and what became of flows, to a reader in userspace.
//!
//! `/dev/holdfast`, opened once per network namespace, is the ring of that namespace; its layout
//! is in [`crate::hcore::ring`]. While it is open, gates may close; when it is closed, be it
//! because the reader died, all of them open.
//!
//! A record is written whole under the ring's lock before the producer count moves over it: the
//! reader never meets half of one.

use crate::hcore::ring::{Desc, Kind, Producer, Record, HEADER};
use crate::namespace::Namespace;
use crate::net::chardev::{Device, Opener};
use crate::net::errno::{errno, ENOBUFS};
use crate::net::lock::{new_spinlock_bh, SpinLockBh};
use crate::net::pernet::PerNet;
use crate::net::ringmem::RingMem;
use crate::net::skbuff::Skb;
use crate::net::time;
use crate::net::wait::{new_waker, Events, Waker};
use crate::tenant::Tenant;
use kernel::mm::virt::VmaNew;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// Bytes of the data area.
const SIZE: usize = 4 << 20;

/// Words of the producer page: what was written, the size of the data area, and what of it is to be
/// read without delay.
const PRODUCED: usize = 0;
const DATA_SIZE: usize = 1;
const URGENT: usize = 2;
/// Word of the consumer page.
const CONSUMED: usize = 0;

/// The ring of one namespace.
#[pin_data]
pub(crate) struct Ring {
    mem: RingMem,
    #[pin]
    producer: SpinLockBh<Producer>,
    #[pin]
    waker: Waker,
}

/// The data of a record.
pub(crate) enum Data<'a> {
    /// None.
    None,
    /// Bytes of a packet.
    Packet {
        /// The packet.
        skb: &'a Skb<'a>,
        /// Offset in bytes from the network header.
        offset: usize,
        /// Number of bytes.
        len: usize,
    },
    /// The flow's name.
    Desc(Desc),
}

impl Ring {
    fn new() -> Result<Arc<Self>> {
        let mem = RingMem::new(SIZE)?;
        mem.store_producer::<DATA_SIZE>(SIZE as u64);
        Arc::pin_init(
            pin_init!(Self {
                mem,
                producer <- new_spinlock_bh!(Producer::new(SIZE as u64)),
                waker <- new_waker!("holdfast_log"),
            }),
            GFP_KERNEL,
        )
    }

    /// Appends a record; its `len`, `time`, `lost` and `data_len` are filled in here. Softirq or
    /// process context.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` if there is no room: the record is lost, and counted in those that follow.
    pub(crate) fn write(&self, mut record: Record, data: &Data<'_>) -> Result {
        let desc;
        let bytes: &[u8] = match data {
            Data::Desc(d) => {
                desc = d.to_bytes();
                &desc
            }
            _ => &[],
        };
        let len = match data {
            Data::Packet { len, .. } => *len,
            _ => bytes.len(),
        };
        let mut producer = self.producer.lock();
        let consumed = self.mem.load_consumer::<CONSUMED>();
        let slot = producer.reserve(consumed, len).ok_or(errno(ENOBUFS))?;
        record.len = slot.len;
        record.time = time::now_ns();
        record.lost = producer.lost();
        record.data_len = len as u32;
        let written = self.fill(&slot, &record, data, bytes);
        if written.is_err() {
            // The room is taken, so the reader must be able to step over it.
            let pad = Record {
                len: slot.len,
                kind: Kind::Pad as u16,
                ..Record::default()
            };
            self.mem.write_at(slot.offset as u64, &pad.to_bytes())?;
        }
        producer.wrote(consumed, &record);
        let (head, urgent) = (producer.head(), producer.urgent());
        self.mem.store_producer::<URGENT>(urgent);
        self.mem.store_producer::<PRODUCED>(head);
        drop(producer);
        self.waker.wake(events(urgent == head));
        written
    }

    fn fill(
        &self,
        slot: &crate::hcore::ring::Slot,
        record: &Record,
        data: &Data<'_>,
        bytes: &[u8],
    ) -> Result {
        if let Some((offset, len)) = slot.pad {
            let pad = Record {
                len,
                kind: Kind::Pad as u16,
                ..Record::default()
            };
            // The rest of the area may be shorter than a header; the length and the kind fit.
            self.mem.write_at(offset as u64, &pad.to_bytes()[..8])?;
        }
        self.mem.write_at(slot.offset as u64, &record.to_bytes())?;
        let at = (slot.offset + HEADER) as u64;
        match data {
            Data::Packet { skb, offset, len } => self.mem.write_skb(at, skb, *offset, *len),
            _ => self.mem.write_at(at, bytes),
        }
    }
}

/// What a ring with something to read is ready for.
fn events(urgent: bool) -> Events {
    if urgent {
        Events::READABLE.and(Events::URGENT)
    } else {
        Events::READABLE
    }
}

/// An open `/dev/holdfast`.
pub(crate) struct LogFile {
    namespace: Arc<Namespace>,
    ring: Arc<Ring>,
}

/// The device.
pub(crate) struct LogDevice;

impl Device for LogDevice {
    type File = LogFile;

    const NAME: &'static CStr = c"holdfast";

    fn open(opener: &Opener<'_>) -> Result<Arc<LogFile>> {
        let tenant = Tenant::slot().get(opener.net()).ok_or(ENODEV)?;
        let namespace = tenant.namespace().clone();
        let ring = Ring::new()?;
        let file = Arc::new(
            LogFile {
                namespace: namespace.clone(),
                ring: ring.clone(),
            },
            GFP_KERNEL,
        )?;
        namespace.attach_log(ring)?;
        Ok(file)
    }

    fn release(file: Arc<LogFile>) {
        file.namespace.detach_log();
    }

    fn waker(file: &LogFile) -> &Waker {
        &file.ring.waker
    }

    fn ready(file: &LogFile) -> Events {
        let mem = &file.ring.mem;
        let consumed = mem.load_consumer::<CONSUMED>();
        if mem.load_producer::<PRODUCED>() == consumed {
            Events::NONE
        } else {
            events(mem.load_producer::<URGENT>() > consumed)
        }
    }

    fn mmap(file: ArcBorrow<'_, LogFile>, vma: &VmaNew) -> Result {
        file.ring.mem.mmap(vma)
    }
}
