// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Who is alive, and who owns which address. Pure: time is given, changes are returned.
//!
//! A node is dead when nothing was heard of it for `misses` heartbeats. The owner of an
//! address says so in its heartbeats, with the generation of its claim. An address without
//! a living owner goes to the first living node by priority; a node that comes back does not
//! take it from the one that has it. Of two owners the higher generation stays, then the
//! lower priority number; the other one lets go.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time since an arbitrary moment on this node.
pub type Time = Duration;

/// How long a node that stops in order may be silent.
const RESTART: Duration = Duration::from_secs(10);

/// Sessions of a node that are remembered so that their heartbeats are not taken again.
const OLD_SESSIONS: usize = 256;

/// What a heartbeat says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Name of the sender.
    pub from: String,
    /// Of this start of the sender's machine.
    pub boot: u64,
    /// Random number of this start of the sender.
    pub session: u64,
    /// Counts the heartbeats of the session.
    pub seq: u64,
    /// The receiver's session as the sender knows it: proves that this is no recording.
    pub echo: Option<u64>,
    /// Addresses that the sender owns, and the generation of each claim.
    pub claims: Vec<(IpAddr, u32)>,
    /// The sender stops in order; its kernel goes on.
    pub leaving: bool,
}

/// Something that the daemon must act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node was heard, for the first time or again.
    Alive(String),
    /// A heartbeat is late.
    Suspect(String),
    /// A node is dead, silent for so long.
    Dead(String, Duration),
    /// This node becomes the owner of an address.
    Take {
        addr: IpAddr,
        generation: u32,
        from: Option<String>,
    },
    /// This node is no more the owner of an address.
    Yield { addr: IpAddr, to: String },
}

/// Whether a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not heard yet.
    Unknown,
    /// Heard in time.
    Alive,
    /// Late.
    Suspect,
    /// Silent for too long.
    Dead,
}

#[derive(Debug)]
struct Peer {
    priority: u32,
    health: Health,
    heard: Time,
    boot: u64,
    session: Option<u64>,
    seq: u64,
    old: HashSet<u64>,
    /// What we say to it so that it knows that we are no recording.
    echo: Option<u64>,
    claims: Vec<(IpAddr, u32)>,
    leaving: bool,
}

#[derive(Clone, Debug, Default)]
struct Owner {
    /// Who, as far as known: a peer, or this node.
    name: Option<String>,
    generation: u32,
}

/// The state of the group as this node sees it.
#[derive(Debug)]
pub struct Membership {
    name: String,
    priority: u32,
    boot: u64,
    session: u64,
    seq: u64,
    interval: Duration,
    misses: u32,
    peers: BTreeMap<String, Peer>,
    owners: BTreeMap<IpAddr, Owner>,
    started: Time,
    ticked: Time,
    leaving: bool,
}

impl Membership {
    /// A group in which nothing was heard yet. `session`: random.
    pub fn new(
        (name, priority): (&str, u32),
        peers: impl IntoIterator<Item = (String, u32)>,
        addrs: impl IntoIterator<Item = IpAddr>,
        (interval, misses): (Duration, u32),
        (boot, session): (u64, u64),
        now: Time,
    ) -> Self {
        let peer = |priority| Peer {
            priority,
            health: Health::Unknown,
            heard: now,
            boot: 0,
            session: None,
            seq: 0,
            old: HashSet::new(),
            echo: None,
            claims: Vec::new(),
            leaving: false,
        };
        Membership {
            name: name.to_owned(),
            priority,
            boot,
            session,
            seq: 0,
            interval,
            misses,
            peers: peers.into_iter().map(|(n, p)| (n, peer(p))).collect(),
            owners: addrs.into_iter().map(|a| (a, Owner::default())).collect(),
            started: now,
            ticked: now,
            leaving: false,
        }
    }

    /// What to say to `peer` now.
    pub fn beat(&mut self, peer: &str) -> Beat {
        self.seq += 1;
        let ours = |o: &Owner| o.name.as_deref() == Some(&*self.name);
        Beat {
            from: self.name.clone(),
            boot: self.boot,
            session: self.session,
            seq: self.seq,
            echo: self.peers.get(peer).and_then(|p| p.echo),
            claims: self
                .owners
                .iter()
                .filter(|(_, o)| ours(o))
                .map(|(a, o)| (*a, o.generation))
                .collect(),
            leaving: self.leaving,
        }
    }

    /// From now on heartbeats say that this node stops in order.
    pub fn leave(&mut self) {
        self.leaving = true;
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

    /// Takes in a heartbeat whose seal was right.
    pub fn hear(&mut self, beat: &Beat, now: Time) -> Vec<Change> {
        let Some(p) = self.peers.get_mut(&beat.from) else {
            return Vec::new();
        };
        if p.old.contains(&beat.session) {
            return Vec::new();
        }
        p.echo = Some(beat.session);
        // Until it has heard us, what it says could have been recorded long ago.
        if beat.echo != Some(self.session) {
            return Vec::new();
        }
        if p.session == Some(beat.session) {
            if beat.seq <= p.seq {
                return Vec::new();
            }
        } else if let Some(old) = p.session.replace(beat.session) {
            if p.old.len() < OLD_SESSIONS {
                p.old.insert(old);
            }
        }
        let mut changes = Vec::new();
        let rebooted = p.boot != 0 && p.boot != beat.boot;
        let silent = now.saturating_sub(p.heard);
        p.seq = beat.seq;
        p.boot = beat.boot;
        p.heard = now;
        p.leaving = beat.leaving;
        p.claims.clone_from(&beat.claims);
        if rebooted && p.health != Health::Dead {
            // Its connections died with its kernel, however fast it was back.
            changes.push(Change::Dead(beat.from.clone(), silent));
            p.health = Health::Dead;
            p.claims.clear();
        }
        if p.health != Health::Alive {
            if p.health != Health::Suspect {
                changes.push(Change::Alive(beat.from.clone()));
            }
            p.health = Health::Alive;
        }
        let (claims, priority) = (p.claims.clone(), p.priority);
        if rebooted {
            for owner in self.owners.values_mut() {
                if owner.name.as_deref() == Some(&*beat.from) {
                    owner.name = None;
                }
            }
        }
        for (addr, generation) in claims {
            changes.extend(self.claimed(&beat.from, priority, addr, generation));
        }
        self.release_unclaimed(&beat.from);
        changes
    }

    fn claimed(
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
    fn release_unclaimed(&mut self, who: &str) {
        let Some(p) = self.peers.get(who) else { return };
        for (addr, owner) in &mut self.owners {
            let gone = !p.claims.iter().any(|(a, _)| a == addr);
            if owner.name.as_deref() == Some(who) && gone {
                owner.name = None;
            }
        }
    }

    /// Lets time pass. To be called several times in an interval.
    pub fn tick(&mut self, now: Time) -> Vec<Change> {
        let dead_after = self.interval * self.misses;
        let pause = now.saturating_sub(self.ticked);
        self.ticked = now;
        if pause > self.interval {
            // We were not running: silence proves nothing of that time.
            for p in self.peers.values_mut() {
                p.heard = (p.heard + pause).min(now);
            }
            self.started = (self.started + pause).min(now);
        }
        let mut changes = Vec::new();
        for (name, p) in &mut self.peers {
            let silent = now.saturating_sub(p.heard);
            let limit = if p.leaving {
                dead_after + RESTART
            } else {
                dead_after
            };
            match p.health {
                Health::Alive | Health::Suspect if silent >= limit => {
                    p.health = Health::Dead;
                    p.claims.clear();
                    changes.push(Change::Dead(name.clone(), silent));
                }
                Health::Alive if silent > self.interval * 3 / 2 && !p.leaving => {
                    p.health = Health::Suspect;
                    changes.push(Change::Suspect(name.clone()));
                }
                _ => {}
            }
        }
        // Give those that are there the time to say so, and to say what they own.
        if now.saturating_sub(self.started) >= dead_after * 3 && !self.leaving {
            self.take_unowned(&mut changes);
        }
        changes
    }

    fn take_unowned(&mut self, changes: &mut Vec<Change>) {
        let lives = |p: &Peer| matches!(p.health, Health::Alive | Health::Suspect);
        let first = !self
            .peers
            .values()
            .any(|p| lives(p) && p.priority < self.priority);
        for (addr, owner) in &mut self.owners {
            let owned = match &owner.name {
                None => false,
                Some(name) => *name == self.name || self.peers.get(name).is_some_and(lives),
            };
            if owned || !first {
                continue;
            }
            let from = owner.name.replace(self.name.clone());
            owner.generation += 1;
            let (addr, generation) = (*addr, owner.generation);
            changes.push(Change::Take {
                addr,
                generation,
                from,
            });
        }
    }

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

    /// Whether `peer` can be counted on.
    pub fn is_alive(&self, peer: &str) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|p| p.health == Health::Alive)
    }

    /// Each peer's health, and how long ago it was heard.
    pub fn peers(&self, now: Time) -> impl Iterator<Item = (&str, Health, Duration)> {
        self.peers
            .iter()
            .map(move |(n, p)| (&**n, p.health, now.saturating_sub(p.heard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));
    const MS: Duration = Duration::from_millis(1);

    /// Nodes that hear each other, but for those that are cut off.
    struct Group {
        nodes: Vec<Membership>,
        now: Time,
        dead: HashSet<usize>,
        log: Vec<(usize, u128, Change)>,
    }

    fn node(i: usize, n: usize, now: Time, session: u64) -> Membership {
        let name = |i: usize| format!("n{i}");
        let peers = (0..n).filter(|j| *j != i).map(|j| (name(j), j as u32));
        let peers: Vec<_> = peers.collect();
        Membership::new(
            (&name(i), i as u32),
            peers,
            [VIP],
            (MS * 50, 3),
            (1 + i as u64, session),
            now,
        )
    }

    impl Group {
        fn new(n: usize) -> Self {
            let nodes = (0..n)
                .map(|i| node(i, n, Duration::ZERO, 100 + i as u64))
                .collect();
            Group {
                nodes,
                now: Duration::ZERO,
                dead: HashSet::new(),
                log: Vec::new(),
            }
        }

        fn run(&mut self, ms: u32) {
            for _ in 0..ms / 10 {
                self.now += MS * 10;
                let beat = self.now.as_millis() % 50 == 0;
                for i in 0..self.nodes.len() {
                    if self.dead.contains(&i) {
                        continue;
                    }
                    for j in 0..self.nodes.len() {
                        if beat && i != j && !self.dead.contains(&j) {
                            let b = self.nodes[i].beat(&format!("n{j}"));
                            let changes = self.nodes[j].hear(&b, self.now);
                            self.note(j, changes);
                        }
                    }
                    let changes = self.nodes[i].tick(self.now);
                    self.note(i, changes);
                }
            }
        }

        fn note(&mut self, node: usize, changes: Vec<Change>) {
            let at = self.now.as_millis();
            self.log.extend(changes.into_iter().map(|c| (node, at, c)));
        }

        fn owners(&self) -> Vec<usize> {
            (0..self.nodes.len())
                .filter(|i| !self.dead.contains(i) && self.nodes[*i].owns(VIP))
                .collect()
        }
    }

    #[test]
    fn the_first_by_priority_becomes_the_owner() {
        let mut g = Group::new(3);
        g.run(400);
        assert_eq!(g.owners(), Vec::<usize>::new(), "time to be heard");
        g.run(1000);
        assert_eq!(g.owners(), vec![0]);
    }

    #[test]
    fn the_next_one_takes_over_after_three_heartbeats() {
        let mut g = Group::new(3);
        g.run(1000);
        g.dead.insert(0);
        let died = g.now.as_millis();
        g.run(500);
        assert_eq!(g.owners(), vec![1]);
        let take = Change::Take {
            addr: VIP,
            generation: 2,
            from: Some("n0".into()),
        };
        let taken = g
            .log
            .iter()
            .find(|(n, _, c)| *n == 1 && *c == take)
            .expect("taken");
        assert!(taken.1 - died <= 160, "{} ms", taken.1 - died);
        let suspect = |(n, at, c): &&(usize, u128, Change)| {
            *n == 1 && *at > died && *c == Change::Suspect("n0".into())
        };
        assert!(g.log.iter().find(suspect).is_some_and(|s| s.1 < taken.1));
    }

    #[test]
    fn a_node_that_comes_back_does_not_preempt() {
        let mut g = Group::new(2);
        g.run(1000);
        g.dead.insert(0);
        g.run(500);
        g.nodes[0] = node(0, 2, g.now, 999);
        g.dead.clear();
        g.run(2000);
        assert_eq!(g.owners(), vec![1]);
    }

    #[test]
    fn of_two_owners_one_lets_go() {
        let mut g = Group::new(2);
        g.run(1000);
        // Each takes the other for dead.
        for i in 0..2 {
            g.dead = HashSet::from([1 - i]);
            g.run(500);
        }
        g.dead.clear();
        assert_eq!(g.owners(), vec![0, 1]);
        g.run(500);
        assert_eq!(g.owners(), vec![1], "the higher generation");
        assert!(g
            .log
            .iter()
            .any(|(n, _, c)| *n == 0 && matches!(c, Change::Yield { .. })));
    }

    #[test]
    fn a_recorded_heartbeat_is_not_life() {
        let mut g = Group::new(2);
        g.run(1000);
        let recorded = g.nodes[0].beat("n1");
        assert_eq!(g.nodes[1].hear(&recorded, g.now), vec![]);
        g.dead.insert(0);
        g.run(500);
        assert_eq!(g.nodes[1].hear(&recorded, g.now), vec![], "heard before");
        // Nor to a node that has just started, nor after the sender's restart.
        let mut fresh = node(1, 2, g.now, 7);
        assert_eq!(fresh.hear(&recorded, g.now), vec![]);
        g.nodes[0] = node(0, 2, g.now, 999);
        g.dead.clear();
        g.run(500);
        let old = Beat {
            seq: 1 << 40,
            ..recorded
        };
        let now = g.now + MS * 1000;
        g.nodes[1].hear(&old, now);
        assert!(g.nodes[1]
            .peers(now)
            .all(|(_, _, silent)| silent >= MS * 1000));
    }

    #[test]
    fn a_reboot_between_two_heartbeats_is_a_death() {
        let mut g = Group::new(2);
        g.run(1000);
        let mut again = node(0, 2, g.now, 5);
        again.boot = 77;
        again.peers.get_mut("n1").unwrap().echo = Some(101);
        let changes = g.nodes[1].hear(&again.beat("n1"), g.now);
        assert!(matches!(&changes[..], [Change::Dead(n, _), Change::Alive(_)] if n == "n0"));
    }

    #[test]
    fn our_own_pause_kills_nobody() {
        let mut g = Group::new(2);
        g.run(1000);
        let later = g.now + MS * 5000;
        assert_eq!(g.nodes[1].tick(later), vec![]);
    }

    #[test]
    fn a_node_that_restarts_in_order_is_waited_for() {
        let mut g = Group::new(2);
        g.run(1000);
        g.nodes[0].leave();
        g.run(100);
        g.dead.insert(0);
        g.run(5000);
        assert_eq!(g.owners(), Vec::<usize>::new());
        g.run(10_000);
        assert_eq!(g.owners(), vec![1]);
    }
}
