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

mod sys;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use holdfast_core::ring::{flags, Kind, Record};
use holdfast_core::ring::{ALIGN, HEADER};

use crate::error::{Error, Result};
use sys::{page_size, Mapping};

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
/// polls readable while there is something to read, and urgent (POLLPRI) while somebody waits for it.
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
        sys::poll(self.as_raw_fd(), millis).map_err(Error::io("the log"))
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

#[cfg(test)]
mod tests;
