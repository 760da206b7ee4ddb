// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The netlink parsers for those who give them bad input (`userspace-tools/fuzz`): what the kernel
//! answers is otherwise read only together with the socket that it came from.

use crate::attr::Attrs;
use crate::error::{Error, Refusal};
use crate::monitor;
use crate::netlink::{self, Exchange};
use crate::types::{FlowInfo, ServiceInfo, Stat};
use crate::uapi_gen as nl;

/// What was made of an answer.
#[derive(Debug, Default)]
pub struct Read {
    /// Replies.
    pub messages: usize,
    /// Replies that were understood, as something.
    pub understood: usize,
    /// The answer was complete.
    pub done: bool,
    /// The kernel said no.
    pub refusal: Option<Refusal>,
}

/// Reads datagrams as the answer to `request`, a `flow-commit` of this number, and each reply as
/// anything that it could be.
pub fn answer(request: &[u8], sequence: u32, datagrams: &[&[u8]]) -> Read {
    let mut exchange = Exchange::new("flow-commit", &nl::BATCH_ATTRS, request, sequence);
    let mut read = Read::default();
    for datagram in datagrams {
        match exchange.feed(datagram) {
            Ok(()) => {}
            Err(Error::Refused(refusal)) => read.refusal = Some(refusal),
            Err(_) => break,
        }
    }
    (read.messages, read.done) = (exchange.replies.messages.len(), exchange.done);
    for message in &exchange.replies.messages {
        let known = [
            netlink::family(message).is_ok(),
            monitor::read(message).is_ok(),
            Attrs::of_message(message).is_ok_and(|a| {
                FlowInfo::read(&a).is_ok() | ServiceInfo::read(&a).is_ok() | Stat::read(&a).is_ok()
            }),
        ];
        read.understood += usize::from(known.contains(&true));
    }
    read
}
