// SPDX-License-Identifier: GPL-2.0

//! Our own module: its parameter, whether it is for this kernel, and references to it: while one is held,
//! `rmmod` says that the module is in use.

use core::ffi::CStr;

use kernel::prelude::*;

use super::{bindings, series};

/// Most flows of one namespace: the parameter `max_flows`.
pub(crate) fn max_flows() -> u32 {
    series::parameter(crate::module_parameters::max_flows.value())
}

/// Refuses a kernel of the right release that is another build of it than this module was made for.
///
/// A distribution may build a release again, from a source whose structures differ. The release is
/// all that the kernel compares when it has no `CONFIG_MODVERSIONS`; `uname -v` tells builds apart.
/// A module that was not told what it is for is taken anywhere.
///
/// # Errors
///
/// `ENOEXEC`, as for another release. The kernel's log has both builds.
pub(crate) fn fits_kernel() -> Result {
    // SAFETY: both are strings that end in NUL and stay as they are: a constant of this module, and
    // one that the kernel was linked with and nothing writes to.
    let (wanted, found) = unsafe {
        (
            CStr::from_char_ptr(bindings::hf_built_for().cast()),
            CStr::from_char_ptr(bindings::hf_kernel_build().cast()),
        )
    };
    if wanted.is_empty() || wanted == found {
        return Ok(());
    }
    let text = |build: &'static CStr| build.to_str().unwrap_or("?");
    let (wanted, found) = (text(wanted), text(found));
    pr_err!("made for the kernel's build \"{wanted}\", and this is \"{found}\"\n");
    Err(ENOEXEC)
}

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
