// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A stand-in for the kernel, records to play with, and a network namespace for one test.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use libholdfast::record::{Clock, Record, State};
use libholdfast::tracker::Release;
use libholdfast::types::{FlowKey, TcpOptions};

use crate::config::Service;
use crate::kernel::{FlowInfo, Kernel, Recover, Refused, Splice, Verdict};

/// The flow of the `n`-th client.
pub fn key(n: u16) -> FlowKey {
    FlowKey {
        client: format!("198.51.100.7:{}", 40_000 + u32::from(n))
            .parse()
            .unwrap(),
        service: "192.0.2.10:80".parse().unwrap(),
    }
}

/// An idle flow of the `n`-th client.
pub fn record(n: u16) -> Record {
    Record {
        key: key(n),
        generation: 1,
        options: TcpOptions::default(),
        clock: Some(Clock {
            tsval: 1,
            tsecr: 2,
            heard: 0,
        }),
        strict: true,
        deterministic: false,
        request: 1000,
        start: 2000,
        acked: 2000,
        state: State::Idle,
    }
}

/// Runs `test`, as root, in a network namespace of its own, which ends with its thread.
pub fn in_own_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let alone = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    };
    std::thread::spawn(alone).join().unwrap();
}

/// A call of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Service(u16),
    Forget(u16),
    Commit(Release),
    Locate(FlowKey, u32),
    Recover {
        key: FlowKey,
        at: u64,
        c2s_next: u64,
        request: Vec<u8>,
        local_port: Option<u16>,
    },
    Join {
        prefix: Vec<u8>,
        answer_length: u64,
        skip: u64,
        object_end: Option<u64>,
    },
    End(FlowKey, Verdict),
}

/// Remembers its calls.
#[derive(Clone, Default)]
pub struct FakeKernel {
    pub calls: Rc<RefCell<Vec<Call>>>,
    /// What the next joins say.
    pub joins: Rc<RefCell<Vec<Refused>>>,
    /// What the next questions to clients say.
    pub locates: Rc<RefCell<Vec<Refused>>>,
    /// What the next connections say.
    pub recovers: Rc<RefCell<Vec<Refused>>>,
    /// The numbers of the flows that were given up.
    pub ended: Rc<RefCell<Vec<Option<u64>>>>,
    /// Flows whose handshake is under way.
    pub opening: Rc<RefCell<Vec<(u64, FlowKey)>>>,
    /// Other flows.
    pub there: Rc<RefCell<Vec<FlowInfo>>>,
    /// Services that cannot be forgotten.
    pub needed: Rc<RefCell<Vec<SocketAddr>>>,
    next: Rc<RefCell<u64>>,
}

impl FakeKernel {
    /// The calls since the last time.
    pub fn take(&self) -> Vec<Call> {
        self.calls.take()
    }

    fn note(&self, call: Call) {
        self.calls.borrow_mut().push(call);
    }

    fn id(&self) -> u64 {
        *self.next.borrow_mut() += 1;
        1000 + *self.next.borrow()
    }
}

/// As the module does: without the client's timestamps it could not speak to it.
fn check_claim(record: &Record) -> Result<(), Refused> {
    match record.options.timestamps && record.clock.is_none() {
        true => Err(Refused::Other("no timestamps".into())),
        false => Ok(()),
    }
}

impl Kernel for FakeKernel {
    fn service_add(&mut self, service: &Service) -> Result<(), Refused> {
        self.note(Call::Service(service.port));
        Ok(())
    }
    fn service_del(&mut self, service: SocketAddr) -> Result<(), Refused> {
        if self.needed.borrow().contains(&service) {
            return Err(Refused::Other("flows of this service would break".into()));
        }
        self.note(Call::Forget(service.port()));
        Ok(())
    }
    fn stats(&mut self) -> Result<Vec<(String, u64)>, Refused> {
        Ok(vec![("held".into(), 7), ("would_hold".into(), 0)])
    }
    fn log_fill(&self) -> (u64, u64) {
        (100, 4096)
    }
    fn flows(&mut self) -> Result<Vec<FlowInfo>, Refused> {
        let opening = |(id, key): &(u64, FlowKey)| FlowInfo {
            id: *id,
            key: *key,
            generation: 0,
            options: TcpOptions::default(),
            clock: None,
            c2s_next: 0,
            s2c_acked: 0,
            open: false,
            opening: true,
        };
        let mut all = self.there.borrow().clone();
        all.extend(self.opening.borrow().iter().map(opening));
        Ok(all)
    }
    fn commit(&mut self, releases: &[(u64, FlowKey, Release)]) -> Result<(), Refused> {
        releases
            .iter()
            .for_each(|(_, _, r)| self.note(Call::Commit(*r)));
        Ok(())
    }
    fn locate(&mut self, record: &Record, _: u32, probe_seq: u32) -> Result<u64, Refused> {
        if let Some(refused) = self.locates.borrow_mut().pop() {
            return Err(refused);
        }
        check_claim(record)?;
        self.note(Call::Locate(record.key, probe_seq));
        Ok(self.id())
    }
    fn recover(&mut self, ask: &Recover<'_>) -> Result<u64, Refused> {
        if let Some(refused) = self.recovers.borrow_mut().pop() {
            return Err(refused);
        }
        check_claim(ask.record)?;
        let (key, at, c2s_next) = (ask.record.key, ask.at, ask.c2s_next);
        self.note(Call::Recover {
            key,
            at,
            c2s_next,
            request: ask.request.to_vec(),
            local_port: ask.local_port,
        });
        Ok(self.id())
    }
    fn join(&mut self, s: &Splice<'_>) -> Result<(), Refused> {
        if let Some(refused) = self.joins.borrow_mut().pop() {
            return Err(refused);
        }
        let (prefix, answer_length) = (s.prefix.to_vec(), s.answer_length);
        self.note(Call::Join {
            prefix,
            answer_length,
            skip: s.skip,
            object_end: s.object_end,
        });
        Ok(())
    }
    fn end(&mut self, flow: Option<u64>, key: &FlowKey, verdict: Verdict) -> Result<(), Refused> {
        self.ended.borrow_mut().push(flow);
        self.note(Call::End(*key, verdict));
        Ok(())
    }
}
