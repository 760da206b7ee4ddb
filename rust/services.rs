// SPDX-License-Identifier: GPL-2.0

//! The services that a namespace protects, as every packet sees them.
//!
//! A table is never changed: a new one replaces it (RCU). There are few services, and a packet
//! that belongs to none must learn so at once.

use crate::hcore::flow::Policy;
use crate::hcore::plain::Name;
use crate::hcore::wire::Service;
use kernel::prelude::*;

/// Most services of one namespace.
pub(crate) const MAX: usize = 256;

/// A service and what is to be done to its flows.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) service: Service,
    /// Its `reader` is meaningless here: see [`crate::namespace::Namespace::env`].
    pub(crate) policy: Policy,
}

/// What a service has that says nothing else. The daemon says everything of each of its services; its
/// defaults (`config.rs`) are these but for `verdict_ms`, as it knows how long it may take after a
/// takeover. Why `hold_ms`: `Documentation/mechanisms/data-gate.md`.
pub(crate) const DEFAULT: Policy = Policy {
    protect: true,
    strict: true,
    hold_ms: 1000,
    verdict_ms: 5000,
    head_limit: 32 << 10,
    request_limit: 16 << 10,
    head_end: 0,
    body_whole: 0,
    body_part: 0,
    reader: false,
};

/// Words of the filter of ports.
const WORDS: usize = 16;

/// All services of a namespace.
pub(crate) struct Services {
    entries: KVec<Entry>,
    /// Bit `port % 1024` is set for each port of a service.
    ports: [u64; WORDS],
    /// Tells this table from those before and after it in its namespace.
    pub(crate) number: u64,
}

/// The word and the bit of `port` in a filter.
#[inline]
fn place(port: u16) -> (usize, u64) {
    let n = usize::from(port) % (WORDS * 64);
    (n / 64, 1 << (n % 64))
}

impl Services {
    /// No services.
    pub(crate) const fn none() -> Self {
        Self {
            entries: KVec::new(),
            ports: [0; WORDS],
            number: 0,
        }
    }

    /// The services in `entries`.
    pub(crate) fn new(entries: KVec<Entry>) -> Self {
        let mut ports = [0; WORDS];
        for entry in &entries {
            let (word, bit) = place(u16::from_be_bytes(entry.service.port));
            ports[word] |= bit;
        }
        Self {
            entries,
            ports,
            number: 0,
        }
    }

    /// Whether `port` (host byte order) may be that of a service: for most packets, all that has
    /// to be asked.
    #[inline]
    pub(crate) fn may_serve(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.ports[word] & bit != 0
    }

    /// Whether the flow of this name is one of a service.
    pub(crate) fn serve(&self, name: &Name) -> bool {
        self.entries.iter().any(|e| name.is_of(&e.service))
    }

    /// The policy of `service`, if it is one of them.
    #[inline]
    pub(crate) fn find(&self, service: &Service) -> Option<Policy> {
        self.entries
            .iter()
            .find(|e| e.service == *service)
            .map(|e| e.policy)
    }

    /// All of them, in the order of their arrival.
    pub(crate) fn iter(&self) -> core::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A copy, with room for one more.
    pub(crate) fn try_clone(&self) -> Result<KVec<Entry>> {
        let mut copy = KVec::with_capacity(self.entries.len() + 1, GFP_KERNEL)?;
        copy.extend_from_slice(&self.entries, GFP_KERNEL)?;
        Ok(copy)
    }
}
