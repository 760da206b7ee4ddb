// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The subcommands.

pub(crate) mod bugreport;
pub(crate) mod drain;
pub(crate) mod flow;
pub(crate) mod log;
pub(crate) mod monitor;
pub(crate) mod recover;
pub(crate) mod reload;
pub(crate) mod service;
pub(crate) mod splice;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod top;
