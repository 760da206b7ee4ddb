// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! One target for each thing that reads what others wrote.

mod config;
mod flow;
mod http;
mod link;
mod netlink;
mod packet;
mod peer;
mod record;
mod ring;
