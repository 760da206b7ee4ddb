// SPDX-License-Identifier: GPL-2.0

//! What packets, timers and requests of one network namespace share.

use crate::act::{settle, Deferred};
use crate::flows::{Entry, State, NOWHERE};
use crate::hcore::counter::Counter;
use crate::hcore::effects::Effects;
use crate::hcore::flow::{Env, Flow, Phase};
use crate::hcore::plain::Name;
use crate::hcore::ring::{Kind, Record};
use crate::hcore::wire::{Key, Service};
use crate::log::{Data, Ring};
use crate::net::counters::{Counters, Index};
use crate::net::lock::SpinLockBhGuard;
use crate::net::lookup;
use crate::net::module::max_flows;
use crate::net::pernet::Home;
use crate::net::random;
use crate::net::rcu::RcuCell;
use crate::net::rhashtable::{self, InsertError, RhashTable};
use crate::net::time;
use crate::net::timer::Timer;
use crate::net::work::Housekeeping;
use crate::path::{address, Ends};
use crate::services::{Services, DEFAULT};
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::atomic::{ordering::Relaxed, Atomic};
use kernel::sync::{aref::ARef, rcu, Arc, Mutex};
use kernel::time::Msecs;

/// Most flows that wait for a verdict, as anybody can send packets that belong to nobody.
const MAX_ORPHANS: u32 = 4096;
/// Most flows whose handshake is under way: SYNs, too, come from anybody.
const MAX_OPENINGS: u32 = 1 << 16;
/// Milliseconds between rounds of housekeeping.
const ROUND: Msecs = 15_000;
/// Rounds without local socket after which a flow is forgotten.
const UNSEEN_ROUNDS: u8 = 2;

impl Index for Counter {
    const COUNT: usize = Counter::COUNT;

    fn index(self) -> usize {
        self as usize
    }
}

/// The state of one network namespace.
#[pin_data]
pub(crate) struct Namespace {
    /// The way back to the namespace, while it lives.
    pub(crate) home: Home,
    services: RcuCell<Services>,
    log: RcuCell<Arc<Ring>>,
    /// Who opens or closes the log.
    #[pin]
    log_owner: Mutex<()>,
    #[pin]
    pub(crate) flows: RhashTable<Entry>,
    pub(crate) counters: Counters<Counter>,
    /// The mark of packets that a ghost gives to the local stack: nobody outside can guess it.
    pub(crate) tag: u32,
    last_id: Atomic<u64>,
    orphans: Atomic<u32>,
    openings: Atomic<u32>,
    /// Grows with each change of the table of flows: dumps that see two values say so.
    changes: Atomic<u32>,
}

impl Namespace {
    /// An empty one.
    pub(crate) fn new(home: Home) -> Result<Arc<Self>> {
        let services = RcuCell::new(Services::none(), GFP_KERNEL)?;
        let counters = Counters::new()?;
        Arc::pin_init(
            try_pin_init!(Self {
                home,
                services,
                log: RcuCell::empty(),
                log_owner <- new_mutex!(()),
                flows <- RhashTable::new(max_flows()),
                counters,
                // 0 is what packets have that nobody marked.
                tag: random::u32() | 1,
                last_id: Atomic::new(0),
                orphans: Atomic::new(0),
                openings: Atomic::new(0),
                changes: Atomic::new(1),
            }? Error),
            GFP_KERNEL,
        )
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    pub(crate) fn count(&self, counter: Counter) {
        self.counters.inc(counter);
    }

    /// Counts what came of an error on the way of a packet.
    pub(crate) fn count_error(&self, why: Error) {
        self.count(if why == ENOMEM {
            Counter::NoMemory
        } else {
            Counter::Malformed
        });
    }

    /// Counts `n` held packets that are freed.
    pub(crate) fn freed(&self, n: usize) {
        self.counters.add(Counter::HeldFreed, n as u64);
    }

    /// What `change` makes of the services.
    pub(crate) fn with_services<R>(
        &self,
        change: impl FnOnce(&Services) -> Result<R>,
    ) -> Result<R> {
        // The caller holds the lock under which services change, so that what is seen here stays
        // until it is replaced; `change` may sleep, which an RCU section may not.
        let copy = {
            let guard = rcu::read_lock();
            let entries = self.services.load(&guard).map(|s| s.iter().copied());
            let mut copy = KVec::new();
            for entry in entries.into_iter().flatten() {
                copy.push(entry, GFP_ATOMIC)?;
            }
            copy
        };
        change(&Services::new(copy))
    }

    /// Makes `services` those of the namespace.
    pub(crate) fn publish_services(&self, mut services: Services) -> Result {
        services.number = self.next_id();
        Ok(self.services.replace(services, GFP_KERNEL)?)
    }

    /// Whether `port` (host byte order) may be that of a service.
    #[inline]
    pub(crate) fn may_serve(&self, port: u16, guard: &rcu::Guard) -> bool {
        self.services
            .load(guard)
            .is_some_and(|services| services.may_serve(port))
    }

    /// Whether the flow of `state`, of this `name`, is still in the table and one of a service. As tables
    /// of services do not change, few packets have to search theirs.
    #[inline(always)]
    pub(crate) fn serves(
        &self,
        state: &mut State,
        name: impl FnOnce() -> Option<Name>,
        guard: &rcu::Guard,
    ) -> bool {
        self.services.load(guard).is_some_and(|services| {
            state.served == services.number || Self::serves_anew(services, state, name())
        })
    }

    #[cold]
    #[inline(never)]
    fn serves_anew(services: &Services, state: &mut State, name: Option<Name>) -> bool {
        let serves = !state.gone && name.is_some_and(|name| services.serve(&name));
        if serves {
            state.served = services.number;
        }
        serves
    }

    /// Whether the log has a reader.
    #[inline]
    pub(crate) fn has_reader(&self, guard: &rcu::Guard) -> bool {
        self.log.load(guard).is_some()
    }

    /// What decisions about flows of `service` depend on now; `None` if it is not protected.
    #[inline]
    pub(crate) fn env(&self, service: &Service, guard: &rcu::Guard) -> Option<Env> {
        let mut policy = self.services.load(guard)?.find(service)?;
        policy.reader = self.has_reader(guard);
        Some(Env {
            now: time::now_ms(),
            policy,
        })
    }

    /// The same for a flow whose service may have been forgotten: gates stay open then.
    pub(crate) fn env_of(&self, key: &Key, guard: &rcu::Guard) -> Env {
        self.env(&key.service(), guard).unwrap_or(Env {
            now: time::now_ms(),
            policy: crate::hcore::flow::Policy {
                protect: false,
                ..DEFAULT
            },
        })
    }

    /// The flow of this name.
    #[inline]
    pub(crate) fn find<'a>(&'a self, key: &Key, guard: &'a rcu::Guard) -> Option<&'a Entry> {
        self.flows.get(&rhashtable::Key::new(key.to_bytes()), guard)
    }

    /// Puts a flow into the table; if there is one of its name, returns that. Counts what fails.
    pub(crate) fn insert(self: &Arc<Self>, flow: Flow, guard: &rcu::Guard) -> Option<ARef<Entry>> {
        let phase = flow.phase();
        match phase {
            Phase::Orphan if self.orphans.load(Relaxed) >= MAX_ORPHANS => {
                self.count(Counter::OrphanLimit);
                return None;
            }
            Phase::Opening if self.openings.load(Relaxed) >= MAX_OPENINGS => {
                self.count(Counter::OpeningLimit);
                return None;
            }
            _ => {}
        }
        let Ok(entry) = Entry::new(self, flow, guard) else {
            self.count(Counter::NoMemory);
            return None;
        };
        // Counted before anybody can find it and move it on.
        self.enters(phase);
        let inserted = self.flows.insert(entry.clone(), guard);
        if inserted.is_err() {
            self.leaves(phase);
        }
        match inserted {
            Ok(()) => {
                self.changes.fetch_add(1, Relaxed);
                Some(entry)
            }
            Err(InsertError::Exists(other)) => Some(other.into()),
            Err(InsertError::Failed(why)) => {
                self.count(if why == ENOMEM {
                    Counter::NoMemory
                } else {
                    Counter::FlowLimit
                });
                None
            }
        }
    }

    /// Takes a flow, whose lock the caller holds, out of the table.
    pub(crate) fn remove(&self, entry: &Entry, state: &mut State) {
        if state.gone {
            return;
        }
        state.gone = true;
        self.freed(state.held.len());
        state.served = NOWHERE;
        state.held = KVec::new();
        state.pin = None;
        self.leaves(state.flow.phase());
        Timer::cancel(entry);
        self.flows.remove(entry);
        self.changes.fetch_add(1, Relaxed);
    }

    /// How many flows are in `phase`, if that is limited.
    fn population(&self, phase: Phase) -> Option<&Atomic<u32>> {
        match phase {
            Phase::Orphan => Some(&self.orphans),
            Phase::Opening => Some(&self.openings),
            _ => None,
        }
    }

    /// A flow of the table enters `phase`.
    pub(crate) fn enters(&self, phase: Phase) {
        if let Some(n) = self.population(phase) {
            n.fetch_add(1, Relaxed);
        }
    }

    /// A flow of the table leaves `phase`.
    pub(crate) fn leaves(&self, phase: Phase) {
        if let Some(n) = self.population(phase) {
            n.fetch_sub(1, Relaxed);
        }
    }

    /// Writes a record about a flow, if anybody reads. `false`: it was lost.
    pub(crate) fn write_log(&self, record: Record, data: &Data<'_>, guard: &rcu::Guard) -> bool {
        match self.log.load(guard) {
            Some(ring) => ring.write(record, data).is_ok(),
            None => true,
        }
    }

    /// Makes `ring` the log. Sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is one.
    pub(crate) fn attach_log(&self, ring: Arc<Ring>) -> Result {
        let _owner = self.log_owner.lock();
        {
            let guard = rcu::read_lock();
            if self.log.load(&guard).is_some() {
                return Err(EBUSY);
            }
        }
        Ok(self.log.replace(ring, GFP_KERNEL)?)
    }

    /// Nobody reads the log any more: all gates open. Sleeps.
    pub(crate) fn detach_log(&self) {
        let _owner = self.log_owner.lock();
        self.log.clear();
        // Whoever still saw the ring is done before the gates are opened for good.
        crate::net::rcu::synchronize();
        self.each(|entry| {
            self.with(entry, None, None, |flow, env, fx| flow.reader_gone(env, fx));
        });
    }

    /// Calls `f` for each flow. Process context; `f` must not sleep. It cannot fail: who asks
    /// whether a flow needs us must not hear "no" because memory is short.
    pub(crate) fn each(&self, f: impl FnMut(&Entry)) {
        self.flows.for_each(f);
    }

    /// Lets `decide` change a flow without a packet and does what it asks for. Softirq or process
    /// context. `None` if the flow has left the table, or has another number than `id`.
    pub(crate) fn with<R>(
        &self,
        entry: &Entry,
        id: Option<u64>,
        prepare: Option<&mut dyn FnMut(&mut State)>,
        decide: impl FnOnce(&mut Flow, &Env, &mut Effects) -> R,
    ) -> Option<R> {
        let (mut decide, mut result) = (Some(decide), None);
        self.change(entry, id, prepare, &mut |flow, env, fx| {
            result = decide.take().map(|decide| decide(flow, env, fx));
        });
        result
    }

    /// [`Self::with`], once for all that call it: its frame is large.
    #[inline(never)]
    fn change(
        &self,
        entry: &Entry,
        id: Option<u64>,
        prepare: Option<&mut dyn FnMut(&mut State)>,
        decide: &mut dyn FnMut(&mut Flow, &Env, &mut Effects),
    ) {
        let guard = rcu::read_lock();
        let Some(key) = entry.key() else { return };
        let env = self.env_of(&key, &guard);
        let mut fx = Effects::new();
        let mut state = entry.state.lock();
        if state.gone || id.is_some_and(|id| id != state.id) {
            return;
        }
        if let Some(prepare) = prepare {
            prepare(&mut state);
        }
        let before = state.flow.phase();
        decide(&mut state.flow, &env, &mut fx);
        if fx.is_nothing() {
            settle(self, entry, &mut state, before, env.now);
        } else {
            self.act(entry, state, before, &env, &mut fx, &guard);
        }
    }

    /// Does what a decision without a packet asked for. Its own frame, as in [`crate::path`].
    #[inline(never)]
    fn act(
        &self,
        entry: &Entry,
        mut state: SpinLockBhGuard<'_, State>,
        before: Phase,
        env: &Env,
        fx: &mut Effects,
        guard: &rcu::Guard,
    ) {
        let mut deferred = Deferred::new(&state);
        deferred.gather(self, entry, &mut state, before, env, fx, None, guard);
        drop(state);
        self.home.enter(|net| deferred.run(self, net));
    }

    /// A flow's timer has expired. Softirq.
    pub(crate) fn tick(&self, entry: ARef<Entry>) {
        self.with(
            &entry,
            None,
            Some(&mut |state| state.armed = u64::MAX),
            |flow, env, fx| flow.tick(env, fx),
        );
    }

    /// Forgets all flows: nobody makes new ones any more. Sleeps.
    pub(crate) fn forget_flows(&self) {
        while !self.flows.is_empty() {
            self.flows.for_each_owned(|entry| {
                let mut state = entry.state.lock();
                let held = core::mem::take(&mut state.held);
                self.remove(&entry, &mut state);
                drop(state);
                self.freed(held.len());
                drop(held);
                Timer::shutdown_sync(&*entry);
            });
        }
    }

    /// A device goes: frees held packets that keep it from that (the sender repeats them, if it
    /// can), and forgets that clients were heard there. Process context.
    pub(crate) fn let_go_of(&self, ifindex: u32) {
        self.each(|entry| {
            let mut state = entry.state.lock();
            let before = state.held.len();
            state.held.retain(|packet| !packet.uses_device(ifindex));
            self.freed(before - state.held.len());
            if state.ifindex == ifindex {
                state.ifindex = 0;
            }
        });
    }

    /// Forgets the flows of a service that is protected no more. Process context.
    pub(crate) fn forget_flows_of(&self, service: &Service) {
        self.each(|entry| {
            if entry.key().is_some_and(|k| k.service() == *service) {
                self.with(entry, None, None, |flow, env, fx| flow.reader_gone(env, fx));
                let mut state = entry.state.lock();
                if !state.flow.depends_on_us() {
                    self.remove(entry, &mut state);
                }
            }
        });
    }

    /// A service is only observed from now on: nothing of its flows waits any more. Process
    /// context.
    pub(crate) fn only_observe(&self, service: &Service) {
        self.each(|entry| {
            if entry.key().is_some_and(|k| k.service() == *service) {
                self.with(entry, None, None, |flow, env, fx| {
                    flow.only_observed(env, fx)
                });
            }
        });
    }

    /// A number that grows with each change of the table of flows.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Relaxed)
    }

    /// Whether a flow of `service` (of any, if `None`) would break if we left it.
    pub(crate) fn needed(&self, service: Option<&Service>) -> bool {
        let mut needed = false;
        self.each(|entry| {
            let state = entry.state.lock();
            needed |= !state.gone
                && state.flow.depends_on_us()
                && service.is_none_or(|s| state.flow.key().service() == *s);
        });
        needed
    }

    /// Number of flows of a service.
    pub(crate) fn flows_of(&self, service: &Service) -> u32 {
        let mut n = 0;
        self.each(|entry| {
            n += u32::from(entry.key().is_some_and(|k| k.service() == *service));
        });
        n
    }

    /// Whether the local stack has a socket for the flow.
    /// `ifindex`: where its client was heard last.
    fn has_socket(&self, key: &Key, ifindex: u32) -> bool {
        let Some(Ends { client, service }) = address(key) else {
            return true;
        };
        let found = |net: &_| lookup::established(net, client, service, ifindex).is_some();
        self.home.enter(found).unwrap_or(true)
    }

    fn sweep(&self, entry: &Entry) {
        let Some(key) = entry.key() else { return };
        let ifindex = entry.state.lock().ifindex;
        let seen = self.has_socket(&key, ifindex);
        let mut state = entry.state.lock();
        if state.gone || state.manual || state.flow.phase() != Phase::Open || state.flow.is_lost() {
            return;
        }
        state.unseen = if seen { 0 } else { state.unseen + 1 };
        if state.unseen >= UNSEEN_ROUNDS {
            let record = Record {
                kind: Kind::Closed as u16,
                flow: state.id,
                ..Record::default()
            };
            let guard = rcu::read_lock();
            self.write_log(record, &Data::None, &guard);
            self.count(Counter::FlowExpired);
            self.remove(entry, &mut state);
        }
    }
}

impl Housekeeping for Namespace {
    fn run(&self) -> Msecs {
        self.each(|entry| self.sweep(entry));
        ROUND
    }
}
