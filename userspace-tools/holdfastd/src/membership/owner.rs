// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Who owns which address: claims that are heard, offered, taken and let go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Change, Health, Membership, Peer, Time, CALM};

/// How long a node that has just been drained takes its addresses back if nobody else is there:
/// its successor may die before it has done anything.
const GRACE: Duration = Duration::from_secs(10);

/// Who has an address, and the generation of the claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Owner {
    /// Who, as far as known: a peer, or this node.
    pub(super) name: Option<String>,
    pub(super) generation: u32,
}

impl Owner {
    /// `name` claims the address after whoever had it.
    pub(super) fn succeed(&mut self, addr: IpAddr, name: &str) -> Change {
        let from = self.name.replace(name.to_owned());
        // Only a peer that lies has come so far; its claim then stands until it dies.
        self.generation = self.generation.saturating_add(1);
        let generation = self.generation;
        Change::Take {
            addr,
            generation,
            from,
        }
    }
}

impl Membership {
    /// Whether this node owns `addr`.
    pub fn owns(&self, addr: IpAddr) -> bool {
        self.owners
            .get(&addr)
            .is_some_and(|o| o.name.as_deref() == Some(&*self.name))
    }

    /// The owner of each address and the generation of its claim.
    pub fn owners(&self) -> impl Iterator<Item = (IpAddr, Option<&str>, u32)> {
        self.owners
            .iter()
            .map(|(a, o)| (*a, o.name.as_deref(), o.generation))
    }

    /// There is one more address to own.
    pub fn add_address(&mut self, addr: IpAddr) {
        let claim = |(name, p): (&String, &Peer)| {
            let (_, generation) = p.claims.iter().find(|(a, _)| *a == addr)?;
            Some((*generation, name.clone()))
        };
        // Some may have it already.
        let owner = self.peers.iter().filter_map(claim).max_by_key(|(g, _)| *g);
        let owner = owner.map_or_else(Owner::default, |(generation, name)| Owner {
            name: Some(name),
            generation,
        });
        self.owners.entry(addr).or_insert(owner);
    }

    /// An address is nobody's business any more.
    pub fn remove_address(&mut self, addr: IpAddr) {
        self.owners.remove(&addr);
        self.external.remove(&addr);
    }

    /// Takes up an address that this node already has, after a restart.
    pub fn resume(&mut self, addr: IpAddr, generation: u32) {
        if let Some(owner) = self.owners.get_mut(&addr) {
            *owner = Owner {
                name: Some(self.name.clone()),
                generation,
            };
        }
    }

    /// The generation of a claim that follows this node's own claim of `addr`.
    pub fn successor_generation(&self, addr: IpAddr) -> Option<u32> {
        let owner = self.owners.get(&addr).filter(|_| self.owns(addr))?;
        Some(owner.generation.saturating_add(1))
    }

    /// The owner `from` offers `addr`: this node takes it, unless it takes none or knows of a
    /// newer claim.
    pub fn accept(&mut self, from: &str, addr: IpAddr, generation: u32) -> Option<Change> {
        let free = self.drained.is_none() && !self.leaving;
        let free = free && !self.is_external(addr);
        let owner = self.owners.get_mut(&addr).filter(|_| free)?;
        if owner.name.as_deref() != Some(from) || generation <= owner.generation {
            return None;
        }
        let from = owner.name.replace(self.name.clone());
        owner.generation = generation;
        Some(Change::Take {
            addr,
            generation,
            from,
        })
    }

    /// Withdraws the offer of `addr`: this node's claim is newer than what it had offered.
    pub fn reclaim(&mut self, addr: IpAddr) {
        if self.owns(addr) {
            if let Some(owner) = self.owners.get_mut(&addr) {
                owner.generation = owner.generation.saturating_add(2);
            }
        }
    }

    pub(super) fn claimed(
        &mut self,
        who: &str,
        priority: u32,
        addr: IpAddr,
        generation: u32,
    ) -> Option<Change> {
        let (me, mine) = (self.name.clone(), self.priority);
        let owner = self.owners.get_mut(&addr)?;
        let ours = owner.name.as_deref() == Some(&*me);
        let stronger = generation > owner.generation
            || (generation == owner.generation && (!ours || priority < mine));
        if !stronger {
            return None;
        }
        *owner = Owner {
            name: Some(who.to_owned()),
            generation,
        };
        ours.then(|| Change::Yield {
            addr,
            to: who.to_owned(),
        })
    }

    /// An owner that lives and does not claim its address any more has let it go.
    pub(super) fn release_unclaimed(&mut self, who: &str) {
        let Some(p) = self.peers.get(who) else { return };
        for (addr, owner) in &mut self.owners {
            let gone = !p.claims.iter().any(|(a, _)| a == addr);
            if owner.name.as_deref() == Some(who) && gone {
                owner.name = None;
            }
        }
    }

    pub(super) fn take_unowned(&mut self, now: Time, changes: &mut Vec<Change>) {
        let lives = |p: &Peer| matches!(p.health, Health::Alive | Health::Suspect | Health::Mute);
        let able = |p: &Peer| {
            matches!(p.health, Health::Alive | Health::Suspect) && p.connected && !p.drained
        };
        let connected = (self.connected(now, false), self.connected(now, true));
        let last = match self.drained {
            Some(since) if now.saturating_sub(since) > GRACE => return,
            drained => drained.is_some(),
        };
        let first = !self
            .peers
            .values()
            .any(|p| able(p) && (last || p.priority < self.priority));
        for (addr, owner) in &mut self.owners {
            let owned = match &owner.name {
                None => false,
                Some(name) => *name == self.name || self.peers.get(name).is_some_and(lives),
            };
            // A node that hears nothing but is heard: it, or we, cannot be reached.
            let heard = owner.name.as_ref().and_then(|name| self.peers.get(name));
            let connected = match heard.is_some_and(|p| p.deaf) {
                true => connected.1,
                false => connected.0,
            };
            if owned || !first || !connected || self.external.contains_key(addr) {
                continue;
            }
            changes.push(owner.succeed(*addr, &self.name));
        }
    }

    /// A node that clients cannot reach leaves its addresses to one that they can: heartbeats may
    /// travel over another link than clients do.
    pub(super) fn let_go_if_cut_off(&mut self, now: Time, changes: &mut Vec<Change>) {
        // By then the others have said that they are cut off too, if the gateway is what died.
        let sure = CALM + self.silence() * 2 + self.interval;
        if self.reached.is_none_or(|at| now.saturating_sub(at) < sure) {
            return;
        }
        let able =
            |p: &&(&String, &Peer)| p.1.health == Health::Alive && p.1.connected && !p.1.drained;
        let first = self
            .peers
            .iter()
            .filter(|p| able(&p))
            .min_by_key(|p| p.1.priority);
        let Some((to, _)) = first else { return };
        for (addr, owner) in &mut self.owners {
            let ours = owner.name.as_deref() == Some(&*self.name);
            if ours && !self.external.contains_key(addr) {
                owner.name = None;
                let (addr, to) = (*addr, to.clone());
                changes.push(Change::Yield { addr, to });
            }
        }
    }
}

/// Whether `name` is the owner of `addr`, as far as known.
pub(super) fn is_owner(owners: &BTreeMap<IpAddr, Owner>, addr: IpAddr, name: &str) -> bool {
    let owner = owners.get(&addr);
    owner.is_some_and(|o| o.name.as_deref() == Some(name))
}
