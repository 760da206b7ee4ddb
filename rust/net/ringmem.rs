// SPDX-License-Identifier: GPL-2.0

//! Memory that a ring shares with userspace, without any idea of what is in it.
//!
//! ```text
//!   file offset 0             file offset PAGE_SIZE
//!   +---------------+         +---------------+----------------------------+
//!   | consumer page |         | producer page | data, a power of two bytes |
//!   +---------------+         +---------------+----------------------------+
//!   userspace writes,         the kernel writes, userspace only reads:
//!   nobody believes it        VM_MAYWRITE is cleared, mprotect() cannot undo it
//! ```
//!
//! The two are mapped separately, and only as a whole. Both sides agree on the meaning of the
//! 64-bit words in the two pages; here they are numbered.
//!
//! The kernel never reads the data area, and of the consumer page only whole words, once each:
//! what userspace does to them meanwhile cannot change a value after it was checked.

use super::{bindings, skbuff::Skb};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    ffi::c_int,
    mm::virt::{flags, VmaNew},
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{
        ordering::{Acquire, Release},
        Atomic,
    },
};

/// Memory from `vmalloc_user()`: whole pages, zeroed, fit to be mapped.
struct UserPages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: It is memory, owned by this object, and not bound to a thread.
unsafe impl Send for UserPages {}
// SAFETY: A shared reference gives access by atomics and by C's `memcpy()` only.
unsafe impl Sync for UserPages {}

impl UserPages {
    fn new(len: usize) -> Result<Self> {
        // SAFETY: No requirement but that it may sleep.
        let start = NonNull::new(unsafe { bindings::hf_vmalloc_user(len) }.cast()).ok_or(ENOMEM)?;
        Ok(Self { start, len })
    }

    /// The 64-bit word number `WORD` of the first page.
    fn word<const WORD: usize>(&self) -> &Atomic<u64> {
        const { assert!(WORD < PAGE_SIZE / 8) };
        // SAFETY: The word is in the first page, aligned because the page is, and lives as long as
        // `self`. The kernel accesses it by atomics only; what userspace does is another matter,
        // which an atomic access bears.
        unsafe { Atomic::from_ptr(self.start.as_ptr().cast::<u64>().add(WORD)) }
    }

    /// Maps all of it into `vma`, which must be as long.
    fn map(&self, vma: &VmaNew) -> Result {
        if vma.end() - vma.start() != self.len {
            return Err(EINVAL);
        }
        if vma.flags() & flags::SHARED == 0 {
            return Err(EINVAL);
        }
        // SAFETY: The memory is from `vmalloc_user()` and as long as the mapping that is being set
        // up. The mapping takes references to the pages, so that they may outlive `self`.
        to_result(unsafe {
            bindings::remap_vmalloc_range(vma.as_ptr(), self.start.as_ptr().cast(), 0)
        })
    }
}

impl Drop for UserPages {
    fn drop(&mut self) {
        // SAFETY: From `vmalloc_user()`, and not used any more. Any context: `vfree()` defers
        // itself where it may not sleep.
        unsafe { bindings::vfree(self.start.as_ptr().cast()) };
    }
}

/// The memory of one ring.
///
/// # Invariants
///
/// `data_len` is a power of two and a multiple of `PAGE_SIZE`; `kernel_side` is one page longer.
pub(crate) struct RingMem {
    kernel_side: UserPages,
    user_side: UserPages,
    data_len: usize,
}

impl RingMem {
    /// Allocates a ring with a data area of `data_len` bytes, all zero. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `data_len` is not a power of two, less than a page, or more than 1 GiB.
    pub(crate) fn new(data_len: usize) -> Result<Self> {
        if !data_len.is_power_of_two() || !(PAGE_SIZE..=1 << 30).contains(&data_len) {
            return Err(EINVAL);
        }
        // INVARIANT: Checked; both are powers of two, so the larger is a multiple of the smaller.
        Ok(Self {
            kernel_side: UserPages::new(PAGE_SIZE + data_len)?,
            user_side: UserPages::new(PAGE_SIZE)?,
            data_len,
        })
    }

    /// The length of the data area in bytes.
    #[inline]
    pub(crate) fn data_len(&self) -> usize {
        self.data_len
    }

    /// Publishes a word of the producer page: what was written before is seen before. Any context.
    #[inline]
    pub(crate) fn store_producer<const WORD: usize>(&self, value: u64) {
        self.kernel_side.word::<WORD>().store(value, Release);
    }

    /// Reads back a word of the producer page, which nobody else writes. Any context.
    #[inline]
    pub(crate) fn load_producer<const WORD: usize>(&self) -> u64 {
        self.kernel_side.word::<WORD>().load(Acquire)
    }

    /// Reads a word of the consumer page: **any value, at any time another**. Any context.
    ///
    /// What userspace had read before it stored the value may be overwritten after this.
    #[inline]
    pub(crate) fn load_consumer<const WORD: usize>(&self) -> u64 {
        self.user_side.word::<WORD>().load(Acquire)
    }

    /// Writes `bytes` to the data area from position `pos` (modulo its length) on. Any context.
    ///
    /// Two writers of one place leave it with bytes of either; keeping them apart is the ring's
    /// business, as is telling the reader when the bytes are there.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` if `bytes` are more than the area holds. Nothing is written then.
    pub(crate) fn write_at(&self, pos: u64, bytes: &[u8]) -> Result {
        for (at, from, len) in self.pieces(pos, bytes.len())? {
            // SAFETY: `pieces` stays within the data area on one side and `bytes.len()` on the
            // other. The copy is C's, so that racing with userspace or with another writer is
            // what it is in C: the bytes are unspecified, and nobody in the kernel reads them.
            unsafe {
                bindings::memcpy(at.as_ptr().cast(), bytes.as_ptr().add(from).cast(), len);
            }
        }
        Ok(())
    }

    /// Writes `len` bytes of a packet, from `offset` (from its data pointer) on, to the data area
    /// from position `pos` (modulo its length) on. Any context.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` if they are more than the area holds, `EFAULT` if the packet has less.
    pub(crate) fn write_skb(&self, pos: u64, skb: &Skb<'_>, offset: usize, len: usize) -> Result {
        let end = offset.checked_add(len).ok_or(EFAULT)?;
        c_int::try_from(end).map_err(|_| EFAULT)?;
        for (at, from, len) in self.pieces(pos, len)? {
            // SAFETY: The packet is valid, and the function checks against its length. `pieces`
            // stays within the data area; as for racing, see `write_at`.
            to_result(unsafe {
                bindings::skb_copy_bits(
                    skb.as_ptr(),
                    (offset + from) as c_int,
                    at.as_ptr().cast(),
                    len as c_int,
                )
            })?;
        }
        Ok(())
    }

    /// The one or two pieces of the data area that `len` bytes from `pos` on go to: where, from
    /// which byte on, how many.
    fn pieces(
        &self,
        pos: u64,
        len: usize,
    ) -> Result<impl Iterator<Item = (NonNull<u8>, usize, usize)>> {
        if len > self.data_len {
            return Err(EMSGSIZE);
        }
        let start = pos as usize & (self.data_len - 1);
        let first = len.min(self.data_len - start);
        // SAFETY: By the type invariant the data area begins one page into `kernel_side`.
        let data = unsafe { self.kernel_side.start.add(PAGE_SIZE) };
        // SAFETY: `start` is less than the length of the area.
        let at = unsafe { data.add(start) };
        let pieces = [(at, 0, first), (data, first, len - first)];
        Ok(pieces.into_iter().filter(|&(_, _, len)| len != 0))
    }

    /// Maps the consumer page, or the producer page and the data: see the picture above. To be
    /// called by [`mmap`](super::chardev::Device::mmap), which may sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the mapping is not exactly one of the two, and shared; `EPERM` if the second
    /// is to be writable or executable.
    pub(crate) fn mmap(&self, vma: &VmaNew) -> Result {
        vma.try_clear_mayexec().map_err(|_| EPERM)?;
        match page_offset(vma) {
            0 => self.user_side.map(vma),
            1 => {
                vma.try_clear_maywrite().map_err(|_| EPERM)?;
                self.kernel_side.map(vma)
            }
            _ => Err(EINVAL),
        }
    }
}

/// The offset in the file of a mapping that is being set up, in pages.
fn page_offset(vma: &VmaNew) -> usize {
    // SAFETY: The mapping is being set up, so nobody changes it meanwhile.
    unsafe { (*vma.as_ptr()).vm_pgoff }
}
