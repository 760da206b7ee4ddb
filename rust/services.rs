// SPDX-License-Identifier: GPL-2.0

//! The services that a namespace protects, as every packet sees them.
//!
//! A table is never changed: a new one replaces it (RCU). There are few services, and a packet
//! that belongs to none must learn so at once.

use crate::hcore::flow::Policy;
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

/// What a service has that says nothing else. The daemon's configuration has the same defaults
/// (`Service` in its `config.rs`); why `hold_ms`: `Documentation/mechanisms/data-gate.md`.
pub(crate) const DEFAULT: Policy = Policy {
    protect: true,
    strict: true,
    hold_ms: 1000,
    verdict_ms: 5000,
    head_limit: 32 << 10,
    request_limit: 16 << 10,
    reader: false,
};

/// All services of a namespace.
pub(crate) struct Services(KVec<Entry>);

impl Services {
    /// No services.
    pub(crate) const fn none() -> Self {
        Self(KVec::new())
    }

    /// The services in `entries`.
    pub(crate) fn new(entries: KVec<Entry>) -> Self {
        Self(entries)
    }

    /// The policy of `service`, if it is one of them.
    #[inline]
    pub(crate) fn find(&self, service: &Service) -> Option<Policy> {
        self.0
            .iter()
            .find(|e| e.service == *service)
            .map(|e| e.policy)
    }

    /// All of them, in the order of their arrival.
    pub(crate) fn iter(&self) -> core::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A copy, with room for one more.
    pub(crate) fn try_clone(&self) -> Result<KVec<Entry>> {
        let mut copy = KVec::with_capacity(self.0.len() + 1, GFP_KERNEL)?;
        copy.extend_from_slice(&self.0, GFP_KERNEL)?;
        Ok(copy)
    }
}
