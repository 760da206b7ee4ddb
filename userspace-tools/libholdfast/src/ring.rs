// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The log: records of what flows carried and what became of them, read from
//! `/dev/holdfast`.
//!
//! ```text
//!   file offset 0             file offset PAGE
//!   +---------------+         +---------------+------------------------------+
//!   | consumer page |         | producer page | data, a power of two bytes   |
//!   +---------------+         +---------------+------------------------------+
//!   word 0: consumer count    word 0: producer count; word 1: bytes of data
//!   mapped for writing        mapped for reading only
//! ```
//!
//! The second mapping must be as long as both areas together, so that a length that the kernel
//! takes tells the size; word 1 confirms it. The layout of records and the meaning of the
//! counts are in [`holdfast_core::ring`].
//!
//! Nothing in the mapping is trusted: a record is copied out before it is looked at, by its own
//! checked length, so that even a kernel gone mad makes an error of it and nothing worse.
//!
//! This is the only file of the tools with `unsafe` code.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

pub use holdfast_core::ring::{flags, Kind, Record};
use holdfast_core::ring::{ALIGN, HEADER};

use crate::error::{Error, Result};

/// Where the log is.
pub const DEVICE: &str = "/dev/holdfast";

/// Powers of two that the data area may have as its size in bytes: a page to 1 GiB.
const SIZES: std::ops::RangeInclusive<u32> = 12..=30;

// Words of the producer page.
const PRODUCER: usize = 0;
const DATA_SIZE: usize = 1;
// Word of the consumer page.
const CONSUMER: usize = 0;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it tells.
    pub kind: Kind,
    /// The fixed part.
    pub record: Record,
    /// The data, [`Record::data_len`] bytes.
    pub data: &'a [u8],
}

/// The log cannot be read on: its records do not follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Count at which the record should be.
    pub position: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log is corrupt at {}: {}", self.position, self.why)
    }
}

impl std::error::Error for Corrupt {}

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Error::Malformed(corrupt.to_string())
    }
}

/// The log of a network namespace.
///
/// While it is open, gates may close; when it is closed, all of them open. The descriptor
/// polls readable while there is something to read.
pub struct Ring {
    file: File,
    consumer: Mapping,
    kernel: Mapping,
    /// Offset of the data area in `kernel`.
    page: usize,
    /// Bytes of the data area, a power of two.
    size: u64,
    /// Count up to which records were read.
    position: u64,
    /// Count that the kernel was told.
    released: u64,
    lost: u64,
    /// A copy of the newest record.
    copy: Vec<u8>,
}

impl Ring {
    /// Opens the log of this thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`]; `EBUSY` if somebody reads it already; `EPERM` without
    /// `CAP_NET_ADMIN`.
    pub fn open() -> Result<Self> {
        Self::open_path(Path::new(DEVICE))
    }

    /// Opens the log behind `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_path(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotLoaded,
            _ => Error::io("the log")(e),
        })?;
        Self::map(file)
    }

    fn map(file: File) -> Result<Self> {
        let page = page_size();
        let consumer = Mapping::new(&file, 0, page, libc::PROT_READ | libc::PROT_WRITE)
            .map_err(Error::io("mapping the log's consumer page"))?;
        let kernel = map_data(&file, page)?;
        let size = (kernel.len - page) as u64;
        let position = consumer.word(CONSUMER).load(Ordering::Relaxed);
        Ok(Ring {
            file,
            consumer,
            kernel,
            page,
            size,
            position,
            released: position,
            lost: 0,
            copy: Vec::new(),
        })
    }

    /// The next record; `None` if there is none yet.
    ///
    /// What was returned before is given back to the kernel, a good part of the area at a time
    /// and at the latest when `None` is returned.
    ///
    /// # Errors
    ///
    /// Once the log is corrupt it stays so: close it.
    #[expect(
        clippy::should_implement_trait,
        reason = "an entry borrows from the ring"
    )]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Corrupt> {
        let kind = loop {
            let Some(kind) = self.step()? else {
                self.release();
                return Ok(None);
            };
            if self.position.wrapping_sub(self.released) >= self.size / 8 {
                self.release();
            }
            if kind != Kind::Pad {
                break kind;
            }
        };
        let record = self.copied();
        self.lost = record.lost;
        let data = self
            .copy
            .get(HEADER..HEADER + record.data_len as usize)
            .unwrap_or(&[]);
        Ok(Some(Entry { kind, record, data }))
    }

    /// Waits until there is something to read, for `timeout` at most, rounded up to
    /// milliseconds. Whether there is.
    ///
    /// # Errors
    ///
    /// What poll(2) says; a signal is none, and wakes.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let millis = timeout.map_or(-1, |t| {
            libc::c_int::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        });
        let mut poll = libc::pollfd {
            fd: self.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: One initialised structure, as said.
        match unsafe { libc::poll(&mut poll, 1, millis) } {
            ..0 => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
                e => Err(Error::io("the log")(e)),
            },
            ready => Ok(ready > 0),
        }
    }

    /// Records that were lost for want of room, as of the newest record read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Bytes that were written and not read yet; never more than [`Self::size`].
    pub fn unread(&self) -> u64 {
        let produced = self.kernel.word(PRODUCER).load(Ordering::Relaxed);
        produced.wrapping_sub(self.position).min(self.size)
    }

    /// Bytes of the data area.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Copies one record to `copy` and moves over it.
    fn step(&mut self) -> Result<Option<Kind>, Corrupt> {
        let corrupt = |why| Corrupt {
            position: self.position,
            why,
        };
        let produced = self.kernel.word(PRODUCER).load(Ordering::Acquire);
        let ready = produced.wrapping_sub(self.position);
        if ready == 0 {
            return Ok(None);
        }
        if ready > self.size || ready % ALIGN != 0 || self.position % ALIGN != 0 {
            return Err(corrupt("an impossible producer count"));
        }
        // Below `size`, which fits.
        let offset = (self.position & (self.size - 1)) as usize;
        let room = (self.size - offset as u64).min(ready);
        let raw = self.kernel.half(self.page + offset).load(Ordering::Acquire);
        let len = u64::from(raw);
        if len < ALIGN || len % ALIGN != 0 || len > room {
            return Err(corrupt("an impossible length"));
        }
        self.copy.clear();
        self.kernel
            .copy_to(self.page + offset, len as usize, &mut self.copy);
        // The copy is judged, its length included: that in the ring may have changed.
        let record = self.copied();
        let Some(kind) = Kind::from_raw(record.kind) else {
            return Err(corrupt("a kind that is not known here"));
        };
        if kind != Kind::Pad {
            let data = u64::from(record.data_len);
            if record.len != raw || (HEADER as u64) + data > len {
                return Err(corrupt("more data than the record has"));
            }
        }
        self.position = self.position.wrapping_add(len);
        Ok(Some(kind))
    }

    /// The fixed part of the record in `copy`; zeros where a pad is too short to have it all.
    fn copied(&self) -> Record {
        let mut fixed = [0; HEADER];
        let len = self.copy.len().min(HEADER);
        fixed[..len].copy_from_slice(&self.copy[..len]);
        Record::from_bytes(&fixed)
    }

    /// Gives the room of what was read back to the kernel.
    fn release(&mut self) {
        if self.released != self.position {
            // Release: the copies are complete before the kernel overwrites their originals.
            self.consumer
                .word(CONSUMER)
                .store(self.position, Ordering::Release);
            self.released = self.position;
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("size", &self.size)
            .field("position", &self.position)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn page_size() -> usize {
    // SAFETY: It has no requirements.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // Linux always knows it.
    usize::try_from(size).unwrap_or(4096)
}

/// Maps the producer page and all of the data.
fn map_data(file: &File, page: usize) -> Result<Mapping> {
    let map = |size: usize| Mapping::new(file, page, page + size, libc::PROT_READ);
    for shift in SIZES {
        let mapping = match map(1 << shift) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => continue,
            result => result.map_err(Error::io("mapping the log"))?,
        };
        let told = mapping.word(DATA_SIZE).load(Ordering::Acquire);
        let known = SIZES
            .map(|s| 1usize << s)
            .find(|size| *size as u64 == told && *size >= page);
        let size = known.ok_or_else(|| Error::Malformed(format!("a log of {told} bytes")))?;
        if size == 1 << shift {
            return Ok(mapping);
        }
        // One that takes shorter mappings too.
        return map(size).map_err(Error::io("mapping the log"));
    }
    Err(Error::Io {
        what: "mapping the log",
        source: io::Error::from_raw_os_error(libc::EINVAL),
    })
}

/// A shared mapping.
///
/// # Invariants
///
/// `start` is the page-aligned start of a mapping of `len` bytes, at least a page, that is
/// readable and lives as long as this. Its owner alone unmaps it.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: A mapping belongs to the process, not to a thread. The words in it are accessed as
// atomics, so that `&Mapping` may be shared too; but nobody needs that.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(file: &File, offset: usize, len: usize, prot: libc::c_int) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: Without MAP_FIXED it touches no memory that is in use. A length or an offset
        // that does not suit is an error.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                prot,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // INVARIANT: Just mapped. No mapping begins at zero unless asked to.
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Mapping { start, len })
    }

    /// Word number `index` of 64 bits.
    fn word(&self, index: usize) -> &AtomicU64 {
        let offset = index * size_of::<u64>();
        assert!(offset + size_of::<u64>() <= self.len);
        // SAFETY: In bounds, and aligned as the mapping is, by the type invariant. What else
        // accesses it is the kernel, atomically too. A mapping that may not be written is only
        // loaded from.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// The 32 bits at `offset`, a multiple of four.
    fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset % size_of::<u32>() == 0 && offset + size_of::<u32>() <= self.len);
        // SAFETY: As in `word`.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Appends `len` bytes from `offset` on to `out`.
    fn copy_to(&self, offset: usize, len: usize, out: &mut Vec<u8>) {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        out.reserve(len);
        // SAFETY: The source is in bounds by the type invariant and the assertion; the
        // destination was just reserved and overlaps no mapping. No reference into the mapping
        // is made, so that one who changes it meanwhile, against the rules of the ring, spoils
        // bytes that are judged later and nothing else.
        unsafe {
            let end = out.as_mut_ptr().add(out.len());
            ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), end, len);
            out.set_len(out.len() + len);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is ours, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::ring::Producer;
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::FileExt;

    const SIZE: u64 = 4096;

    /// The kernel's side, in memory.
    struct Kernel {
        file: File,
        producer: Producer,
        time: u64,
    }

    impl Kernel {
        fn new() -> Self {
            // SAFETY: The name is a C string; the descriptor is new and has no other owner.
            let file = unsafe {
                let fd = libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC);
                assert!(fd >= 0);
                File::from_raw_fd(fd)
            };
            let page = page_size() as u64;
            file.set_len(2 * page + SIZE.max(page)).unwrap();
            let kernel = Kernel {
                file,
                producer: Producer::new(SIZE),
                time: 0,
            };
            kernel.put(page + 8, &SIZE.to_ne_bytes());
            kernel
        }

        fn open(&self) -> Ring {
            Ring::map(self.file.try_clone().unwrap()).unwrap()
        }

        fn put(&self, at: u64, bytes: &[u8]) {
            self.file.write_all_at(bytes, at).unwrap();
        }

        fn put_data(&self, offset: usize, bytes: &[u8]) {
            self.put(2 * page_size() as u64 + offset as u64, bytes);
        }

        fn publish(&self, head: u64) {
            self.put(page_size() as u64, &head.to_ne_bytes());
        }

        fn consumed(&self) -> u64 {
            let mut word = [0; 8];
            self.file.read_exact_at(&mut word, 0).unwrap();
            u64::from_ne_bytes(word)
        }

        /// Writes a record as `rust/log.rs` does; whether there was room.
        fn write(&mut self, kind: Kind, data: &[u8]) -> bool {
            let Some(slot) = self.producer.reserve(self.consumed(), data.len()) else {
                return false;
            };
            if let Some((offset, len)) = slot.pad {
                let pad = Record {
                    len,
                    kind: Kind::Pad as u16,
                    ..Record::default()
                };
                self.put_data(offset, &pad.to_bytes()[..8]);
            }
            self.time += 1;
            let record = Record {
                len: slot.len,
                kind: kind as u16,
                time: self.time,
                lost: self.producer.lost(),
                data_len: data.len() as u32,
                ..Record::default()
            };
            self.put_data(slot.offset, &record.to_bytes());
            self.put_data(slot.offset + HEADER, data);
            self.publish(self.producer.head());
            true
        }
    }

    #[test]
    fn an_empty_ring_has_nothing() {
        let mut ring = Kernel::new().open();
        assert_eq!((ring.size(), ring.lost()), (SIZE, 0));
        assert!(ring.next().unwrap().is_none());
    }

    #[test]
    fn records_are_read_in_order_across_many_wraps() {
        let mut kernel = Kernel::new();
        let mut ring = kernel.open();
        let (mut written, mut read, mut lost) = (0usize, 0usize, 0);
        let bytes = |i: usize| vec![i as u8; (i * 37) % 700];
        while read < 2000 {
            if kernel.write(Kind::S2c, &bytes(written)) {
                written += 1;
                continue;
            }
            lost += 1;
            while let Some(entry) = ring.next().unwrap() {
                assert_eq!(entry.kind, Kind::S2c);
                assert_eq!(entry.record.time, read as u64 + 1);
                assert_eq!(entry.data, bytes(read));
                read += 1;
            }
            assert_eq!(read, written);
            assert_eq!(
                kernel.consumed(),
                kernel.producer.head(),
                "all room was given back"
            );
        }
        assert_eq!(
            ring.lost(),
            lost - 1,
            "the newest record knows of all but the last loss"
        );
    }

    #[test]
    fn room_is_given_back_while_reading() {
        let mut kernel = Kernel::new();
        let mut ring = kernel.open();
        while kernel.write(Kind::C2s, &[7; 100]) {}
        for _ in 0..10 {
            ring.next().unwrap().unwrap();
        }
        assert!(kernel.consumed() > 0);
        assert!(kernel.write(Kind::C2s, &[7; 100]));
    }

    #[test]
    fn a_second_reader_goes_on_where_the_first_stopped() {
        let mut kernel = Kernel::new();
        kernel.write(Kind::Object, b"");
        let mut ring = kernel.open();
        ring.next().unwrap().unwrap();
        assert!(ring.next().unwrap().is_none());
        drop(ring);
        assert!(kernel.open().next().unwrap().is_none());
    }

    /// What comes of one record with these fields changed.
    fn spoiled(change: impl FnOnce(&mut Record)) -> Result<bool, &'static str> {
        let mut kernel = Kernel::new();
        kernel.write(Kind::C2s, &[1; 16]);
        let mut record = Record {
            len: HEADER as u32 + 16,
            kind: Kind::C2s as u16,
            data_len: 16,
            ..Record::default()
        };
        change(&mut record);
        kernel.put_data(0, &record.to_bytes());
        let result = kernel.open().next().map(|e| e.is_some()).map_err(|e| e.why);
        result
    }

    #[test]
    fn impossible_records_are_errors() {
        assert_eq!(spoiled(|_| ()), Ok(true));
        for len in [0, 4, 12, HEADER as u32 + 24, 4096, 8192, u32::MAX - 7] {
            assert!(spoiled(|r| r.len = len).is_err(), "{len}");
        }
        assert!(
            spoiled(|r| r.len = HEADER as u32).is_err(),
            "shorter than its data"
        );
        assert!(spoiled(|r| r.data_len = 17).is_err());
        assert!(spoiled(|r| r.data_len = u32::MAX).is_err());
        assert!(spoiled(|r| r.kind = 999).is_err());
    }

    #[test]
    fn impossible_counts_are_errors() {
        for head in [3, SIZE + 8, u64::MAX, 1 << 40] {
            let kernel = Kernel::new();
            kernel.publish(head);
            let mut ring = kernel.open();
            assert!(ring.next().is_err(), "{head}");
            assert!(ring.next().is_err(), "it stays so");
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        for size in [0, 100, 4097, u64::MAX] {
            let kernel = Kernel::new();
            kernel.put(page_size() as u64 + 8, &size.to_ne_bytes());
            assert!(matches!(Ring::map(kernel.file), Err(Error::Malformed(_))));
        }
    }
}
