// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The name of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use holdfast_core::wire::{Endpoint, Key};
use serde::{Deserialize, Serialize};

use crate::attr::Writer;
use crate::error::{Error, Result};
use crate::uapi_gen as nl;

/// The 4-tuple of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowKey {
    /// Address and port of the client.
    pub client: SocketAddr,
    /// Address and port of the service, of the same family.
    pub service: SocketAddr,
}

impl FlowKey {
    /// The key as the module writes it into its log. `None`: the families differ.
    pub fn to_bytes(&self) -> Option<[u8; 40]> {
        let family = match (self.client, self.service) {
            (SocketAddr::V4(_), SocketAddr::V4(_)) => 4,
            (SocketAddr::V6(_), SocketAddr::V6(_)) => 6,
            _ => return None,
        };
        Some(Key::new(family, endpoint(self.client), endpoint(self.service)).to_bytes())
    }

    /// The key of these bytes. `None`: they are none.
    pub fn from_bytes(bytes: &[u8; 40]) -> Option<Self> {
        let key = Key::from_bytes(bytes)?;
        let socket = |end: Endpoint| {
            let [a, b, c, d, ..] = end.addr;
            let ip = match key.family {
                4 => IpAddr::from([a, b, c, d]),
                _ => IpAddr::from(end.addr),
            };
            SocketAddr::new(ip, u16::from_be_bytes(end.port))
        };
        Some(FlowKey {
            client: socket(key.client()),
            service: socket(key.server()),
        })
    }

    /// Fails unless client and service are of one family.
    pub(crate) fn check(&self) -> Result<()> {
        if self.client.is_ipv4() == self.service.is_ipv4() {
            Ok(())
        } else {
            Err(Error::MixedFamilies)
        }
    }

    pub(super) fn put(&self, w: &mut Writer) {
        w.socket(nl::A_FLOW_CLIENT_ADDR, nl::A_FLOW_CLIENT_PORT, self.client);
        w.socket(
            nl::A_FLOW_SERVICE_ADDR,
            nl::A_FLOW_SERVICE_PORT,
            self.service,
        );
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.client, self.service)
    }
}

fn endpoint(socket: SocketAddr) -> Endpoint {
    let mut addr = [0; 16];
    match socket.ip() {
        IpAddr::V4(ip) => addr[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => addr = ip.octets(),
    }
    Endpoint {
        addr,
        port: socket.port().to_be_bytes(),
    }
}

pub(crate) fn put_key(w: &mut Writer, key: &FlowKey) {
    key.put(w);
}
