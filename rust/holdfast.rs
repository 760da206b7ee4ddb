// SPDX-License-Identifier: GPL-2.0

//! Holdfast: TCP connections that outlive their server.
//!
//! Where to look:
//!
//! * [`hcore`]: what is decided about packets, without a kernel;
//! * [`net`]: safe Rust over the parts of Linux that the rest stands on;
//! * [`path`]: the way of a packet; [`act`]: doing what was decided;
//! * [`flows`], [`services`], [`namespace`], [`tenant`]: state, from the smallest to the largest;
//! * [`log`]: what the daemon hears; [`control`]: what it says.

#![deny(unsafe_code)]

use kernel::{c_str, prelude::*};

mod act;
mod control;
mod express;
mod flows;
// A public crate on the host, where the tools use more of it.
#[allow(dead_code, unreachable_pub)]
#[path = "core/mod.rs"]
mod hcore;
mod log;
mod namespace;
// A library, from which this module takes what it needs.
#[allow(dead_code, unused_imports)]
mod net;
mod netlink_gen;
mod path;
mod services;
mod tenant;

module! {
    type: Holdfast,
    name: "holdfast",
    authors: ["The Holdfast authors"],
    description: "TCP connections that outlive their server",
    license: "GPL",
    params: {
        max_flows: u32 {
            default: 1048576,
            description: "Most connections that are known in a network namespace, 1 to 2^30; those beyond are not protected",
        },
    },
}

/// The loaded module. Its parts are dropped in the order of the fields: first what userspace can
/// call, then the namespaces, then what waits for RCU callbacks of ours, and last the room of the
/// flows that those drop.
#[pin_data]
struct Holdfast {
    #[pin]
    _device: net::chardev::Registration<log::LogDevice>,
    _family: net::genl::Registration,
    _devices: Pin<KBox<net::device::Notifier<tenant::Devices>>>,
    _namespaces: net::pernet::Registration<tenant::Tenant>,
    _callbacks: net::rcu::Barrier,
    _flows: net::slab::Registration<flows::Entry>,
}

impl kernel::InPlaceModule for Holdfast {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let fits = net::module::fits_kernel();
        try_pin_init!(Self {
            // First, and before anything of the kernel's is touched.
            _flows: fits.and_then(|()| flows::FLOWS.register(c_str!("holdfast_flow")))?,
            _callbacks: net::rcu::Barrier,
            _namespaces: <tenant::Tenant as net::pernet::PerNet>::slot().register()?,
            _devices: net::device::Notifier::new(tenant::Devices)?,
            _family: control::FAMILY.register()?,
            _device <- net::chardev::Registration::new(),
        })
    }
}
