// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Userspace's side of Holdfast.
//!
//! Towards the kernel module: [`client`] asks (generic netlink), [`monitor`] hears what
//! happens, [`ring`] reads the log. Policy, which knows nothing of the kernel: [`http`]
//! understands requests and responses, [`tracker`] makes a [`record`] of a flow from its log,
//! and [`recovery`] says from a record how another server goes on.

mod attr;
pub mod client;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod monitor;
mod netlink;
pub mod record;
pub mod recovery;
pub mod ring;
pub mod stream;
pub mod tracker;
pub mod types;
pub mod uapi_gen;

pub use client::Client;
pub use error::{Error, Result};
pub use monitor::Monitor;
pub use ring::Ring;
