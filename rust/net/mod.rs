// SPDX-License-Identifier: GPL-2.0

//! Safe Rust over the parts of Linux networking that Holdfast stands on.
//!
//! This folder is the only one with `unsafe` code in it.

#![allow(unsafe_code)]

mod bindings;
pub(crate) mod chardev;
pub(crate) mod counters;
pub(crate) mod device;
pub(crate) mod errno;
pub(crate) mod genl;
pub(crate) mod held;
pub(crate) mod hook;
pub(crate) mod list;
pub(crate) mod lock;
pub(crate) mod lookup;
pub(crate) mod module;
pub(crate) mod output;
pub(crate) mod pernet;
pub(crate) mod random;
pub(crate) mod rcu;
pub(crate) mod rhashtable;
pub(crate) mod ringmem;
mod series;
pub(crate) mod skbuff;
pub(crate) mod slab;
pub(crate) mod time;
pub(crate) mod timer;
pub(crate) mod wait;
pub(crate) mod work;
