// SPDX-License-Identifier: GPL-2.0

//! News of network devices that go, for whoever holds packets that pin them.

use super::{bindings, pernet::Net};
use core::pin::Pin;
use kernel::{
    container_of,
    error::to_result,
    ffi::{c_int, c_ulong, c_void},
    prelude::*,
    types::Opaque,
};

/// Wants to know of devices that go.
pub(crate) trait Watcher: Send + Sync + 'static {
    /// A device of `net` goes down or away: let go of all that holds it. Process context, under
    /// RTNL; may sleep. May come twice for one device (down, then unregistered).
    fn device_gone(&self, net: &Net, ifindex: u32);
}

/// A watcher, registered while this lives: in all namespaces. To make and to drop it may sleep.
///
/// # Invariants
///
/// `block` is in the notifier chain, and stays where it is.
#[pin_data(PinnedDrop)]
pub(crate) struct Notifier<T: Watcher> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    watcher: T,
}

// SAFETY: Registration and its end may happen in different threads; `T` may be sent.
unsafe impl<T: Watcher> Send for Notifier<T> {}
// SAFETY: `&Notifier` gives `&T` at most, which is `Sync`.
unsafe impl<T: Watcher> Sync for Notifier<T> {}

impl<T: Watcher> Notifier<T> {
    /// Registers `watcher`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and what the notifier chain says.
    pub(crate) fn new(watcher: T) -> Result<Pin<KBox<Self>>> {
        KBox::try_pin_init(
            try_pin_init!(Self {
                watcher,
                block <- Opaque::try_ffi_init(|block: *mut bindings::notifier_block| {
                    // SAFETY: `block` is valid for writes, and pinned: it stays registered until
                    // it is dropped. The watcher beside it is initialised already.
                    unsafe {
                        block.write(bindings::notifier_block {
                            notifier_call: Some(notify::<T>),
                            ..Default::default()
                        });
                        to_result(bindings::register_netdevice_notifier(block))
                    }
                }),
            }? Error),
            GFP_KERNEL,
        )
    }
}

#[pinned_drop]
impl<T: Watcher> PinnedDrop for Notifier<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant. This waits for calls under way, and first replays the
        // removal of all devices that there are, which does no harm.
        unsafe { bindings::unregister_netdevice_notifier(self.block.get()) };
    }
}

/// # Safety
///
/// Only for the notifier chain, with a block that is in a `Notifier<T>`.
unsafe extern "C" fn notify<T: Watcher>(
    block: *mut bindings::notifier_block,
    event: c_ulong,
    info: *mut c_void,
) -> c_int {
    if event == bindings::netdev_cmd_NETDEV_GOING_DOWN as c_ulong
        || event == bindings::netdev_cmd_NETDEV_UNREGISTER as c_ulong
    {
        // SAFETY: The block is in a registered `Notifier<T>`; the device is valid during the
        // call, and so is its namespace, which it cannot survive.
        unsafe {
            let block = Opaque::cast_from(block);
            let notifier: *const Notifier<T> = container_of!(block, Notifier<T>, block);
            let dev = bindings::hf_netdev_notifier_info_to_dev(info);
            (*notifier).watcher.device_gone(
                Net::from_raw(bindings::hf_dev_net(dev)),
                bindings::hf_dev_ifindex(dev) as u32,
            );
        }
    }
    bindings::NOTIFY_DONE as c_int
}
