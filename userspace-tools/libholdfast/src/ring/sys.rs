// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What the log needs of the system: a shared mapping, the size of a page, and poll(2).
//!
//! This is the only file of the tools with `unsafe` code, but for tests.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

pub(super) fn page_size() -> usize {
    // SAFETY: It has no requirements.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // Linux always knows it.
    usize::try_from(size).unwrap_or(4096)
}

/// Waits until there is something to read, for `millis` at most, or for ever if that is negative.
/// Whether there is; a signal is no error, and wakes.
pub(super) fn poll(fd: RawFd, millis: libc::c_int) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: One initialised structure, as said.
    match unsafe { libc::poll(&mut poll, 1, millis) } {
        ..0 => match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
            e => Err(e),
        },
        ready => Ok(ready > 0),
    }
}

/// A shared mapping.
///
/// # Invariants
///
/// `start` is the page-aligned start of a mapping of `len` bytes, at least a page, that is
/// readable and lives as long as this. Its owner alone unmaps it.
pub(super) struct Mapping {
    start: NonNull<u8>,
    pub(super) len: usize,
}

// SAFETY: A mapping belongs to the process, not to a thread. The words in it are accessed as
// atomics, so that `&Mapping` may be shared too; but nobody needs that.
unsafe impl Send for Mapping {}

impl Mapping {
    pub(super) fn new(
        file: &File,
        offset: usize,
        len: usize,
        prot: libc::c_int,
    ) -> io::Result<Self> {
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
    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        let offset = index * size_of::<u64>();
        assert!(offset + size_of::<u64>() <= self.len);
        // SAFETY: In bounds, and aligned as the mapping is, by the type invariant. What else
        // accesses it is the kernel, atomically too. A mapping that may not be written is only
        // loaded from.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// The 32 bits at `offset`, a multiple of four.
    pub(super) fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset % size_of::<u32>() == 0 && offset + size_of::<u32>() <= self.len);
        // SAFETY: As in `word`.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Appends `len` bytes from `offset` on to `out`.
    pub(super) fn copy_to(&self, offset: usize, len: usize, out: &mut Vec<u8>) {
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
