// SPDX-License-Identifier: GPL-2.0

//! Packets on both ways at once, for tests, fuzzers and the simulator: what takes the
//! [express way](super::express) must come out as it does of the long one.

use super::counter::Counter;
use super::effects::{Effects, Verdict};
use super::express::Around;
use super::flow::{Env, Flow};
use super::plain::{Name, Plain, MAX_PLAIN, V4, V6};
use super::wire::{port_of, Csum, Dir, Packet, WireError};
use ::core::cell::Cell;

/// A packet that is read where its headers lie.
struct Lying<'a> {
    env: &'a Env,
    at: usize,
    plain: Plain,
    headers: &'a mut [u8],
    csum: Csum,
    lowered: Cell<usize>,
}

impl Around for Lying<'_> {
    fn now(&self) -> u64 {
        self.env.now
    }

    fn has_reader(&self) -> bool {
        self.env.policy.reader
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

impl Flow {
    /// Shows `bytes`, a packet in direction `dir`, as [`Flow::hear_client`] and
    /// [`Flow::hear_service`] do; `fx` has nothing in it yet. Whatever can take the express way
    /// takes it, too. Returns the verdict, and whether it could.
    ///
    /// # Errors
    /// As [`Packet::parse`].
    ///
    /// # Panics
    /// Both ways differ.
    pub fn both_ways(
        &mut self,
        bytes: &mut [u8],
        csum: Csum,
        dir: Dir,
        env: &Env,
        fx: &mut Effects,
    ) -> Result<(Verdict, bool), WireError> {
        let total = bytes.len() as u32;
        let (was, mut other) = (*self, *self);
        let mut headers = [0; MAX_PLAIN];
        let n = bytes.len().min(MAX_PLAIN);
        let (headers, _) = headers.split_at_mut(n);
        headers.copy_from_slice(&bytes[..n]);

        let (plain, at) = match port_of(headers, dir) {
            None => (None, 0),
            Some((_, false)) => {
                let name = Name::of::<V4>(headers, dir);
                (name.zip(Plain::read::<V4>(headers, total)), V4)
            }
            Some((_, true)) => {
                let name = Name::of::<V6>(headers, dir);
                (name.zip(Plain::read::<V6>(headers, total)), V6)
            }
        };
        let mut lowered = 0;
        let express = plain.is_some_and(|(_, plain)| {
            let mut around = Lying {
                env,
                at,
                plain,
                headers,
                csum,
                lowered: Cell::new(0),
            };
            let express = match dir {
                Dir::ToService => other.express_c2s(&plain, &mut around),
                Dir::ToClient => other.express_s2c(&plain, &mut around),
            };
            lowered = around.lowered.get();
            express
        });
        if !express {
            assert_eq!((&*headers, other, lowered), (&bytes[..n], was, 0));
        }

        let parsed = Packet::parse(bytes, total, csum);
        assert!(parsed.is_ok() || !express, "{plain:?}");
        let mut p = parsed?;
        if let Some((Name(words), plain)) = plain {
            let key = p.key(dir);
            let named = key.to_bytes();
            assert!(words.iter().flat_map(|w| w.to_ne_bytes()).eq(named));
            assert!(Name(words).is_of(&key.service()));
            let len = p.header().len();
            assert_eq!((plain.len, at), (p.payload_len(), p.tcp_offset() as usize));
            assert!(plain.header_len::<V4>() == len || plain.header_len::<V6>() == len);
        }
        let verdict = match dir {
            Dir::ToService => self.hear_client(&mut p, env, fx),
            Dir::ToClient => self.hear_service(&mut p, env, fx),
        };
        if express {
            let so = (verdict, *self, &bytes[..n]);
            assert_eq!(so, (Verdict::Accept, other, &*headers), "{was:?} {plain:?}");
            let mut only = Effects::new();
            (0..lowered).for_each(|_| only.count(Counter::AckLowered));
            assert!(*fx == only, "{was:?} {plain:?} {fx:?}");
        }
        Ok((verdict, express))
    }
}
