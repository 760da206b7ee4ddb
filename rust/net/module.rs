// SPDX-License-Identifier: GPL-2.0

//! References to our own module: while one is held, `rmmod` says that the module is in use.

use super::{bindings, series};

/// A reference to this module.
///
/// What would break if the module went (a translated flow, a ghost) owns one.
pub(crate) struct ModuleRef(());

impl ModuleRef {
    /// Takes a reference, unless the module is being removed.
    ///
    /// Any context, as long as the code that calls this is itself kept from being unloaded (a
    /// hook that is registered, an open file, a netlink request): see `try_module_get()`.
    pub(crate) fn try_get() -> Option<Self> {
        // SAFETY: `THIS_MODULE` is the module that this code is part of, so its `struct module`
        // exists for as long as this code can run.
        unsafe { bindings::hf_try_module_get(series::this_module()) }.then_some(Self(()))
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: `self` owns one reference, taken in `try_get`.
        unsafe { bindings::hf_module_put(series::this_module()) }
    }
}
