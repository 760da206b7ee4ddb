// SPDX-License-Identifier: GPL-2.0

//! The pure heart of Holdfast.
//!
//! Nothing here knows the kernel, allocates or is unsafe. The module mounts this folder as
//! `hcore`; on the host it is the `no_std` crate `holdfast-core`, where unit tests, property
//! tests and the simulator meet it. Functions that decide return what is to be done; the
//! caller does it.

#![cfg_attr(all(holdfast_host, not(test)), no_std)]
#![cfg_attr(holdfast_host, forbid(unsafe_code))]

pub mod brief;
pub mod client;
#[cfg(holdfast_host)]
pub mod compared;
pub mod counter;
pub mod csum;
pub mod effects;
pub mod excerpt;
pub mod express;
pub mod flow;
pub mod gate;
pub mod ghost;
pub mod icmp;
pub mod join;
pub mod locate;
pub mod lost;
pub mod opening;
pub mod options;
pub mod packet;
pub mod plain;
pub mod rescue;
pub mod ring;
pub mod segment;
pub mod seq;
pub mod served;
mod shadow;
pub mod splice;
pub mod wire;

#[cfg(test)]
mod tests;
