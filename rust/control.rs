// SPDX-License-Identifier: GPL-2.0

//! What userspace says: the generic netlink family of
//! `Documentation/netlink/specs/holdfast.yaml`.
//!
//! [`service`] and [`flow`] have the operations on each; here is what both share.

mod flow;
mod notice;
mod service;
mod stats;

pub(crate) use notice::Notice;

use crate::hcore::wire::{Endpoint, Key, Service};
use crate::net::genl::{Attrs, Family, Group, Info, Op};
use crate::net::pernet::PerNet;
use crate::netlink_gen as nl;
use crate::tenant::Tenant;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Ascending by command; a `do` before its `dump`.
static OPS: [Op; 14] = [
    Op::new_do::<service::Get>(),
    Op::new_dump::<service::GetAll>(),
    Op::new_do::<service::Add>(),
    Op::new_do::<service::Del>(),
    Op::new_do::<flow::Get>(),
    Op::new_dump::<flow::GetAll>(),
    Op::new_do::<flow::Commit>(),
    Op::new_do::<flow::Locate>(),
    Op::new_do::<flow::Recover>(),
    Op::new_do::<flow::Join>(),
    Op::new_do::<flow::End>(),
    Op::new_do::<flow::SpliceAdd>(),
    Op::new_do::<flow::SpliceDel>(),
    Op::new_dump::<stats::GetAll>(),
];

static GROUPS: [Group; 1] = [Group::admin(nl::MCGRP_EVENTS)];

/// Number of the only multicast group.
const EVENTS: usize = 0;

/// The family.
pub(crate) static FAMILY: Family = Family::new(nl::FAMILY_NAME, nl::FAMILY_VERSION, &OPS, &GROUPS);

/// The state of the requester's namespace.
fn tenant(info: &Info<'_>) -> Result<Arc<Tenant>> {
    Tenant::slot().get(info.net()).ok_or(ENODEV)
}

/// Reads an address of either family: 16 bytes as in [`Key`], and 4 or 6.
fn address(attrs: &Attrs<'_>, number: u16) -> Result<([u8; 16], u8)> {
    let bytes = attrs.need_bytes(number)?;
    let mut addr = [0; 16];
    let family = match bytes.len() {
        4 => 4,
        16 => 6,
        _ => return Err(attrs.error(number, c"an address has 4 or 16 bytes", EINVAL)),
    };
    addr[..bytes.len()].copy_from_slice(bytes);
    Ok((addr, family))
}

fn service_of(attrs: &Attrs<'_>) -> Result<Service> {
    let (addr, family) = address(attrs, nl::A_SERVICE_ADDR)?;
    let port = attrs.need_be16(nl::A_SERVICE_PORT)?;
    if port == 0 {
        return Err(attrs.error(nl::A_SERVICE_PORT, c"a service has a port", EINVAL));
    }
    Ok(Service {
        addr,
        port: port.to_be_bytes(),
        family,
        pad: 0,
    })
}

/// The numbers of the attributes that name a flow.
struct KeyAttrs {
    caddr: u16,
    cport: u16,
    saddr: u16,
    sport: u16,
}

impl KeyAttrs {
    fn read(&self, attrs: &Attrs<'_>) -> Result<Key> {
        let (caddr, family) = address(attrs, self.caddr)?;
        let (saddr, other) = address(attrs, self.saddr)?;
        if family != other {
            return Err(attrs.error(self.saddr, c"client and service differ in family", EINVAL));
        }
        let end = |addr, port: u16| Endpoint {
            addr,
            port: port.to_be_bytes(),
        };
        Ok(Key::new(
            family,
            end(caddr, attrs.need_be16(self.cport)?),
            end(saddr, attrs.need_be16(self.sport)?),
        ))
    }
}

/// The bytes of an address as they are said.
fn addr_bytes(addr: &[u8; 16], family: u8) -> &[u8] {
    &addr[..if family == 4 { 4 } else { 16 }]
}
