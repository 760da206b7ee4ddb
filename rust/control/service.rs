// SPDX-License-Identifier: GPL-2.0

//! Services: which (address, port) is protected, and how.

use super::{addr_bytes, service_of, tenant, EVENTS, FAMILY};
use crate::hcore::flow::Policy as FlowPolicy;
use crate::net::genl::{AttrWriter, Attrs, Do, Dump, Dumper, Gfp, Info, Message, Policy};
use crate::netlink_gen as nl;
use crate::services::{Entry, Services, DEFAULT, MAX};
use kernel::prelude::*;

fn write(out: &mut AttrWriter<'_>, entry: &Entry, flows: u32) -> Result {
    let p = &entry.policy;
    write_name(out, entry)?;
    let mode = if p.protect {
        nl::MODE_PROTECT
    } else {
        nl::MODE_OBSERVE
    };
    let commit = if p.strict {
        nl::COMMIT_STRICT
    } else {
        nl::COMMIT_EAGER
    };
    out.put_u32(nl::A_SERVICE_MODE, mode)?;
    out.put_u32(nl::A_SERVICE_COMMIT, commit)?;
    out.put_u32(nl::A_SERVICE_HOLD_MS, p.hold_ms)?;
    out.put_u32(nl::A_SERVICE_VERDICT_MS, p.verdict_ms)?;
    out.put_u32(nl::A_SERVICE_HEAD_LIMIT, p.head_limit)?;
    out.put_u32(nl::A_SERVICE_REQUEST_LIMIT, p.request_limit)?;
    out.put_u32(nl::A_SERVICE_FLOWS, flows)?;
    out.put_u32(nl::A_SERVICE_HEAD_END, p.head_end)?;
    out.put_u32(nl::A_SERVICE_BODY_WHOLE, p.body_whole)?;
    out.put_u32(nl::A_SERVICE_BODY_PART, p.body_part)
}

fn write_name(out: &mut AttrWriter<'_>, entry: &Entry) -> Result {
    let s = &entry.service;
    out.put(nl::A_SERVICE_ADDR, addr_bytes(&s.addr, s.family))?;
    out.put_be16(nl::A_SERVICE_PORT, u16::from_be_bytes(s.port))
}

/// The policy that the request asks for, from `policy` on.
fn read_policy(attrs: &Attrs<'_>, mut policy: FlowPolicy) -> Result<FlowPolicy> {
    match attrs.u32(nl::A_SERVICE_MODE) {
        None => {}
        Some(nl::MODE_OBSERVE) => policy.protect = false,
        Some(nl::MODE_PROTECT) => policy.protect = true,
        Some(_) => return Err(attrs.error(nl::A_SERVICE_MODE, c"there is no such mode", EINVAL)),
    }
    match attrs.u32(nl::A_SERVICE_COMMIT) {
        None => {}
        Some(nl::COMMIT_EAGER) => policy.strict = false,
        Some(nl::COMMIT_STRICT) => policy.strict = true,
        Some(_) => {
            return Err(attrs.error(
                nl::A_SERVICE_COMMIT,
                c"it is either eager or strict",
                EINVAL,
            ))
        }
    }
    let set = |number, field: &mut u32| {
        if let Some(value) = attrs.u32(number) {
            *field = value;
        }
    };
    set(nl::A_SERVICE_HOLD_MS, &mut policy.hold_ms);
    set(nl::A_SERVICE_VERDICT_MS, &mut policy.verdict_ms);
    set(nl::A_SERVICE_HEAD_LIMIT, &mut policy.head_limit);
    set(nl::A_SERVICE_REQUEST_LIMIT, &mut policy.request_limit);
    set(nl::A_SERVICE_HEAD_END, &mut policy.head_end);
    set(nl::A_SERVICE_BODY_WHOLE, &mut policy.body_whole);
    set(nl::A_SERVICE_BODY_PART, &mut policy.body_part);
    for (number, value) in [
        (nl::A_SERVICE_HOLD_MS, policy.hold_ms),
        (nl::A_SERVICE_VERDICT_MS, policy.verdict_ms),
    ] {
        if value == 0 {
            return Err(attrs.error(
                number,
                c"no time at all: set the mode or commit instead",
                EINVAL,
            ));
        }
    }
    Ok(policy)
}

/// `service-get` of one.
pub(super) struct Get;

impl Do for Get {
    const CMD: u8 = nl::CMD_SERVICE_GET;
    const POLICY: &'static [Policy] = &nl::SERVICE_GET_DO_POLICY;
    const ADMIN: bool = true;

    fn handle(info: &Info<'_>) -> Result {
        let tenant = tenant(info)?;
        let service = service_of(info)?;
        let find = |all: &Services| {
            all.iter()
                .find(|e| e.service == service)
                .copied()
                .ok_or(ENOENT)
        };
        let entry = tenant
            .namespace()
            .with_services(find)
            .map_err(|e| info.error(nl::A_SERVICE_ADDR, c"this service is not protected", e))?;
        let mut reply = Message::reply(info, Self::CMD)?;
        write(&mut reply, &entry, tenant.namespace().flows_of(&service))?;
        reply.send(info)
    }
}

/// `service-get` of all.
pub(super) struct GetAll;

impl Dump for GetAll {
    const CMD: u8 = nl::CMD_SERVICE_GET;
    const POLICY: &'static [Policy] = &nl::SERVICE_GET_DUMP_POLICY;
    const ADMIN: bool = true;

    /// How many were written.
    type Cursor = usize;

    fn start(_info: &Info<'_>) -> Result<usize> {
        Ok(0)
    }

    fn dump(cursor: &mut usize, info: &Info<'_>, out: &mut Dumper<'_>) -> Result {
        let tenant = tenant(info)?;
        let namespace = tenant.namespace();
        namespace.with_services(|all| {
            for entry in all.iter().skip(*cursor) {
                let flows = namespace.flows_of(&entry.service);
                out.entry(Self::CMD, |w| write(w, entry, flows))?;
                *cursor += 1;
            }
            Ok(())
        })
    }
}

/// `service-add`.
pub(super) struct Add;

impl Do for Add {
    const CMD: u8 = nl::CMD_SERVICE_ADD;
    const POLICY: &'static [Policy] = &nl::SERVICE_ADD_DO_POLICY;
    const ADMIN: bool = true;

    fn handle(info: &Info<'_>) -> Result {
        let tenant = tenant(info)?;
        let service = service_of(info)?;
        let mut now = Entry {
            service,
            policy: DEFAULT,
        };
        tenant.change_services(info.net(), |all| {
            let mut entries = all.try_clone()?;
            let full = entries.len() >= MAX;
            match entries.iter_mut().find(|e| e.service == service) {
                Some(entry) => {
                    entry.policy = read_policy(info, entry.policy)?;
                    now = *entry;
                }
                None if full => return Err(info.error_all(c"too many services", ENOSPC)),
                None => {
                    now.policy = read_policy(info, DEFAULT)?;
                    entries.push(now, GFP_KERNEL)?;
                }
            }
            Ok(Services::new(entries))
        })?;
        if !now.policy.protect {
            tenant.namespace().only_observe(&service);
        }
        let flows = tenant.namespace().flows_of(&service);
        // Nobody listening, or a full buffer, does not undo what was done.
        let _ = FAMILY.multicast(info.net(), EVENTS, nl::CMD_SERVICE_NTF, Gfp::Kernel, |w| {
            write(w, &now, flows)
        });
        let mut reply = Message::reply(info, Self::CMD)?;
        write(&mut reply, &now, flows)?;
        reply.send(info)
    }
}

/// `service-del`.
pub(super) struct Del;

impl Do for Del {
    const CMD: u8 = nl::CMD_SERVICE_DEL;
    const POLICY: &'static [Policy] = &nl::SERVICE_DEL_DO_POLICY;
    const ADMIN: bool = true;

    fn handle(info: &Info<'_>) -> Result {
        let tenant = tenant(info)?;
        let service = service_of(info)?;
        if tenant.namespace().needed(Some(&service)) {
            return Err(info.error_all(c"flows of this service would break", EBUSY));
        }
        let mut was = None;
        tenant.change_services(info.net(), |all| {
            let mut entries = KVec::with_capacity(all.len(), GFP_KERNEL)?;
            for entry in all.iter() {
                if entry.service == service {
                    was = Some(*entry);
                } else {
                    entries.push(*entry, GFP_KERNEL)?;
                }
            }
            if was.is_none() {
                return Err(info.error(
                    nl::A_SERVICE_ADDR,
                    c"this service is not protected",
                    ENOENT,
                ));
            }
            Ok(Services::new(entries))
        })?;
        tenant.namespace().forget_flows_of(&service);
        let _ = FAMILY.multicast(info.net(), EVENTS, nl::CMD_SERVICE_NTF, Gfp::Kernel, |w| {
            was.iter().try_for_each(|entry| write_name(w, entry))
        });
        Ok(())
    }
}
