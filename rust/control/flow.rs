// SPDX-License-Identifier: GPL-2.0

//! Flows: shown, committed, taken over, given up.

use super::{addr_bytes, tenant, KeyAttrs};
use crate::flows::{Entry, Lent, State};
use crate::hcore::client::{Clock, Handshake};
use crate::hcore::counter::Counter;
use crate::hcore::effects::Effects;
use crate::hcore::flow::{Env, Flow, Snapshot};
use crate::hcore::rescue::{Claim, Misfit};
use crate::hcore::seq::{Delta, Pos, Seq};
use crate::hcore::wire::Key;
use crate::namespace::Namespace;
use crate::net::errno::{errno, ESTALE};
use crate::net::genl::{AttrWriter, Attrs, Do, Dump, Dumper, Info, Message, Policy};
use crate::net::lookup;
use crate::net::rhashtable::Walk;
use crate::net::time;
use crate::netlink_gen as nl;
use crate::path;
use core::ops::Deref;
use kernel::prelude::*;
use kernel::sync::{aref::ARef, rcu, Arc};

const FLOW: KeyAttrs = KeyAttrs {
    caddr: nl::A_FLOW_CLIENT_ADDR,
    cport: nl::A_FLOW_CLIENT_PORT,
    saddr: nl::A_FLOW_SERVICE_ADDR,
    sport: nl::A_FLOW_SERVICE_PORT,
};

const RELEASE: KeyAttrs = KeyAttrs {
    caddr: nl::A_RELEASE_CLIENT_ADDR,
    cport: nl::A_RELEASE_CLIENT_PORT,
    saddr: nl::A_RELEASE_SERVICE_ADDR,
    sport: nl::A_RELEASE_SERVICE_PORT,
};

/// Bytes of an answer that a ghost takes if the request does not say.
const ANSWER_WINDOW: u32 = 4096;

/// Writes a flow.
pub(super) fn write(out: &mut AttrWriter<'_>, id: u64, key: &Key, s: &Snapshot) -> Result {
    out.put_u64(nl::A_FLOW_ID, id)?;
    out.put(nl::A_FLOW_CLIENT_ADDR, addr_bytes(&key.caddr, key.family))?;
    out.put_be16(nl::A_FLOW_CLIENT_PORT, u16::from_be_bytes(key.cport))?;
    out.put(nl::A_FLOW_SERVICE_ADDR, addr_bytes(&key.saddr, key.family))?;
    out.put_be16(nl::A_FLOW_SERVICE_PORT, u16::from_be_bytes(key.sport))?;
    out.put_u32(nl::A_FLOW_PHASE, s.phase as u32)?;
    out.put_u32(nl::A_FLOW_GENERATION, s.generation)?;
    out.put_u64(nl::A_FLOW_C2S_NEXT, s.c2s_next)?;
    out.put_u64(nl::A_FLOW_S2C_NEXT, s.s2c_next)?;
    out.put_u64(nl::A_FLOW_S2C_ACKED, s.s2c_acked)?;
    for (number, position) in [
        (nl::A_FLOW_OBJECT_START, s.object_start),
        (nl::A_FLOW_OBJECT_END, s.object_end),
        (nl::A_FLOW_DATA_GATE, s.data_gate),
        (nl::A_FLOW_ACK_GATE, s.ack_gate),
    ] {
        if let Some(position) = position {
            out.put_u64(number, position)?;
        }
    }
    out.put_u32(nl::A_FLOW_DELTA_C2S, s.delta_c2s)?;
    out.put_u32(nl::A_FLOW_DELTA_S2C, s.delta_s2c)?;
    out.put_u32(nl::A_FLOW_DELTA_TS, s.delta_ts)?;
    out.nest(nl::A_FLOW_OPTIONS, |w| write_options(w, &s.handshake))?;
    out.put_u32(nl::A_FLOW_TSVAL, s.tsval)?;
    out.put_u32(nl::A_FLOW_TSECR, s.tsecr)?;
    out.put_u32(nl::A_FLOW_TS_AGE, s.ts_age)?;
    if let Some(reason) = s.reason {
        out.put_u32(nl::A_FLOW_REASON, reason as u32)?;
    }
    Ok(())
}

fn write_options(w: &mut AttrWriter<'_>, h: &Handshake) -> Result {
    w.put_u16(nl::A_OPTIONS_MSS, h.mss)?;
    for (number, scale) in [
        (nl::A_OPTIONS_WSCALE_CLIENT, h.wscale_client),
        (nl::A_OPTIONS_WSCALE_SERVICE, h.wscale_service),
    ] {
        if let Some(scale) = scale {
            w.put_u8(number, scale)?;
        }
    }
    w.put_flag(nl::A_OPTIONS_SACK, h.sack)?;
    w.put_flag(nl::A_OPTIONS_TIMESTAMPS, h.timestamps)
}

/// Reads what userspace knows of a flow that it takes over.
fn claim(attrs: &Attrs<'_>) -> Result<Claim> {
    let options = attrs.need_nest(nl::A_FLOW_OPTIONS)?;
    let handshake = Handshake {
        mss: options.need_u16(nl::A_OPTIONS_MSS)?,
        wscale_client: options.u8(nl::A_OPTIONS_WSCALE_CLIENT),
        wscale_service: options.u8(nl::A_OPTIONS_WSCALE_SERVICE),
        sack: options.has(nl::A_OPTIONS_SACK),
        timestamps: options.has(nl::A_OPTIONS_TIMESTAMPS),
    };
    if handshake.wscale_client.is_some() != handshake.wscale_service.is_some() {
        return Err(options.error_all(c"window scaling takes both sides", EINVAL));
    }
    let clock = match (attrs.u32(nl::A_FLOW_TSVAL), attrs.u32(nl::A_FLOW_TSECR)) {
        (Some(tsval), Some(tsecr)) => Clock::told(
            tsval,
            tsecr,
            time::now_ms(),
            attrs.u32(nl::A_FLOW_TS_AGE).unwrap_or(0),
        ),
        _ if handshake.timestamps => {
            return Err(attrs.error(
                nl::A_FLOW_OPTIONS,
                c"with timestamps, tsval and tsecr are needed",
                EINVAL,
            ))
        }
        _ => Clock::default(),
    };
    Ok(Claim {
        generation: attrs.u32(nl::A_FLOW_GENERATION).unwrap_or(0),
        next: need_position(attrs, nl::A_FLOW_C2S_NEXT)?,
        handshake,
        clock,
    })
}

/// A position that a connection can have.
fn need_position<D>(attrs: &Attrs<'_>, number: u16) -> Result<Pos<D>> {
    Pos::checked(attrs.need_u64(number)?)
        .ok_or_else(|| attrs.error(number, c"no connection has this position", EINVAL))
}

/// What to tell the requester.
fn misfit(info: &Info<'_>, why: Misfit) -> Error {
    match why {
        Misfit::Phase => info.error_all(c"the flow is in another phase", EBUSY),
        Misfit::Generation => info.error(
            nl::A_FLOW_GENERATION,
            c"a newer generation has the flow",
            errno(ESTALE),
        ),
        Misfit::Again => info.error(
            nl::A_FLOW_ANSWER_LENGTH,
            c"more of the answer has come",
            EAGAIN,
        ),
        Misfit::Position => info.error_all(c"the positions do not fit", EINVAL),
    }
}

/// An operation on one flow.
trait Operation: 'static {
    const CMD: u8;
    const POLICY: &'static [Policy];

    /// Does it. May sleep.
    fn run(request: &Request<'_>) -> Result;
}

impl<T: Operation> Do for T {
    const CMD: u8 = T::CMD;
    const POLICY: &'static [Policy] = T::POLICY;
    const ADMIN: bool = true;

    fn handle(info: &Info<'_>) -> Result {
        T::run(&Request {
            info,
            cmd: T::CMD,
            namespace: tenant(info)?.namespace().clone(),
            key: FLOW.read(info)?,
        })
    }
}

/// What is asked for, where and of which flow.
struct Request<'a> {
    info: &'a Info<'a>,
    cmd: u8,
    namespace: Arc<Namespace>,
    key: Key,
}

impl Request<'_> {
    /// The flow, which must be there.
    fn find(&self) -> Result<ARef<Entry>> {
        let guard = rcu::read_lock();
        let entry = self.namespace.find(&self.key, &guard).map(Into::into);
        entry.ok_or_else(|| self.error(nl::A_FLOW_CLIENT_ADDR, c"there is no such flow", ENOENT))
    }

    /// The flow, made from `claim` if there is none.
    fn find_or_claim(&self, claim: &Claim) -> Result<ARef<Entry>> {
        let guard = rcu::read_lock();
        let env = self.env(&guard)?;
        if !env.policy.protect {
            return Err(self.error(
                nl::A_FLOW_SERVICE_ADDR,
                c"this service is only observed",
                EPERM,
            ));
        }
        match self.namespace.find(&self.key, &guard) {
            Some(entry) => Ok(entry.into()),
            None => self
                .namespace
                .insert(Flow::claimed(self.key, claim, &env), &guard)
                .ok_or(ENOMEM),
        }
    }

    /// What the flow's service asks for.
    fn env(&self, guard: &rcu::Guard) -> Result<Env> {
        self.namespace
            .env(&self.key.service(), guard)
            .ok_or_else(|| {
                self.error(
                    nl::A_FLOW_SERVICE_ADDR,
                    c"this service is not protected",
                    ENOENT,
                )
            })
    }

    /// Lets `decide` change the flow, which must be the one with the id that is given, if one is, and does
    /// what it asks for. `lend` is called before that. The number of the flow that was changed.
    fn decide(
        &self,
        entry: &ARef<Entry>,
        mut lend: Option<&mut dyn FnMut(&mut State)>,
        decide: impl FnOnce(&mut Flow, &Env, &mut Effects) -> Result<(), Misfit>,
    ) -> Result<u64> {
        let mut changed = 0;
        let mut prepare = |state: &mut State| {
            changed = state.id;
            if let Some(lend) = &mut lend {
                lend(state);
            }
        };
        self.namespace
            .with(entry, self.u64(nl::A_FLOW_ID), Some(&mut prepare), decide)
            .ok_or_else(|| match self.u64(nl::A_FLOW_ID) {
                Some(_) => self.error(nl::A_FLOW_ID, c"another flow has this name now", ENOENT),
                None => ENOENT,
            })?
            .map_err(|why| misfit(self.info, why))?;
        Ok(changed)
    }

    /// Replies with the flow as it is now; `changed`: the number of the one that is meant.
    fn reply(&self, entry: &Entry, changed: Option<u64>) -> Result {
        let (id, key, snapshot) = look(entry);
        if changed.is_some_and(|changed| changed != id) {
            return Err(ENOENT);
        }
        let mut reply = Message::reply(self.info, self.cmd)?;
        write(&mut reply, id, &key, &snapshot)?;
        reply.send(self.info)
    }
}

impl<'a> Deref for Request<'a> {
    type Target = Info<'a>;

    fn deref(&self) -> &Info<'a> {
        self.info
    }
}

/// A flow as it is now.
fn look(entry: &Entry) -> (u64, Key, Snapshot) {
    let state = entry.state.lock();
    (
        state.id,
        *state.flow.key(),
        state.flow.snapshot(time::now_ms()),
    )
}

/// `flow-get` of one.
pub(super) struct Get;

impl Operation for Get {
    const CMD: u8 = nl::CMD_FLOW_GET;
    const POLICY: &'static [Policy] = &nl::FLOW_GET_DO_POLICY;

    fn run(request: &Request<'_>) -> Result {
        request.reply(&*request.find()?, None)
    }
}

/// `flow-get` of all.
pub(super) struct GetAll;

/// Where a dump is: what is still to be walked, and a flow that did not fit.
pub(super) struct Cursor {
    walk: Walk<Arc<Namespace>, Entry>,
    waiting: Option<ARef<Entry>>,
}

impl Dump for GetAll {
    const CMD: u8 = nl::CMD_FLOW_GET;
    const POLICY: &'static [Policy] = &nl::FLOW_GET_DUMP_POLICY;
    const ADMIN: bool = true;

    type Cursor = Cursor;

    fn start(info: &Info<'_>) -> Result<Cursor> {
        let namespace = tenant(info)?.namespace().clone();
        let walk = crate::net::rhashtable::RhashTable::walk_of(namespace, |n| &n.flows)?;
        Ok(Cursor {
            walk,
            waiting: None,
        })
    }

    fn dump(cursor: &mut Cursor, info: &Info<'_>, out: &mut Dumper<'_>) -> Result {
        out.generation(tenant(info)?.namespace().changes());
        while let Some(entry) = cursor.waiting.take().or_else(|| cursor.walk.next()) {
            let (id, key, snapshot) = look(&entry);
            let written = out.entry(Self::CMD, |w| write(w, id, &key, &snapshot));
            if let Err(e) = written {
                cursor.waiting = Some(entry);
                return Err(e);
            }
        }
        Ok(())
    }
}

/// `flow-commit`.
pub(super) struct Commit;

impl Do for Commit {
    const CMD: u8 = nl::CMD_FLOW_COMMIT;
    const POLICY: &'static [Policy] = &nl::FLOW_COMMIT_DO_POLICY;
    const ADMIN: bool = true;

    fn handle(info: &Info<'_>) -> Result {
        let tenant = tenant(info)?;
        for release in info.nests(nl::A_BATCH_RELEASE) {
            commit(tenant.namespace(), &release)?;
        }
        Ok(())
    }
}

fn commit(namespace: &Namespace, release: &Attrs<'_>) -> Result {
    let key = RELEASE.read(release)?;
    let start = release.u64(nl::A_RELEASE_OBJECT_START);
    let end = release.u64(nl::A_RELEASE_OBJECT_END);
    let entry: Option<ARef<Entry>> = {
        let guard = rcu::read_lock();
        namespace.find(&key, &guard).map(Into::into)
    };
    // A flow that is gone needs no commit; one that used the same ports before had another id.
    let Some(entry) = entry else {
        return Ok(());
    };
    let id = release.u64(nl::A_RELEASE_ID);
    namespace.with(&entry, id, None, |flow, env, fx| {
        if release.has(nl::A_RELEASE_BROKEN_OFF) {
            return flow.broken_off(start, env, fx);
        } else if release.has(nl::A_RELEASE_UNPROTECTED) {
            flow.unprotect(fx);
        } else if release.has(nl::A_RELEASE_ACK_RELEASE) {
            flow.release_ack(fx);
        }
        flow.commit(start, end, env, fx);
    });
    Ok(())
}

/// `flow-locate`.
pub(super) struct Locate;

impl Operation for Locate {
    const CMD: u8 = nl::CMD_FLOW_LOCATE;
    const POLICY: &'static [Policy] = &nl::FLOW_LOCATE_DO_POLICY;

    fn run(request: &Request<'_>) -> Result {
        let claim = claim(request)?;
        let seq = Seq::new(request.need_u32(nl::A_FLOW_PROBE_SEQ)?);
        let anywhere = request.has(nl::A_FLOW_ANYWHERE);
        let entry = request.find_or_claim(&claim)?;
        let changed = request.decide(&entry, None, |flow, env, fx| {
            flow.locate(&claim, seq, anywhere, env, fx)
        })?;
        // What the flow had here before, if anything: a ghost needs its place.
        abort(request.info, &request.key);
        request.reply(&entry, Some(changed))
    }
}

/// `flow-recover`.
pub(super) struct Recover;

impl Operation for Recover {
    const CMD: u8 = nl::CMD_FLOW_RECOVER;
    const POLICY: &'static [Policy] = &nl::FLOW_RECOVER_DO_POLICY;

    fn run(request: &Request<'_>) -> Result {
        let claim = claim(request)?;
        let at = need_position(request, nl::A_FLOW_AT)?;
        let window = request
            .u32(nl::A_FLOW_ANSWER_WINDOW)
            .unwrap_or(ANSWER_WINDOW);
        let port = request.be16(nl::A_FLOW_LOCAL_PORT);
        let bytes = copy(request.bytes(nl::A_FLOW_REQUEST))?;
        let len = bytes.len() as u32;
        let lent = Lent {
            request: bytes,
            prefix: KVec::new(),
        };
        let mut lent = Some(KBox::new(lent, GFP_KERNEL)?);
        let entry = request.find_or_claim(&claim)?;
        if entry.state.lock().flow.is_lost() {
            abort(request.info, &request.key);
        }
        let mut lend = |state: &mut State| {
            if state.flow.may_be_recovered(claim.generation).is_ok() {
                core::mem::swap(&mut state.lent, &mut lent);
            }
        };
        let changed = request.decide(&entry, Some(&mut lend), |flow, env, fx| {
            flow.recover(&claim, at, len, window, env, fx)?;
            if let Some(port) = port {
                flow.direct(port);
            }
            Ok(())
        })?;
        request.reply(&entry, Some(changed))
    }
}

fn copy(bytes: Option<&[u8]>) -> Result<KVec<u8>> {
    let mut copy = KVec::new();
    copy.extend_from_slice(bytes.unwrap_or(&[]), GFP_KERNEL)?;
    Ok(copy)
}

/// `flow-join`.
pub(super) struct Join;

impl Operation for Join {
    const CMD: u8 = nl::CMD_FLOW_JOIN;
    const POLICY: &'static [Policy] = &nl::FLOW_JOIN_DO_POLICY;

    fn run(request: &Request<'_>) -> Result {
        let mut prefix = copy(request.bytes(nl::A_FLOW_PREFIX))?;
        let len = prefix.len() as u32;
        let answer = request.need_u64(nl::A_FLOW_ANSWER_LENGTH)?;
        let skip = request.u64(nl::A_FLOW_SKIP).unwrap_or(0);
        let start = request.u64(nl::A_FLOW_OBJECT_START);
        let end = request.u64(nl::A_FLOW_OBJECT_END);
        let entry = request.find()?;
        let mut lend = |state: &mut State| {
            if let Some(lent) = state.lent.as_mut().filter(|_| state.flow.waits_for_join()) {
                core::mem::swap(&mut lent.prefix, &mut prefix);
            }
        };
        request.decide(&entry, Some(&mut lend), |flow, env, fx| {
            flow.join(answer, skip, len, start, end, env, fx)
        })?;
        Ok(())
    }
}

/// `flow-end`.
pub(super) struct End;

impl Operation for End {
    const CMD: u8 = nl::CMD_FLOW_END;
    const POLICY: &'static [Policy] = &nl::FLOW_END_DO_POLICY;

    fn run(request: &Request<'_>) -> Result {
        let verdict = request.need_u32(nl::A_FLOW_VERDICT)?;
        let entry = request.find()?;
        if !matches!(
            verdict,
            nl::VERDICT_PASS | nl::VERDICT_RESET | nl::VERDICT_ABANDON
        ) {
            return Err(request.error(nl::A_FLOW_VERDICT, c"there is no such verdict", EINVAL));
        }
        request.decide(&entry, None, |flow, env, fx| {
            match verdict {
                nl::VERDICT_PASS => return flow.disown(env, fx),
                nl::VERDICT_RESET => flow.reset_client(Counter::GivenUp, env, fx),
                _ => flow.mute(env, fx),
            }
            Ok(())
        })?;
        if verdict == nl::VERDICT_ABANDON {
            abort(request.info, &request.key);
        }
        Ok(())
    }
}

/// Drops the local socket; its reset does not leave, as the flow is mute, lost or being located.
fn abort(info: &Info<'_>, key: &Key) {
    let Some(ends) = path::address(key) else {
        return;
    };
    if let Some(socket) = lookup::established(info.net(), ends.client, ends.service, 0) {
        // Closed already: just as well.
        let _ = socket.abort();
    }
}

/// `splice-add`.
pub(super) struct SpliceAdd;

impl Operation for SpliceAdd {
    const CMD: u8 = nl::CMD_SPLICE_ADD;
    const POLICY: &'static [Policy] = &nl::SPLICE_ADD_DO_POLICY;

    fn run(request: &Request<'_>) -> Result {
        let delta = |number| request.u32(number).unwrap_or(0);
        let flow = Flow::spliced(
            request.key,
            // A delta leads to the client; what is asked for leads to the local side.
            Delta::new(delta(nl::A_FLOW_DELTA_C2S).wrapping_neg()),
            Delta::new(delta(nl::A_FLOW_DELTA_S2C)),
            delta(nl::A_FLOW_DELTA_TS),
        );
        let entry = {
            let guard = rcu::read_lock();
            request.env(&guard)?;
            if request.namespace.find(&request.key, &guard).is_some() {
                return Err(request.error(nl::A_FLOW_CLIENT_ADDR, c"there is such a flow", EEXIST));
            }
            request.namespace.insert(flow, &guard).ok_or(ENOMEM)?
        };
        entry.state.lock().manual = true;
        request.reply(&entry, None)
    }
}

/// `splice-del`.
pub(super) struct SpliceDel;

impl Operation for SpliceDel {
    const CMD: u8 = nl::CMD_SPLICE_DEL;
    const POLICY: &'static [Policy] = &nl::SPLICE_DEL_DO_POLICY;

    fn run(request: &Request<'_>) -> Result {
        let entry = request.find()?;
        let mut state = entry.state.lock();
        if !state.manual {
            return Err(request.error(
                nl::A_FLOW_CLIENT_ADDR,
                c"this flow was not made by splice-add",
                EPERM,
            ));
        }
        request.namespace.remove(&entry, &mut state);
        Ok(())
    }
}
