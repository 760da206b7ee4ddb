// SPDX-License-Identifier: GPL-2.0

//! Packets on both ways at once, for tests, fuzzers and the simulator: what takes the
//! [express way](super::express) must come out as it does of the long one.

use super::brief::Briefed;
use super::counter::Counter;
use super::effects::{Effects, Verdict};
use super::express::Around;
use super::flow::{Env, Flow};
use super::plain::{header_len, Name, Plain, MAX_PLAIN, V4, V6};
use super::wire::{port_of, Csum, Dir, Packet, WireError};
use ::core::cell::Cell;

/// A packet that is read where its headers lie.
struct Lying<'a> {
    env: &'a Env,
    at: usize,
    plain: Plain,
    headers: &'a mut [u8],
    csum: Csum,
    writable: bool,
    waits: bool,
    lowered: Cell<usize>,
}

impl Around for Lying<'_> {
    fn read_at(&self) -> u64 {
        if self.waits {
            self.env.now
        } else {
            0
        }
    }

    fn now(&self) -> u64 {
        self.env.now
    }

    fn has_reader(&self) -> bool {
        self.env.policy.reader
    }

    fn is_writable(&self) -> bool {
        self.writable
    }

    fn count(&self, counter: Counter) {
        assert_eq!(counter, Counter::AckLowered);
        self.lowered.set(self.lowered.get() + 1);
    }

    fn write(&mut self, new: &Plain) -> bool {
        match self.at {
            V4 => self.plain.write::<V4>(new, self.headers, self.csum),
            _ => self.plain.write::<V6>(new, self.headers, self.csum),
        }
    }
}

/// A packet that was read, and where from.
#[derive(Clone, Copy)]
struct Read<'a> {
    bytes: &'a [u8],
    at: usize,
    plain: Plain,
    csum: Csum,
    dir: Dir,
    env: &'a Env,
}

/// What has become of it on the express way.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    flow: Flow,
    headers: Front,
    lowered: usize,
}

/// The headers of a packet.
type Front = ([u8; MAX_PLAIN], usize);

/// The headers of a packet that begins with `bytes`.
fn headers(bytes: &[u8]) -> Front {
    let mut headers = [0; MAX_PLAIN];
    let n = bytes.len().min(MAX_PLAIN);
    headers[..n].copy_from_slice(&bytes[..n]);
    (headers, n)
}

impl Read<'_> {
    /// Shows it to `flow` on the express way, if that may be.
    fn pass<const CALM: bool>(&self, mut flow: Briefed) -> Option<Passed> {
        let was = flow;
        let (mut copy, n) = headers(self.bytes);
        let brief = flow.brief();
        let mut around = Lying {
            env: self.env,
            at: self.at,
            plain: self.plain,
            headers: &mut copy[..n],
            csum: self.csum,
            writable: match (CALM, self.dir) {
                (true, _) => brief.moves(),
                (false, Dir::ToService) => flow.changes_c2s(),
                (false, Dir::ToClient) => flow.changes_s2c(),
            },
            waits: !CALM && flow.waits(),
            lowered: Cell::new(0),
        };
        let taken = match self.dir {
            Dir::ToService => flow.express_c2s::<CALM>(&self.plain, &mut around),
            Dir::ToClient => flow.express_s2c::<CALM>(&self.plain, &mut around),
        };
        assert!(!flow.is_stale(), "{was:?} {:?}", self.plain);
        let lowered = around.lowered.get();
        let passed = Passed {
            flow: *flow,
            headers: (copy, n),
            lowered,
        };
        if !taken {
            let same = (*was, headers(self.bytes), 0);
            assert_eq!((passed.flow, passed.headers, lowered), same);
        }
        taken.then_some(passed)
    }
}

impl Briefed {
    /// Shows `bytes`, a packet in direction `dir`, as [`Flow::hear_client`] and
    /// [`Flow::hear_service`] do; `fx` has nothing in it yet. Whatever can take the express way
    /// takes it, too, both with the brief and without. Returns the verdict, and whether it could.
    ///
    /// # Errors
    /// As [`Packet::parse`].
    ///
    /// # Panics
    /// The ways differ, or the brief is not that of the flow.
    pub fn both_ways(
        &mut self,
        bytes: &mut [u8],
        csum: Csum,
        dir: Dir,
        env: &Env,
        fx: &mut Effects,
    ) -> Result<(Verdict, bool), WireError> {
        assert!(!self.is_stale(), "{self:?}");
        let brief = self.brief();
        let total = bytes.len() as u32;
        let was = *self;
        let (front, n) = headers(bytes);
        let front = &front[..n];
        let found = match port_of(front, dir) {
            None => None,
            Some((_, false)) => {
                let plain = Plain::read::<V4>(front, total);
                Name::of::<V4>(front, dir)
                    .zip(plain)
                    .map(|(n, p)| (n, p, V4))
            }
            Some((_, true)) => {
                let plain = Plain::read::<V6>(front, total);
                Name::of::<V6>(front, dir)
                    .zip(plain)
                    .map(|(n, p)| (n, p, V6))
            }
        };
        let passed = found.and_then(|(_, plain, at)| {
            let read = Read {
                bytes: front,
                at,
                plain,
                csum,
                dir,
                env,
            };
            let passed = read.pass::<false>(was);
            if brief.is_calm(dir, plain.ts.is_some()) {
                assert_eq!(passed, read.pass::<true>(was), "{was:?} {plain:?}");
            }
            passed
        });

        let parsed = Packet::parse(bytes, total, csum);
        assert!(parsed.is_ok() || passed.is_none(), "{found:?}");
        let mut p = parsed?;
        if let Some((name, plain, at)) = found {
            let key = p.key(dir);
            let named = key.to_bytes();
            assert!(name.0.iter().flat_map(|w| w.to_ne_bytes()).eq(named));
            assert!(name.is_of(&key.service()));
            if at == V4 {
                let [client, service, ports] = name.ipv4();
                let short = [&client, &named[4..16], &service, &named[20..32], &ports];
                assert!(named[..36].iter().eq(short.into_iter().flatten()));
            }
            let len = p.header().len();
            assert_eq!((plain.len, at), (p.payload_len(), p.tcp_offset() as usize));
            let stamped = plain.ts.is_some();
            assert!(header_len::<V4>(stamped) == len || header_len::<V6>(stamped) == len);
        }
        let verdict = match dir {
            Dir::ToService => self.hear_client(&mut p, env, fx),
            Dir::ToClient => self.hear_service(&mut p, env, fx),
        };
        let express = passed.is_some();
        if let Some(passed) = passed {
            let so = (verdict, **self, headers(bytes));
            let express = (Verdict::Accept, passed.flow, passed.headers);
            assert_eq!(so, express, "{was:?} {found:?}");
            let mut only = Effects::new();
            (0..passed.lowered).for_each(|_| only.count(Counter::AckLowered));
            assert!(*fx == only, "{was:?} {found:?} {fx:?}");
        }
        // What comes next meets a brief.
        self.brief();
        Ok((verdict, express))
    }
}
