// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The daemon that decides what the kernel module does: who lives, which records are kept
//! where, what may leave to a client, and how the flows of a dead node go on.

#![forbid(unsafe_code)]

pub mod config;
pub mod control;
pub mod daemon;
pub mod descriptors;
pub mod drain;
pub mod engine;
pub mod frame;
pub mod handover;
pub mod help;
pub mod kernel;
pub mod link;
pub mod locate;
pub mod membership;
pub mod metrics;
pub mod module;
pub mod mover;
pub mod neighbour;
pub mod next;
pub mod notify;
pub mod outbox;
pub mod presence;
pub mod process;
pub mod quorum;
pub mod ready;
pub mod relay;
pub mod reload;
pub mod rescue;
pub mod sample;
pub mod scrape;
pub mod seal;
pub mod store;
pub mod takeover;
pub mod tally;
pub mod terms;
pub mod timeline;
pub mod watch;
pub mod wire;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
