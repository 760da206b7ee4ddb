// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Brings heartbeats, links, the log, time and questions to the parts that decide, one after
//! the other on one thread.

mod links;
mod questions;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{interval, sleep, Instant, Interval, MissedTickBehavior};

use crate::config::{Config, MovedBy, Peer, Service};
use crate::control::Asked;
use crate::drain::Drain;
use crate::engine::Engine;
use crate::kernel::{Entry, Kernel};
use crate::link::{self, LinkEvent};
use crate::membership::{Change, Membership};
use crate::mover::{Moved, Mover};
use crate::presence::Presence;
use crate::ready::Ready;
use crate::relay::Relay;
use crate::seal::{Seal, Secret};
use crate::store::Update;
use crate::takeover::{self, Address};
use crate::timeline::{monotonic, Timeline};
use crate::watch::Watch;
use crate::wire::{self, Beat, LINKS};

/// Batches of the log that are taken in together.
const AT_ONCE: usize = 4;

/// Events of links that wait; a peer that tells more has to wait itself.
const EVENTS: usize = 128;

/// Datagrams that are taken in together: what is no heartbeat must not keep those away, nor anything
/// else.
const DATAGRAMS: usize = 64;

/// Longest time between two ticks, while something depends on them and while nothing does.
const BUSY: Duration = Duration::from_millis(10);
const QUIET: Duration = Duration::from_millis(50);

/// Most bytes of a datagram.
const DATAGRAM_MAX: usize = 1 << 16;

/// A daemon that is set up.
pub struct Daemon<K> {
    pub(crate) config: Config,
    pub(crate) engine: Engine<K>,
    pub(crate) membership: Membership,
    pub(crate) addresses: HashMap<IpAddr, Address>,
    pub(crate) seal: Seal,
    pub(crate) socket: UdpSocket,
    pub(crate) peers: Vec<(String, SocketAddr)>,
    /// Number of the connection, and where updates go in.
    pub(crate) links: HashMap<String, (u64, Tell)>,
    /// By which connection each peer tells its records: the last one that has begun to.
    pub(crate) told_by: HashMap<String, u64>,
    pub(crate) started: Instant,
    pub(crate) events: mpsc::Receiver<LinkEvent>,
    pub(crate) mover: Mover,
    pub(crate) ready: Ready,
    pub(crate) suspected: HashSet<String>,
    pub(crate) secret: Secret,
    /// Tasks that end with us.
    pub(crate) tasks: JoinSet<()>,
    /// The tasks that tell peers our records.
    pub(crate) tellers: HashMap<String, AbortHandle>,
    pub(crate) events_tx: mpsc::Sender<LinkEvent>,
    pub(crate) names: watch::Sender<Vec<String>>,
    /// Heartbeats come in another rhythm since a moment ago.
    pub(crate) retimed: bool,
    pub(crate) moved: mpsc::Receiver<Moved>,
    pub(crate) watch: Watch,
    pub(crate) drain: Drain,
    pub(crate) presence: Presence,
}

/// Where numbered updates for a peer go in.
pub(crate) type Tell = mpsc::Sender<(u64, Vec<Update>)>;

impl<K: Kernel> Daemon<K> {
    /// Opens the sockets, creates the services, starts the links.
    ///
    /// # Errors
    ///
    /// A sentence for a person.
    pub async fn new(
        config: Config,
        secret: &Secret,
        kernel: K,
        json: bool,
        (boot, session): (u64, u64),
    ) -> Result<Self, String> {
        let at = config.node.listen;
        let wrong = |e: io::Error| format!("node.listen: {at}: {e}");
        let socket = UdpSocket::bind(at).await.map_err(wrong)?;
        let listener = TcpListener::bind(at).await.map_err(wrong)?;
        let timeline = Timeline::new(&config.node.name, json);
        let mut engine = Engine::new(kernel, &config, timeline);
        engine.start().map_err(|e| format!("kernel: {e}"))?;
        engine.next.relay = Some(Relay::start().map_err(|e| format!("relay: {e}"))?);

        let addresses: HashMap<_, _> = config
            .services
            .iter()
            .map(|s| (s.address.addr, Address::of(s)))
            .collect();
        let mut membership = Membership::new(
            (&config.node.name, config.node.priority),
            config.peers.iter().map(|p| (p.name.clone(), p.priority)),
            addresses.keys().copied(),
            (config.heartbeat.interval(), config.heartbeat.misses),
            (boot, session),
            Duration::ZERO,
        );
        // After a restart of the daemon alone, what it had it still has.
        let hooked = config.hooks.up.is_some();
        let others = |s: &&Service| s.moved_by == MovedBy::Others;
        for service in config.services.iter().filter(others) {
            membership.make_external(service.address.addr);
        }
        for address in addresses.values().filter(|a| !hooked && takeover::has(a)) {
            let addr = address.prefix.addr;
            // What others move is claimed once it is known who had it.
            if !membership.is_external(addr) {
                membership.resume(addr, 1);
            }
        }

        let (events_tx, events) = mpsc::channel(EVENTS);
        let key = secret.key(LINKS);
        let names = config.peers.iter().map(|p| p.name.clone()).collect();
        let (names, known) = watch::channel(names);
        let mut tasks = JoinSet::new();
        let me = config.node.name.clone();
        tasks.spawn(link::listen(me, listener, known, key, events_tx.clone()));
        let peers: Vec<_> = config
            .peers
            .iter()
            .map(|p| (p.name.clone(), p.address))
            .collect();
        let (mover, moved) = Mover::new();
        let watch = Watch::new(&config, &addresses)?;
        let presence = Presence::new().map_err(|e| format!("addresses: {e}"))?;
        let mut daemon = Daemon {
            config,
            engine,
            membership,
            addresses,
            seal: Seal::new(secret, wire::BEATS),
            socket,
            peers: Vec::new(),
            links: HashMap::new(),
            told_by: HashMap::new(),
            started: Instant::now(),
            events,
            mover,
            ready: Ready::default(),
            suspected: HashSet::new(),
            secret: secret.clone(),
            tellers: HashMap::new(),
            tasks,
            events_tx,
            names,
            retimed: false,
            moved,
            watch,
            drain: Drain::default(),
            presence,
        };
        for peer in peers {
            daemon.tell(peer);
        }
        daemon.look_for_addresses();
        Ok(daemon)
    }

    /// Begins to tell a peer what we have and that we live.
    pub(crate) fn tell(&mut self, peer: (String, SocketAddr)) {
        let (name, key) = (&self.config.node.name, self.secret.key(LINKS));
        let task = link::tell(name.clone(), peer.clone(), key, self.events_tx.clone());
        let task = self.tasks.spawn(task);
        self.tellers.insert(peer.0.clone(), task);
        self.peers.push(peer);
    }

    /// Runs until `stop` is ready. `log`: entries of the kernel's log in order.
    ///
    /// # Errors
    ///
    /// The log has ended: the module is gone.
    pub async fn run(
        mut self,
        mut log: mpsc::Receiver<Vec<Entry>>,
        mut asked: mpsc::Receiver<Asked>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), String> {
        let period = self.config.heartbeat.interval();
        let mut beat = rhythm(period);
        let mut tick = pin!(sleep(Duration::ZERO));
        let mut packet = vec![0; DATAGRAM_MAX];
        let mut stopping = false;
        tokio::pin!(stop);
        loop {
            tokio::select! {
                // Heartbeats first: who is busy must not look dead. Then what is rare, then time; what may
                // come without end is last. A little of that is taken in each time, whatever was first.
                biased;
                _ = beat.tick() => self.beat(),
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.drain(self.config.drain.stop(), None, None);
                }
                Some((addr, ours, done)) = self.moved.recv() => self.moved(addr, ours, done),
                () = &mut tick => {
                    // Whoever has been heard meanwhile is not silent.
                    self.hear_more(&mut packet);
                    self.tick();
                    tick.as_mut().reset(Instant::now() + self.pause());
                }
                Some((request, reply)) = asked.recv() => self.asked(&request, reply),
                Some(found) = self.ready.found.recv() => self.ready.learn(found),
                () = self.presence.changed() => self.look_for_addresses(),
                Some(addr) = self.watch.found() => self.found(addr),
                got = self.socket.recv_from(&mut packet) => {
                    if let Ok((n, _)) = got {
                        self.heard(&packet[..n]);
                    }
                }
                Some(event) = self.events.recv() => self.linked(event),
                entries = log.recv() => {
                    let Some(entries) = entries else { return Err("the log has ended".into()) };
                    self.hear_links();
                    self.engine.hear_all(entries, monotonic());
                }
            }
            self.take_more(&mut log);
            if let Ok((request, reply)) = asked.try_recv() {
                self.asked(&request, reply);
            }
            self.server_step();
            self.flush();
            self.drain_step();
            if std::mem::take(&mut self.retimed) {
                beat = rhythm(self.config.heartbeat.interval());
                tick.as_mut().reset(Instant::now());
            }
            if stopping || self.is_busy() {
                let soon = Instant::now() + self.pace();
                if tick.deadline() > soon {
                    tick.as_mut().reset(soon);
                }
            }
            if stopping && self.may_end() {
                break;
            }
        }
        // Our kernel goes on without us: peers must not take it for dead at once.
        self.membership.leave();
        for _ in 0..3 {
            self.beat();
            sleep(Duration::from_millis(2)).await;
        }
        self.engine.timeline.note("stopped", json!({}));
        Ok(())
    }

    /// Hears some of the datagrams that have come meanwhile, and something of the rest.
    fn hear_more(&mut self, packet: &mut [u8]) {
        if let Some(addr) = self.watch.try_found() {
            self.found(addr);
        }
        if let Ok(found) = self.ready.found.try_recv() {
            self.ready.learn(found);
        }
        for _ in 0..DATAGRAMS {
            let Ok((n, _)) = self.socket.try_recv_from(packet) else {
                return;
            };
            self.heard(&packet[..n]);
        }
    }

    /// Takes in what has come of the links and of the log meanwhile, a little of it: one look at
    /// everything else, and one message to each peer, are enough for all of it.
    fn take_more(&mut self, log: &mut mpsc::Receiver<Vec<Entry>>) {
        for _ in 0..AT_ONCE {
            self.hear_links();
            let Ok(entries) = log.try_recv() else { return };
            self.engine.hear_all(entries, monotonic());
        }
    }

    pub(crate) fn time(&self) -> Duration {
        self.started.elapsed()
    }

    fn say_alive(&mut self) {
        for (name, addr) in &self.peers {
            let linked = self.links.contains_key(name);
            let beat = self.membership.beat(name, linked).encode();
            // What is lost is what heartbeats are for.
            let _ = self.socket.try_send_to(&self.seal.seal(&beat), *addr);
        }
    }

    pub(crate) fn beat(&mut self) {
        self.say_alive();
        let marks = self.engine.take_marks(monotonic());
        if marks.is_empty() {
            return;
        }
        // Behind the records that they are about; nothing waits for them, so that they have no
        // number. A link that is full has enough to tell.
        self.flush();
        for (_, tx) in self.links.values() {
            if tx.try_send((0, marks.clone())).is_err() {
                self.engine.count("marks-dropped");
            }
        }
    }

    fn heard(&mut self, packet: &[u8]) {
        let plain = self.seal.open(packet);
        match plain.as_deref().and_then(Beat::decode) {
            Some(beat) => {
                let changes = self.membership.hear(&beat, self.time());
                self.changed(changes);
                if self.membership.is_alive(&beat.from) && self.suspected.remove(&beat.from) {
                    self.engine.count("suspicions-false");
                }
            }
            None => self.engine.count("heartbeats-refused"),
        }
    }

    fn found(&mut self, addr: IpAddr) {
        let now = self.time();
        if self.watch.is_gateway(addr) {
            self.membership.reached(now);
        }
        self.membership.answered(addr, now);
    }

    /// How often time is looked at while something depends on it.
    fn pace(&self) -> Duration {
        (self.config.heartbeat.interval() / 5).min(BUSY)
    }

    /// Whether anything has to be looked at again soon.
    fn is_busy(&self) -> bool {
        let calm = self.membership.is_calm() && self.drain.is_settled();
        !calm || self.watch.is_waiting() || self.engine.is_busy()
    }

    /// How long nothing has to be looked at, after a tick: not several times in each interval, but
    /// when somebody will be late.
    fn pause(&self) -> Duration {
        if self.is_busy() {
            return self.pace();
        }
        let now = self.time();
        let quiet = (self.config.heartbeat.interval() / 2).min(QUIET);
        match self.membership.due(now) {
            // Behind it: to be late is to be so by more.
            Some(at) => quiet.min(at - now + Duration::from_millis(1)),
            None => quiet,
        }
    }

    fn tick(&mut self) {
        let now = self.time();
        // What the dead have told comes before their death.
        self.hear_links();
        let changes = self.membership.tick(now);
        self.changed(changes);
        let calm = self.membership.is_calm();
        self.watch.ask(self.membership.in_doubt(), calm, now);
        self.engine.next.peers = self.next_nodes();
        let now = monotonic();
        self.engine.tick(now);
        self.engine.tell_requests(now);
        self.ready_tick();
    }

    /// The peers that live, with their own addresses, first by priority.
    fn next_nodes(&self) -> Vec<(String, IpAddr)> {
        let peers = self.config.peers.iter();
        let mut peers: Vec<_> = peers
            .filter(|p| self.membership.is_alive(&p.name))
            .collect();
        peers.sort_by_key(|p| p.priority);
        let own = |p: &&Peer| (p.name.clone(), p.address.ip());
        peers.iter().map(own).collect()
    }

    pub(crate) fn changed(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Alive(peer) => {
                    self.engine
                        .timeline
                        .note("peer-alive", json!({"peer": peer}));
                }
                Change::Suspect(peer) => {
                    self.engine.count("suspicions");
                    self.suspected.insert(peer.clone());
                    self.engine
                        .timeline
                        .note("peer-suspect", json!({"peer": peer}));
                }
                Change::Mute(peer, silent) => {
                    self.engine.count("peers-mute");
                    let ms = silent.as_millis() as u64;
                    let note = json!({"peer": peer, "silent_ms": ms});
                    self.engine.timeline.note("peer-mute", note);
                }
                Change::Vain(why) => self.engine.count(why.counter()),
                Change::NotDead(peer) => {
                    self.engine.count("false-deaths");
                    self.engine
                        .timeline
                        .note("peer-not-dead", json!({"peer": peer}));
                }
                Change::Speaks(peer, version) => {
                    let ours = wire::VERSION;
                    if version != ours {
                        self.engine.count("peers-other-version");
                    }
                    let note = json!({"peer": peer, "version": version, "ours": ours});
                    self.engine.timeline.note("peer-version", note);
                }
                Change::Unlinked(peer) => self.engine.store.doubt(&peer),
                Change::Dead(peer, silent) => {
                    let ms = silent.as_millis() as u64;
                    let note = json!({"peer": peer, "silent_ms": ms});
                    self.engine.timeline.note("peer-dead", note);
                    self.engine.count("deaths");
                    self.suspected.remove(&peer);
                    self.ready.lost(&peer);
                    if let Some(relay) = &self.engine.next.relay {
                        relay.died(&peer);
                    }
                    // It connects and is told everything anew when it is back.
                    self.links.remove(&peer);
                    self.engine.quorum.leave(&peer);
                    self.engine.settle();
                }
                Change::Take {
                    addr,
                    generation,
                    from,
                } => {
                    let a = addr.to_string();
                    let note = json!({"address": a, "generation": generation, "from": from});
                    self.engine.timeline.note("owner", note);
                    self.engine.store.inherit(addr, &self.config.node.name);
                    self.drain_over();
                    self.move_address(addr, true);
                }
                Change::Yield { addr, to } => {
                    let note = json!({"address": addr.to_string(), "to": to});
                    self.engine.timeline.note("yield", note);
                    // What was not taken yet is the other one's.
                    let me = &self.config.node.name;
                    let store = &mut self.engine.store;
                    store.forget(|owner, key| owner == me && key.service.ip() == addr);
                    let left = self.drain.has_left(addr);
                    self.yielded(addr, &to);
                    self.engine.abandon(addr);
                    if !left {
                        self.move_address(addr, false);
                    }
                }
            }
        }
    }

    pub(crate) fn move_address(&mut self, addr: IpAddr, ours: bool) {
        if self.membership.is_external(addr) {
            // It was moved already.
            if ours {
                self.moved(addr, true, Ok(()));
            }
        } else if let Some(address) = self.addresses.get(&addr).cloned() {
            self.mover.order(address, self.config.hooks.clone(), ours);
        }
    }

    fn moved(&mut self, addr: IpAddr, ours: bool, done: Result<(), String>) {
        let event = if ours {
            "address-taken"
        } else {
            "address-given"
        };
        let error = done.as_ref().err();
        let note = json!({"address": addr.to_string(), "error": error});
        self.engine.timeline.note(event, note);
        if !ours {
            return self.left(addr, done);
        }
        self.drain.is_back(addr);
        if self.membership.owns(addr) {
            self.hear_links();
            // Even if the announcement failed: the clients' next packets may still come here.
            self.engine.take_over(addr, monotonic());
        }
    }
}

/// Ticks of `period`, later ones moved if one comes late.
fn rhythm(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
