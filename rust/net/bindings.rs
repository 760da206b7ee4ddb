// SPDX-License-Identifier: GPL-2.0

//! What bindgen generated for us (`rust/bindgen_parameters` says what), on top of what the kernel
//! crate has already.
//!
//! A name that both have means ours here; the types that only the kernel crate has keep their
//! identity, so pointers pass between its wrappers and ours without a cast.

#![allow(
    clippy::all,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use kernel::ffi;

pub(super) use kernel::bindings::*;

include!(concat!(
    env!("HOLDFAST_OBJTREE"),
    "/rust/bindings_generated.rs"
));

// Sizes and offsets as gcc has them; see `rust/layout.c`.
include!(concat!(
    env!("HOLDFAST_OBJTREE"),
    "/rust/layout_generated.rs"
));
