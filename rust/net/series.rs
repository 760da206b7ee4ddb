// SPDX-License-Identifier: GPL-2.0

//! What differs between the kernel series that this module is built for. Nothing else asks which
//! one it is; a new difference gets a function here, with one body for each side.
//!
//! `holdfast_since_X_Y` are set by Kbuild. `scripts/versions` lists the series.
//!
//! | since | what |
//! | --- | --- |
//! | 7.3 | `THIS_MODULE` is an associated constant of the module's type, no longer a static |
//! | 7.3 | `PinInit` and `Init` have one function, `__init` |
//! | 7.3 | `ModuleParamAccess::value()` returns the value, no longer a reference to it |

use kernel::{bindings, prelude::*};

/// The `struct module` of this module, `THIS_MODULE` in C.
#[cfg(holdfast_since_7_3)]
pub(super) const fn this_module() -> *mut bindings::module {
    kernel::module::this_module::<crate::LocalModule>().as_ptr()
}

/// The `struct module` of this module, `THIS_MODULE` in C.
#[cfg(not(holdfast_since_7_3))]
pub(super) const fn this_module() -> *mut bindings::module {
    crate::THIS_MODULE.as_ptr()
}

/// Makes a value in `slot`.
///
/// # Safety
///
/// `slot` must be room for one that is not there yet, and from where it is never moved. On an error
/// there is none.
#[cfg(holdfast_since_7_3)]
pub(super) unsafe fn init_in<T, E>(slot: *mut T, init: impl PinInit<T, E>) -> Result<(), E> {
    // SAFETY: By the contract of this function.
    unsafe { init.__init(slot) }
}

/// Makes a value in `slot`.
///
/// # Safety
///
/// `slot` must be room for one that is not there yet, and from where it is never moved. On an error
/// there is none.
#[cfg(not(holdfast_since_7_3))]
pub(super) unsafe fn init_in<T, E>(slot: *mut T, init: impl PinInit<T, E>) -> Result<(), E> {
    // SAFETY: By the contract of this function.
    unsafe { init.__pinned_init(slot) }
}

/// What the `value()` of a module parameter has returned.
#[cfg(holdfast_since_7_3)]
pub(super) const fn parameter(value: u32) -> u32 {
    value
}

/// What the `value()` of a module parameter has returned.
#[cfg(not(holdfast_since_7_3))]
pub(super) const fn parameter(value: &u32) -> u32 {
    *value
}
