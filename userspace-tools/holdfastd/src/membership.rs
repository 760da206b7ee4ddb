// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Who is alive, and who owns which address. Pure: time is given, changes are returned.
//!
//! A node is dead when nothing was heard of it for `misses` heartbeats. The owner of an
//! address says so in its heartbeats, with the generation of its claim. An address without
//! a living owner goes to the first living node by priority; a node that comes back does not
//! take it from the one that has it. Of two owners the higher generation stays, then the
//! lower priority number; the other one lets go.
//!
//! Silence alone is not death: heartbeats may travel another way than clients do, a daemon may
//! have been killed, or it is this node that is cut off. While a node is late, the segment of
//! the service is asked who has its addresses ([`Membership::in_doubt`]). A machine that
//! answers is *mute*, and keeps them. A neighbour that always answered, the gateway, tells
//! whether this node is the one that is cut off; it takes nothing then.

mod external;
mod owner;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use external::External;
use owner::{is_owner, Owner};

use crate::wire::{Beat, VERSION};

/// Time since an arbitrary moment on this node.
pub type Time = Duration;

/// How long a node that stops in order may be silent.
const RESTART: Duration = Duration::from_secs(10);

/// So many times the silence of a dead node a node that starts takes nothing.
const STARTING: u32 = 3;

/// How often the gateway is asked while all is well.
pub const CALM: Duration = Duration::from_secs(1);

/// Sessions of a node that are remembered so that their heartbeats are not taken again.
const OLD_SESSIONS: usize = 256;

/// Something that the daemon must act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node was heard, for the first time or again.
    Alive(String),
    /// A heartbeat is late.
    Suspect(String),
    /// A node is silent for so long, but its machine answers for its addresses.
    Mute(String, Duration),
    /// A node is dead, silent for so long.
    Dead(String, Duration),
    /// A node that was taken for dead has lived all the time.
    NotDead(String),
    /// A node speaks this version from now on, no more that of before. At first it is taken for
    /// one of ours.
    Speaks(String, u16),
    /// A node has no link to this one, and had one: it lets bytes go without telling of them.
    Unlinked(String),
    /// This node becomes the owner of an address.
    Take {
        addr: IpAddr,
        generation: u32,
        from: Option<String>,
    },
    /// This node is no more the owner of an address.
    Yield { addr: IpAddr, to: String },
    /// A heartbeat was not taken.
    Vain(Vain),
}

/// Why a heartbeat whose seal was right was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vain {
    /// Its sender is none of the group.
    Stranger,
    /// It or a later one was heard before, or its sender has started anew since.
    Replayed,
    /// It does not say that its sender has heard us: it may have been recorded at any time.
    Unproven,
}

impl Vain {
    /// The name of its count.
    pub const fn counter(self) -> &'static str {
        match self {
            Vain::Stranger => "heartbeats-stranger",
            Vain::Replayed => "heartbeats-replayed",
            Vain::Unproven => "heartbeats-unproven",
        }
    }
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
    /// Silent, but its machine answers for its addresses.
    Mute,
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
    gone: Vec<IpAddr>,
    /// Of updates and records.
    version: u16,
    /// Its daemon, for people.
    release: String,
    leaving: bool,
    /// It says that it does not hear us.
    deaf: bool,
    /// It says that it is not cut off.
    connected: bool,
    /// When anything of it has last arrived; `heard` is when it last heard us too.
    arrived: Time,
    /// When a machine has last answered for one of its addresses.
    answered: Option<Time>,
    drained: bool,
    /// It has had a link to us in this session.
    linked: bool,
}

impl Peer {
    fn new(priority: u32, now: Time) -> Self {
        Peer {
            priority,
            health: Health::Unknown,
            heard: now,
            boot: 0,
            session: None,
            seq: 0,
            old: HashSet::new(),
            echo: None,
            claims: Vec::new(),
            gone: Vec::new(),
            version: VERSION,
            release: String::new(),
            leaving: false,
            deaf: false,
            connected: false,
            arrived: now,
            answered: None,
            drained: false,
            linked: false,
        }
    }

    /// The silence after which it is dead, where others are after `dead`.
    fn limit(&self, dead: Duration) -> Duration {
        match self.leaving {
            true => dead + RESTART,
            false => dead,
        }
    }
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
    /// Addresses of which this node only follows who has them.
    external: BTreeMap<IpAddr, External>,
    started: Time,
    ticked: Time,
    leaving: bool,
    /// When the gateway has last answered; `None`: it never has, so its silence says nothing.
    reached: Option<Time>,
    /// Since when not all is well.
    uneasy: Option<Time>,
    /// The gateway has stopped answering.
    cut_off: bool,
    /// When it began to answer again.
    back: Option<Time>,
    /// Since when this node takes no addresses.
    drained: Option<Time>,
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
        Membership {
            name: name.to_owned(),
            priority,
            boot,
            session,
            seq: 0,
            interval,
            misses,
            peers: peers
                .into_iter()
                .map(|(n, p)| (n, Peer::new(p, now)))
                .collect(),
            owners: addrs.into_iter().map(|a| (a, Owner::default())).collect(),
            external: BTreeMap::new(),
            started: now,
            ticked: now,
            leaving: false,
            reached: None,
            uneasy: None,
            cut_off: false,
            back: None,
            drained: None,
        }
    }

    /// The start of this machine.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// What to say to `peer` now. `linked`: there is a link by which it is told our records.
    pub fn beat(&mut self, peer: &str, linked: bool) -> Beat {
        self.seq += 1;
        let ours = |o: &Owner| o.name.as_deref() == Some(&*self.name);
        let unheard = |p: &Peer| self.ticked.saturating_sub(p.arrived) >= self.silence();
        Beat {
            version: VERSION,
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
            deaf: self.peers.get(peer).is_some_and(unheard),
            connected: self.connected(self.ticked, false),
            drained: self.drained.is_some(),
            unlinked: !linked,
            gone: self.gone(),
            release: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// The silence that makes a node count as dead.
    fn silence(&self) -> Duration {
        self.interval * self.misses
    }

    /// Another node belongs to the group from now on.
    pub fn add_peer(&mut self, name: &str, priority: u32, now: Time) {
        let peer = Peer::new(priority, now);
        self.peers.entry(name.to_owned()).or_insert(peer);
    }

    /// A node does not belong to the group any more.
    pub fn remove_peer(&mut self, name: &str) {
        self.peers.remove(name);
    }

    /// Heartbeats come in another rhythm from now on.
    pub fn retime(&mut self, interval: Duration, misses: u32, now: Time) {
        (self.interval, self.misses) = (interval, misses);
        // Nobody is late by a rule that he did not know.
        for p in self.peers.values_mut() {
            (p.heard, p.arrived) = (now, now);
        }
    }

    /// Whether those that live may not have been heard yet.
    pub fn starting(&self, now: Time) -> bool {
        now.saturating_sub(self.started) < self.silence() * STARTING
    }

    /// From now on heartbeats say that this node stops in order.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// From now on this node takes no addresses, or does again.
    pub fn drain(&mut self, drained: Option<Time>) {
        self.drained = drained;
    }

    /// Takes in a heartbeat whose seal was right, of whatever version: who lives and what it owns
    /// does not depend on that.
    pub fn hear(&mut self, beat: &Beat, now: Time) -> Vec<Change> {
        let silence = self.silence();
        let Some(p) = self.peers.get_mut(&beat.from) else {
            return vec![Change::Vain(Vain::Stranger)];
        };
        if p.old.contains(&beat.session) {
            return vec![Change::Vain(Vain::Replayed)];
        }
        p.echo = Some(beat.session);
        // Until it has heard us, what it says could have been recorded long ago.
        if beat.echo != Some(self.session) {
            return vec![Change::Vain(Vain::Unproven)];
        }
        let same = p.session == Some(beat.session);
        if same {
            if beat.seq <= p.seq {
                return vec![Change::Vain(Vain::Replayed)];
            }
        } else if let Some(old) = p.session.replace(beat.session) {
            if p.old.len() < OLD_SESSIONS {
                p.old.insert(old);
            }
        }
        let mut changes = Vec::new();
        let rebooted = p.boot != 0 && p.boot != beat.boot;
        let silent = now.saturating_sub(p.heard);
        // The first word after a silence both ways: it is deaf because we could not reach it either,
        // and hears us from now on, or is dead after another silence.
        let resumed = now.saturating_sub(p.arrived) >= silence;
        p.seq = beat.seq;
        p.boot = beat.boot;
        p.leaving = beat.leaving;
        p.deaf = beat.deaf;
        p.connected = beat.connected;
        p.arrived = now;
        // What a session without a link lets go is none of what an earlier one has told.
        p.linked = (p.linked && same) || !beat.unlinked;
        if p.linked && beat.unlinked {
            changes.push(Change::Unlinked(beat.from.clone()));
        }
        p.drained = beat.drained;
        p.claims.clone_from(&beat.claims);
        p.gone.clone_from(&beat.gone);
        p.release.clone_from(&beat.release);
        if std::mem::replace(&mut p.version, beat.version) != beat.version {
            changes.push(Change::Speaks(beat.from.clone(), beat.version));
        }
        if rebooted && p.health != Health::Dead {
            // Its connections died with its kernel, however fast it was back.
            changes.push(Change::Dead(beat.from.clone(), silent));
            p.health = Health::Dead;
            p.claims.clear();
        }
        if !beat.deaf || resumed {
            p.heard = now;
            if p.health == Health::Dead && same {
                changes.push(Change::NotDead(beat.from.clone()));
            }
            if !matches!(p.health, Health::Alive | Health::Suspect) {
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

    /// Addresses of which the segment is to be asked now who has them: those of nodes that are
    /// late or silent.
    pub fn in_doubt(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let doubtful = |p: &(&String, &Peer)| matches!(p.1.health, Health::Suspect | Health::Mute);
        let claims = |(name, p): (&'_ String, &'_ Peer)| {
            let claims = p.claims.iter().map(|(a, _)| *a);
            let still = |a: &IpAddr| is_owner(&self.owners, *a, name);
            claims.filter(still).collect::<Vec<_>>()
        };
        self.peers.iter().filter(doubtful).flat_map(claims)
    }

    /// Whether each address has an owner that is heard.
    pub fn is_calm(&self) -> bool {
        let heard = |name: &String| *name == self.name || self.is_alive(name);
        self.owners
            .values()
            .all(|o| o.name.as_ref().is_some_and(heard))
    }

    /// Another machine has answered for `addr`.
    pub fn answered(&mut self, addr: IpAddr, now: Time) {
        // Of one whose address another node has taken since, the answer says nothing.
        for (name, p) in &mut self.peers {
            let claims = p.claims.iter().any(|(a, _)| *a == addr);
            if claims && is_owner(&self.owners, addr, name) {
                p.answered = Some(now);
            }
        }
    }

    /// The gateway has answered: this node is not cut off. It should be asked once a second at
    /// least, and several times in an interval while not all is well.
    pub fn reached(&mut self, now: Time) {
        self.reached = Some(now);
        if std::mem::take(&mut self.cut_off) {
            self.back = Some(now);
        }
    }

    /// It is another gateway from now on, or none: the silence of the old one says nothing.
    pub fn forget_gateway(&mut self) {
        (self.reached, self.back, self.cut_off) = (None, None, false);
    }

    /// Notes when the gateway does not answer although it is asked often.
    fn watch_gateway(&mut self, now: Time) {
        let uneasy = match self.is_calm() {
            true => None,
            false => Some(self.uneasy.unwrap_or(now)),
        };
        let long = |since: Time| now.saturating_sub(since) > self.interval * 2;
        let silent = self.reached.is_some_and(long) && uneasy.is_some_and(long);
        self.cut_off |= silent;
        self.uneasy = uneasy;
    }

    /// Whether this node may take anything: not if it is cut off, as far as the gateway tells.
    /// `proof`: only if the gateway says that it is not.
    fn connected(&self, now: Time, proof: bool) -> bool {
        let recent = match self.is_calm() {
            true => self.silence() + CALM,
            false => self.interval,
        };
        // Who was cut off has first to hear who lives.
        let hearing = self
            .back
            .is_none_or(|at| now.saturating_sub(at) >= self.silence());
        match self.reached {
            Some(at) => hearing && now.saturating_sub(at) <= recent,
            None => !proof,
        }
    }

    /// When somebody will next be late or dead, or this node has started, if nothing is heard until
    /// then.
    pub fn due(&self, now: Time) -> Option<Time> {
        let (late, dead) = (self.late(), self.silence());
        let moments = |p: &Peer| [p.heard + late, p.heard + p.limit(dead)];
        let peers = self.peers.values().flat_map(moments);
        let started = self.started + dead * STARTING;
        peers.chain([started]).filter(|at| *at > now).min()
    }

    /// The silence that makes a node suspect.
    fn late(&self) -> Duration {
        self.interval * 3 / 2
    }

    /// Lets time pass. To be called twice in an interval at least, when somebody is [`due`], and
    /// several times in an interval while not all is well.
    ///
    /// [`due`]: Membership::due
    pub fn tick(&mut self, now: Time) -> Vec<Change> {
        let pause = now.saturating_sub(self.ticked);
        self.ticked = now;
        if pause > self.interval {
            // We were not running: silence proves nothing of that time.
            for p in self.peers.values_mut() {
                p.heard = (p.heard + pause).min(now);
                p.arrived = (p.arrived + pause).min(now);
            }
            self.started = (self.started + pause).min(now);
        }
        let mut changes = Vec::new();
        let (late, dead) = (self.late(), self.silence());
        for (name, p) in &mut self.peers {
            let silent = now.saturating_sub(p.heard);
            let limit = p.limit(dead);
            let answers = p
                .answered
                .is_some_and(|at| now.saturating_sub(at) <= self.interval);
            match p.health {
                Health::Alive | Health::Suspect if silent >= limit && answers => {
                    p.health = Health::Mute;
                    changes.push(Change::Mute(name.clone(), silent));
                }
                Health::Mute if answers => {}
                Health::Alive | Health::Suspect | Health::Mute if silent >= limit => {
                    p.health = Health::Dead;
                    p.claims.clear();
                    changes.push(Change::Dead(name.clone(), silent));
                }
                Health::Alive if silent > late && !p.leaving => {
                    p.health = Health::Suspect;
                    changes.push(Change::Suspect(name.clone()));
                }
                _ => {}
            }
        }
        self.watch_gateway(now);
        self.let_go_if_cut_off(now, &mut changes);
        // Give those that are there the time to say so, and to say what they own.
        if !self.starting(now) && !self.leaving {
            self.take_unowned(now, &mut changes);
        }
        changes.extend(self.take_external(now));
        changes
    }

    /// Whether `peer` can be counted on.
    pub fn is_alive(&self, peer: &str) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|p| p.health == Health::Alive)
    }

    /// Whether `peer` can be given an address.
    pub fn is_willing(&self, peer: &str) -> bool {
        self.peers.get(peer).is_some_and(|p| {
            let able = !p.leaving && !p.drained && p.connected;
            p.health == Health::Alive && able && p.version == VERSION
        })
    }

    /// The version of updates and records that `peer` speaks, and the release of its daemon, if it
    /// is another version than ours.
    pub fn foreign(&self, peer: &str) -> Option<(u16, &str)> {
        let p = self.peers.get(peer).filter(|p| p.version != VERSION)?;
        Some((p.version, &p.release))
    }

    /// Whether nothing is heard of `peer` any more.
    pub fn is_dead(&self, peer: &str) -> bool {
        self.peers
            .get(peer)
            .is_none_or(|p| matches!(p.health, Health::Dead | Health::Unknown))
    }

    /// The peers that can be given an address, first by priority.
    pub fn willing(&self) -> Vec<String> {
        let mut all: Vec<_> = self
            .peers
            .iter()
            .filter(|(n, _)| self.is_willing(n))
            .map(|(n, p)| (p.priority, n.clone()))
            .collect();
        all.sort();
        all.into_iter().map(|(_, n)| n).collect()
    }

    /// Each peer's health, and how long ago it was heard.
    pub fn peers(&self, now: Time) -> impl Iterator<Item = (&str, Health, Duration)> {
        self.peers
            .iter()
            .map(move |(n, p)| (&**n, p.health, now.saturating_sub(p.heard)))
    }
}

#[cfg(test)]
mod tests;
