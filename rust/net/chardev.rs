// SPDX-License-Identifier: GPL-2.0

//! A misc character device with `poll()`.
//!
//! `kernel::miscdevice` has none, and leaves the owner of its file operations unset, so that the
//! module could be removed under an open file. Here the owner is this module; and since a mapping
//! holds the file, mappings pin the module as well.

use super::{
    bindings,
    pernet::Net,
    series,
    wait::{Events, Waker},
};
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    ffi::{c_int, c_long, c_uint, c_ulong, c_void},
    mm::virt::VmaNew,
    prelude::*,
    sync::{Arc, ArcBorrow},
    types::{ForeignOwnable, Opaque},
};

/// A kind of character device. All functions are called in process context and may sleep.
pub(crate) trait Device: 'static {
    /// What belongs to one open file.
    type File: Send + Sync + 'static;

    /// The name below `/dev`.
    const NAME: &'static CStr;

    /// Somebody opens the device. They have `CAP_NET_ADMIN` in the user namespace that owns their
    /// network namespace: this has been checked, and they get `EPERM` without.
    fn open(opener: &Opener<'_>) -> Result<Arc<Self::File>>;

    /// The last user of the file is gone: no descriptor and no mapping is left.
    ///
    /// Others may still have references to the object, so what is to end now must be ended here.
    fn release(file: Arc<Self::File>) {
        drop(file);
    }

    /// What wakes those who wait for the file.
    fn waker(file: &Self::File) -> &Waker;

    /// What the file is ready for at the moment.
    fn ready(file: &Self::File) -> Events;

    /// Maps something into the caller's address space.
    fn mmap(file: ArcBorrow<'_, Self::File>, vma: &VmaNew) -> Result;

    /// An `ioctl()`; by default there is none.
    fn ioctl(_file: ArcBorrow<'_, Self::File>, _cmd: u32, _arg: usize) -> Result<isize> {
        Err(ENOTTY)
    }
}

/// Who opens the device.
pub(crate) struct Opener<'a> {
    net: &'a Net,
}

impl Opener<'_> {
    /// The network namespace of the task that opens the device.
    ///
    /// It lives for as long as the call; the file may live longer.
    pub(crate) fn net(&self) -> &Net {
        self.net
    }
}

/// A registered device; dropping it takes the device away. Register it as the last thing in the
/// module's `init`: the kernel does not wait for open files when `init` fails.
///
/// # Invariants
///
/// `misc` is registered.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<D: Device> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    _device: PhantomData<D>,
}

// SAFETY: `misc_deregister()` may be called on any thread.
unsafe impl<D: Device> Send for Registration<D> {}
// SAFETY: There is nothing to do with a shared reference.
unsafe impl<D: Device> Sync for Registration<D> {}

impl<D: Device> Registration<D> {
    /// Registers the device. May sleep.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        // INVARIANT: If it is initialised, it is registered.
        try_pin_init!(Self {
            misc <- Opaque::try_ffi_init(|slot: *mut bindings::miscdevice| {
                let misc = bindings::miscdevice {
                    minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                    name: D::NAME.as_char_ptr(),
                    fops: Operations::<D>::TABLE,
                    ..pin_init::zeroed()
                };
                // SAFETY: The slot may be written.
                unsafe { slot.write(misc) };
                // SAFETY: The slot holds a device, pinned as part of `Self`, whose `drop` takes it
                // out again.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
            _device: PhantomData,
        })
    }
}

#[pinned_drop]
impl<D: Device> PinnedDrop for Registration<D> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}

/// The file operations of a device.
struct Operations<D>(PhantomData<D>);

impl<D: Device> Operations<D> {
    const TABLE: &'static bindings::file_operations = &bindings::file_operations {
        owner: series::this_module(),
        open: Some(Self::open),
        release: Some(Self::release),
        poll: Some(Self::poll),
        mmap: Some(Self::mmap),
        unlocked_ioctl: Some(Self::ioctl),
        compat_ioctl: bindings::compat_ptr_ioctl,
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` must be one of this device, opened, and not be released during `'a`.
    unsafe fn file<'a>(file: *mut bindings::file) -> ArcBorrow<'a, D::File> {
        // SAFETY: By the contract of this function, `open` stored the `Arc` there.
        unsafe { Arc::<D::File>::borrow((*file).private_data) }
    }

    /// # Safety
    ///
    /// To be called by the VFS for a file that is being opened, in the task that opens it.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: In process context `current` has a network namespace, and keeps it during a
        // system call: only the task itself changes it.
        let net = unsafe { Net::from_raw(bindings::hf_current_net()) };
        // SAFETY: `net` is valid.
        if !unsafe { bindings::hf_net_capable(net.as_ptr(), bindings::CAP_NET_ADMIN as c_int) } {
            return EPERM.to_errno();
        }
        match D::open(&Opener { net }) {
            Ok(opened) => {
                // SAFETY: The file is being opened, so its private data is ours to set.
                unsafe { (*file).private_data = opened.into_foreign() };
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// To be called by the VFS for the last reference to an open file.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` stored the `Arc` there, and nobody uses the file any more.
        D::release(unsafe { Arc::from_foreign((*file).private_data) });
        0
    }

    /// # Safety
    ///
    /// To be called by the VFS for an open file; `table` must be null or valid.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: By the contract of this function. We have an `Arc` of it until the file is
        // released, so this is even valid until then.
        let opened = unsafe { Self::file(file) };
        let waker = D::waker(&opened);
        // SAFETY: `file` and `table` are valid. The waiter stays in the queue after this function
        // returns, but not after the file is released: poll, epoll and io_uring hold the file or
        // remove themselves before. And the waker lives as long, being borrowed from the object.
        unsafe { bindings::poll_wait(file, waker.as_ptr(), table) };
        D::ready(&opened).bits()
    }

    /// # Safety
    ///
    /// To be called by the VFS for an open file and a mapping that is being set up.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: By the contract of this function.
        let (opened, vma) = unsafe { (Self::file(file), VmaNew::from_raw(vma)) };
        match D::mmap(opened, vma) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// To be called by the VFS for an open file.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: By the contract of this function.
        match D::ioctl(unsafe { Self::file(file) }, cmd, arg) {
            Ok(value) => value,
            Err(e) => e.to_errno() as c_long,
        }
    }

    // `c_void` is what `private_data` points to; an `Arc` is stored there as it is.
    const _FOREIGN: fn(Arc<D::File>) -> *mut c_void = ForeignOwnable::into_foreign;
}
