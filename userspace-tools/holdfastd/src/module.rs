// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The kernel module itself, behind [`Kernel`], and its log as entries.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;

use holdfast_core::counter::Counter;
use libholdfast::record::{kept_of_body, Clock, Record, State, BODY_LIMIT};
use libholdfast::recovery::Word;
use libholdfast::ring::{flags, Kind};
use libholdfast::tracker::Release;
use libholdfast::types::{
    self, Claim, ClientClock, Excerpt, FlowDesc, FlowKey, Phase, ServiceConfig,
};
use libholdfast::{ring, Client, Error, Ring};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use tokio::sync::{mpsc, oneshot};

use crate::config::{Commit, Mode, Service};
use crate::kernel::{
    Desc, Entry, Failure, FlowInfo, Kernel, Recover, Refused, Splice, Verdict, What,
};
use crate::timeline::monotonic;

/// Entries that are handed on at once.
const BATCH: usize = 256;

/// Batches that wait for the daemon; beyond them the ring fills, and the policy of the
/// service says what then.
const WAITING: usize = 16;

/// Milliseconds for which entries that nobody waits for are left in the log.
const PATIENCE: u8 = 5;

/// Bit of an entry's flags: an orphan or located client has bytes beyond what it expects.
const SACKED: u16 = 64;

/// The module.
pub struct Module {
    client: Client,
    fill: Arc<Fill>,
}

/// How full the log is, as the thread that reads it saw it last.
#[derive(Default)]
struct Fill {
    used: AtomicU64,
    size: AtomicU64,
}

impl Fill {
    fn set(&self, ring: &Ring) {
        self.used.store(ring.unread(), Ordering::Relaxed);
        self.size.store(ring.size(), Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (load(&self.used), load(&self.size))
    }
}

impl Module {
    /// Connects, and begins to read the log. The end of the channel is the end of the log.
    ///
    /// # Errors
    ///
    /// A sentence for a person.
    pub async fn open() -> Result<(Module, mpsc::Receiver<Vec<Entry>>), String> {
        let client = Client::connect().map_err(|e| e.to_string())?;
        let (tx, rx) = mpsc::channel(WAITING);
        let (opened_tx, opened) = oneshot::channel();
        let fill = Arc::new(Fill::default());
        let seen = fill.clone();
        // The ring is read by a thread that does nothing else, so that it is never full
        // because a netlink call takes long. It cannot leave that thread.
        let reader = move || match Ring::open() {
            Ok(ring) => {
                let _ = opened_tx.send(Ok(()));
                read(ring, &seen, &tx);
            }
            Err(e) => drop(opened_tx.send(Err(e.to_string()))),
        };
        thread::Builder::new()
            .name("log".into())
            .spawn(reader)
            .map_err(|e| e.to_string())?;
        opened.await.map_err(|e| e.to_string())??;
        Ok((Module { client, fill }, rx))
    }
}

/// Hands the log on until nobody wants it or it is broken. Once there is something, it is left for a
/// moment to become more, unless somebody waits for it: to be woken for each record, and to tell peers of
/// each response of a connection where the last one would do, costs more than all else.
fn read(mut ring: Ring, fill: &Fill, tx: &mpsc::Sender<Vec<Entry>>) {
    loop {
        fill.set(&ring);
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            match ring.next() {
                Ok(Some(e)) => batch.extend(entry(&e)),
                Ok(None) => break,
                Err(e) => {
                    eprintln!("holdfastd: {e}");
                    return;
                }
            }
        }
        let (idle, more) = (batch.is_empty(), batch.len() >= BATCH);
        if !idle && tx.blocking_send(batch).is_err() {
            return;
        }
        if idle && !wait(&ring, PollFlags::POLLIN, PollTimeout::NONE) {
            return;
        }
        if !more && !wait(&ring, PollFlags::POLLPRI, PATIENCE.into()) || tx.is_closed() {
            return;
        }
    }
}

/// Waits until the log is ready for `what`. Whether it can be read on.
fn wait(ring: &Ring, what: PollFlags, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(ring.as_fd(), what)];
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(e) => {
            eprintln!("holdfastd: polling the log: {e}");
            return false;
        }
    }
    let broken = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    !fds[0].revents().is_some_and(|r| r.intersects(broken))
}

/// An entry in the daemon's words. `None`: one that says nothing to it.
fn entry(e: &ring::Entry<'_>) -> Option<Entry> {
    let r = &e.record;
    let (pos, ack) = (r.pos, r.ack);
    let has = |flag| r.flags & flag != 0;
    let ts = has(flags::TIMESTAMPS).then_some((r.tsval, r.tsecr));
    let data = || e.data.to_vec();
    let desc = || {
        let d = FlowDesc::from_data(e.data)?;
        Some(Desc {
            key: d.key,
            generation: d.generation,
            options: d.options,
        })
    };
    // The low halves are what the packet said.
    let word = Word {
        ack: pos as u32,
        seq: ack as u32,
        payload: has(flags::PAYLOAD),
        sacked: has(SACKED),
    };
    let what = match e.kind {
        Kind::Pad => return None,
        Kind::Opened => What::Opened {
            desc: desc()?,
            start: pos,
            request: ack,
            ts,
        },
        Kind::C2s => What::C2s {
            pos,
            ack,
            data: data(),
            ts,
        },
        Kind::S2c if e.data.is_empty() && has(flags::HELD) => What::Closing { pos, ack },
        Kind::S2c => What::S2c {
            pos,
            ack,
            data: data(),
        },
        Kind::Object => What::Object {
            start: pos,
            request: ack,
        },
        Kind::Orphan => What::Orphan {
            desc: desc()?,
            word,
            ts,
        },
        Kind::Located => What::Located {
            desc: desc()?,
            word,
            ts,
        },
        Kind::Asked => What::Asked,
        Kind::Answer => What::Answer {
            pos,
            data: data(),
            fin: has(flags::FIN),
        },
        Kind::Spliced => What::Spliced { pos },
        Kind::Failed => What::Failed {
            why: failure(r.window),
        },
        Kind::Closed => What::Closed {
            ended: has(flags::FIN) || has(flags::RST),
        },
        Kind::Progress => What::Progress { acked: pos, ts },
        Kind::Lost => What::Lost { acked: pos },
        Kind::Unprotected => What::Unprotected { reason: r.window },
    };
    let time = i64::try_from(r.time).unwrap_or(i64::MAX);
    Some(Entry {
        flow: r.flow,
        time,
        lost: r.lost,
        what,
    })
}

fn failure(reason: u32) -> Failure {
    match reason {
        r if r == Counter::GhostLost as u32 => Failure::Server,
        r if r == Counter::Unlocated as u32 => Failure::Silent,
        other => Failure::Reset(other),
    }
}

fn refused(e: Error) -> Refused {
    if e.is_again() {
        Refused::Again
    } else if e.is_invalid() {
        Refused::Misfit(e.to_string())
    } else {
        Refused::Other(e.to_string())
    }
}

fn claim(record: &Record, c2s_next: u64, age_ms: u32) -> Claim {
    let clock = record.clock.filter(|_| record.options.timestamps);
    Claim {
        key: record.key,
        generation: record.generation,
        c2s_next,
        options: record.options,
        clock: clock.map(|c| ClientClock {
            tsval: c.tsval,
            tsecr: c.tsecr,
            age_ms,
        }),
    }
}

impl Kernel for Module {
    fn service_add(&mut self, s: &Service) -> Result<(), Refused> {
        let config = ServiceConfig {
            service: SocketAddr::new(s.address.addr, s.port),
            mode: Some(match s.mode {
                Mode::Observe => types::Mode::Observe,
                Mode::Protect => types::Mode::Protect,
            }),
            commit: Some(match s.commit {
                Commit::Eager => types::Commit::Eager,
                Commit::Strict => types::Commit::Strict,
            }),
            hold_ms: Some(s.hold_ms),
            verdict_ms: Some(s.verdict_ms),
            head_limit: Some(s.head_limit),
            request_limit: Some(s.request_limit),
            excerpt: Some(Excerpt {
                head_end: *b"\r\n\r\n",
                body_whole: BODY_LIMIT as u32,
                body_part: kept_of_body(s.deterministic) as u32,
            }),
        };
        self.client.service_add(&config).map(drop).map_err(refused)
    }

    fn service_del(&mut self, service: SocketAddr) -> Result<(), Refused> {
        match self.client.service_del(service) {
            // It went by other hands.
            Err(e) if e.is_not_found() => Ok(()),
            other => other.map_err(refused),
        }
    }

    fn stats(&mut self) -> Result<Vec<(String, u64)>, Refused> {
        let stats = self.client.stats().map_err(refused)?;
        Ok(stats.into_iter().map(|s| (s.name, s.value)).collect())
    }

    fn log_fill(&self) -> (u64, u64) {
        self.fill.get()
    }

    fn flows(&mut self) -> Result<Vec<FlowInfo>, Refused> {
        let flows = self.client.flows().map_err(refused)?.items;
        let now = monotonic();
        let info = |f: types::FlowInfo| FlowInfo {
            id: f.id,
            key: f.key,
            generation: f.generation,
            options: f.options,
            // Of a client that was not heard yet they are 0.
            clock: (f.options.timestamps && (f.tsval, f.tsecr) != (0, 0)).then_some(Clock {
                tsval: f.tsval,
                tsecr: f.tsecr,
                heard: now - i64::from(f.ts_age) * 1_000_000,
            }),
            c2s_next: f.c2s_next,
            s2c_acked: f.s2c_acked,
            open: f.phase == Phase::Open,
            opening: f.phase == Phase::Opening,
        };
        Ok(flows.into_iter().map(info).collect())
    }

    fn commit(&mut self, releases: &[(u64, FlowKey, Release)]) -> Result<(), Refused> {
        let release = |&(id, key, r): &(u64, FlowKey, Release)| types::Release {
            id: Some(id),
            key,
            object_start: r.object_start,
            object_end: r.object_end,
            unprotected: r.unprotected,
            ack_release: r.ack_release,
            broken_off: r.broken_off,
        };
        let all: Vec<_> = releases.iter().map(release).collect();
        self.client.flow_commit(&all).map_err(refused)
    }

    fn locate(&mut self, record: &Record, age_ms: u32, probe_seq: u32) -> Result<u64, Refused> {
        let claim = claim(record, record.request_end(), age_ms);
        let locate = types::Locate {
            claim,
            probe_seq,
            // It was not followed any further.
            anywhere: matches!(record.state, State::Unprotected(_)),
        };
        let flow = self.client.flow_locate(&locate);
        flow.map(|f| f.id).map_err(refused)
    }

    fn recover(&mut self, ask: &Recover<'_>) -> Result<u64, Refused> {
        let recover = types::Recover {
            claim: claim(ask.record, ask.c2s_next, ask.ts_age),
            at: ask.at,
            request: ask.request,
            answer_window: (!ask.request.is_empty()).then_some(ask.window),
            local_port: ask.local_port,
        };
        self.client
            .flow_recover(&recover)
            .map(|f| f.id)
            .map_err(refused)
    }

    fn join(&mut self, s: &Splice<'_>) -> Result<(), Refused> {
        let join = types::Join {
            id: Some(s.id),
            key: s.key,
            prefix: s.prefix,
            answer_length: s.answer_length,
            skip: s.skip,
            object_start: Some(s.object_start),
            object_end: s.object_end,
        };
        self.client.flow_join(&join).map_err(refused)
    }

    fn end(&mut self, flow: Option<u64>, key: &FlowKey, verdict: Verdict) -> Result<(), Refused> {
        let verdict = match verdict {
            Verdict::Pass => types::Verdict::Pass,
            Verdict::Reset => types::Verdict::Reset,
            Verdict::Abandon => types::Verdict::Abandon,
        };
        match self.client.flow_end(flow, key, verdict) {
            // It went by itself in the meantime.
            Err(e) if e.is_not_found() => Ok(()),
            other => other.map_err(refused),
        }
    }
}
