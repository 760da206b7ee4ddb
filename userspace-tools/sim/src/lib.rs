// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Connections whose servers die, thousands of them, in virtual time.
//!
//! Each case follows from its seed: a strict TCP client ([`tcp`]) downloads objects from
//! servers ([`app`]) through a lossy network ([`world`]). The machines ([`node`]) run the flow
//! state machine of the kernel module, their daemons ([`policy`]) the rules of the library. A
//! [`referee`] looks at every packet.

pub mod app;
pub mod node;
pub mod packet;
pub mod policy;
pub mod referee;
pub mod rng;
pub mod scenario;
pub mod tcp;
pub mod world;
