// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What requests and replies of the kernel module are made of.
//!
//! Positions are 64-bit counts in client space (see `Documentation/netlink/specs/holdfast.yaml`);
//! sequence numbers and timestamps are in client space and host order.

mod flow;
mod key;
mod options;
mod request;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::attr::{need, Attrs, Writer};
use crate::error::{Error, Result};
use crate::uapi_gen as nl;
pub use crate::uapi_gen::{Commit, Event, Mode, Phase, Verdict};

pub use flow::FlowInfo;
pub(crate) use key::put_key;
pub use key::FlowKey;
pub use options::{FlowDesc, TcpOptions};
pub use request::{Claim, ClientClock, Join, Locate, Recover, Release, Splice};
pub(crate) use service::{put_service, read_service};
pub use service::{Excerpt, ServiceConfig, ServiceInfo};

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// Its name.
    pub name: String,
    /// What it has counted.
    pub value: u64,
}

impl Stat {
    pub(crate) fn read(attrs: &Attrs<'_>) -> Result<Self> {
        Ok(Stat {
            name: need(attrs.string(nl::A_STAT_NAME)?, "a counter's name")?,
            value: need(attrs.u64(nl::A_STAT_VALUE)?, "a counter's value")?,
        })
    }
}

fn put_some<T>(w: &mut Writer, put: fn(&mut Writer, u16, T), kind: u16, value: Option<T>) {
    if let Some(value) = value {
        put(w, kind, value);
    }
}

fn known<T>(what: &str, raw: u32, from_raw: fn(u32) -> Option<T>) -> Result<T> {
    from_raw(raw).ok_or_else(|| Error::Malformed(format!("{what} {raw} is not known here")))
}

macro_rules! named {
    ($($kind:ty)+) => {
        $(
            impl fmt::Display for $kind {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(self.name())
                }
            }

            impl Serialize for $kind {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(self.name())
                }
            }
        )+
    };
}

named!(Mode Commit Phase Verdict Event);
