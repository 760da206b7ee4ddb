// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Whether this node could take over, and if not, why not.
//!
//! Each node tells its peers its clock and its versions behind the records that they are told
//! on connecting, and again every [`ABOUT`]: so that who has heard it has all records too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde_json::{json, Value};
use tokio::sync::mpsc;

use crate::config::{Config, Mode};
use crate::daemon::Daemon;
use crate::kernel::Kernel;
use crate::membership::{Health, Time};
use crate::sample::{self, shown, Sample, Verdict};
use crate::store::{Fitness, Update};
use crate::terms::Terms;
use crate::wire::VERSION;

/// How often peers are told about this node.
const ABOUT: Duration = Duration::from_secs(2);

/// How often this node looks how ready it is.
const LOOK: Duration = Duration::from_millis(50);

/// How long a peer that lives may say nothing on its link.
const QUIET: Duration = Duration::from_secs(8);

/// Most characters that are believed of a peer's words.
const WORD: usize = 64;

/// Something that was found out meanwhile.
#[derive(Debug)]
pub enum Found {
    /// Whether a service's server listens on this node.
    Listener(SocketAddr, Verdict),
    /// Whether it has an object of a peer.
    Object((SocketAddr, String), Verdict),
}

/// What a peer said of itself.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// It has begun to tell its records.
    begun: bool,
    /// All of them have come.
    synced: bool,
    heard: Option<Time>,
    /// Its clock minus ours in milliseconds, when it spoke last.
    ahead_ms: i64,
    daemon: String,
    module: String,
    fitness: Fitness,
    services: Vec<Terms>,
}

/// Why this node is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// One word of a few, for programs.
    pub kind: &'static str,
    /// A sentence.
    pub text: String,
}

/// What is known of this node's readiness.
pub struct Ready {
    peers: BTreeMap<String, Peer>,
    listeners: BTreeMap<SocketAddr, Verdict>,
    pub(crate) sample: Sample,
    module: String,
    next_about: Time,
    next_look: Time,
    /// What peers were told last.
    fitness: Fitness,
    next_check: Time,
    found_tx: mpsc::Sender<Found>,
    pub(crate) found: mpsc::Receiver<Found>,
}

/// Milliseconds of the wall clock.
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

/// What is believed of a peer's words.
fn shortened(words: &str) -> String {
    // Nor must they steer a terminal.
    let shown = words.chars().filter(|c| !c.is_control());
    shown.take(WORD).collect()
}

/// What tells the loaded module from another build of it; empty if nothing does.
fn module() -> String {
    let dir = "/sys/module/holdfast";
    if let Ok(version) = std::fs::read_to_string(format!("{dir}/srcversion")) {
        return version.trim().to_owned();
    }
    let id = std::fs::read(format!("{dir}/notes/.note.gnu.build-id")).unwrap_or_default();
    // A note's header and name are 16 bytes.
    let id = id.get(16..).unwrap_or_default();
    let hex = |b: &u8| [b >> 4, b & 15].map(|n| char::from_digit(n.into(), 16).unwrap_or('?'));
    id.iter().flat_map(hex).collect()
}

impl Default for Ready {
    fn default() -> Self {
        let (found_tx, found) = mpsc::channel(64);
        Ready {
            peers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            sample: Sample::default(),
            module: module(),
            next_about: Time::ZERO,
            next_look: Time::ZERO,
            fitness: Fitness::default(),
            next_check: Time::ZERO,
            found_tx,
            found,
        }
    }
}

impl Ready {
    /// What this node, which has this configuration, says of itself to a peer that it [waits
    /// for](Update::About), or does not.
    pub fn about(&self, config: &Config, waits: bool) -> Update {
        Update::About {
            waits,
            wall_ms: wall_ms(),
            daemon: env!("CARGO_PKG_VERSION").into(),
            module: self.module.clone(),
            fitness: self.fitness,
            services: config.services.iter().map(Terms::of).collect(),
        }
    }

    /// What a peer says of how well it could take over, if it has said anything lately.
    pub fn fitness(&self, peer: &str, now: Time) -> Fitness {
        let lately = |p: &&Peer| p.heard.is_some_and(|at| now.saturating_sub(at) <= QUIET);
        let peer = self.peers.get(peer).filter(lately);
        peer.map(|p| p.fitness).unwrap_or_default()
    }

    /// A peer has said something.
    pub fn hear(&mut self, peer: &str, update: &Update, now: Time) {
        match update {
            Update::Begin { .. } => {
                let p = self.peers.entry(peer.to_owned()).or_default();
                (p.begun, p.synced) = (true, false);
            }
            Update::About {
                wall_ms: theirs,
                daemon,
                module,
                fitness,
                services,
                ..
            } => {
                let ahead = i128::from(*theirs) - i128::from(wall_ms());
                let begun = self.peers.get(peer).is_some_and(|p| p.begun);
                let known = Peer {
                    begun,
                    synced: begun,
                    heard: Some(now),
                    ahead_ms: i64::try_from(ahead).unwrap_or(i64::MAX),
                    daemon: shortened(daemon),
                    module: shortened(module),
                    fitness: *fitness,
                    services: services.clone(),
                };
                self.peers.insert(peer.to_owned(), known);
            }
            _ => {}
        }
    }

    /// A peer is dead: what it said does not count. If it was not dead after all, its link still
    /// brings its records, and soon says so.
    pub fn lost(&mut self, peer: &str) {
        if let Some(p) = self.peers.get_mut(peer) {
            (p.synced, p.heard) = (false, None);
        }
    }

    /// A peer is none any more.
    pub fn forget(&mut self, peer: &str) {
        self.peers.remove(peer);
    }

    /// A service is none any more.
    pub fn forget_service(&mut self, service: SocketAddr) {
        self.listeners.remove(&service);
        self.sample.forget(service);
    }

    /// Takes in what was found out.
    pub fn learn(&mut self, found: Found) {
        match found {
            Found::Listener(service, verdict) => drop(self.listeners.insert(service, verdict)),
            Found::Object(id, verdict) => self.sample.judged(&id, verdict),
        }
    }

    /// Each peer's clock minus ours in milliseconds, as far as it was told.
    pub fn clocks(&self) -> impl Iterator<Item = (&str, i64)> {
        let told = self.peers.iter().filter(|(_, p)| p.heard.is_some());
        told.map(|(name, p)| (&**name, p.ahead_ms))
    }

    /// What a living peer keeps from this node's readiness.
    fn of_peer(&self, peer: &str, config: &Config, now: Time, out: &mut Vec<Reason>) {
        let mut say = |kind, text| out.push(Reason { kind, text });
        let Some(p) = self.peers.get(peer).filter(|p| p.synced) else {
            return say(
                "records",
                format!("{peer} has not told all its records yet"),
            );
        };
        let quiet = now.saturating_sub(p.heard.unwrap_or_default());
        if quiet > QUIET {
            let s = quiet.as_secs();
            say("records", format!("{peer} has told no records for {s} s"));
        }
        if p.ahead_ms.unsigned_abs() > config.readiness.clock_ms {
            let (ms, way) = match p.ahead_ms {
                ms @ 0.. => (ms, "ahead of"),
                ms => (-ms, "behind"),
            };
            let text = format!("the clock of {peer} is {ms} ms {way} ours");
            say("clock", text);
        }
        let ours = env!("CARGO_PKG_VERSION");
        if p.daemon != ours {
            let text = format!("{peer} runs holdfastd {}, we run {ours}", p.daemon);
            say("version", text);
        }
        if p.module != self.module {
            let name = |m: &str| if m.is_empty() { "unknown" } else { m }.to_owned();
            let (theirs, ours) = (name(&p.module), name(&self.module));
            let text = format!("the module of {peer} is another one: {theirs}, ours {ours}");
            say("version", text);
        }
        for theirs in &p.services {
            let of = theirs.service;
            // What only we have, we can take over.
            let Some(ours) = config.services.iter().find(|s| s.socket() == of) else {
                say("config", format!("{peer} has a service at {of}, we do not"));
                continue;
            };
            let here = Terms::of(ours);
            // As nearly always, and this is asked very often.
            if here == *theirs {
                continue;
            }
            for (key, [theirs, here]) in here.differences(theirs) {
                let name = ours.name();
                let text = format!("{name}: {peer} has {key} = {theirs}, we have {here}");
                say("config", text);
            }
        }
    }
}

/// What a node that has these reasons not to be ready says of itself. Another version is none: a
/// node is drained so that it can be replaced.
fn fitness(reasons: &[Reason]) -> Fitness {
    let has = |kind| reasons.iter().any(|r| r.kind == kind);
    match reasons.iter().any(|r| r.kind != "version") {
        _ if has("listener") => Fitness::Unfit,
        true => Fitness::Doubtful,
        false => Fitness::Ready,
    }
}

impl<K: Kernel> Daemon<K> {
    /// Lets time pass: tells peers about this node, and asks the local server.
    pub(crate) fn ready_tick(&mut self) {
        let now = self.time();
        if now < self.ready.next_look {
            return;
        }
        self.ready.next_look = now + LOOK;
        if let Some(record) = self.engine.store.newest() {
            self.ready.sample.note(record);
        }
        let fitness = fitness(&self.reasons());
        if now >= self.ready.next_about || fitness != self.ready.fitness {
            self.ready.fitness = fitness;
            self.ready.next_about = now + ABOUT;
            // Behind all that was let go until now.
            self.flush();
            for peer in self.links.keys() {
                self.introduce(peer);
            }
        }
        if now < self.ready.next_check {
            return;
        }
        self.ready.next_check = now + Duration::from_millis(self.config.readiness.interval_ms);
        for service in &self.config.services {
            let Some(at) = service.check() else { continue };
            let (tx, service) = (self.ready.found_tx.clone(), service.socket());
            tokio::spawn(async move {
                let verdict = sample::listens(at).await;
                let _ = tx.send(Found::Listener(service, verdict)).await;
            });
        }
        let (services, membership) = (&self.config.services, &self.membership);
        let check = |of: SocketAddr| {
            let service = services.iter().find(|s| s.socket() == of)?;
            service.check().filter(|_| !membership.owns(of.ip()))
        };
        let Some(object) = self.ready.sample.next(|of| check(of).is_some()) else {
            return;
        };
        let Some(at) = check(object.service()) else {
            return;
        };
        let (id, record) = (object.id().clone(), object.record().clone());
        let tx = self.ready.found_tx.clone();
        tokio::spawn(async move {
            if let Some(verdict) = sample::ask(at, record).await {
                let _ = tx.send(Found::Object(id, verdict)).await;
            }
        });
    }

    /// Why this node is not ready to take over; empty if it is.
    pub(crate) fn reasons(&self) -> Vec<Reason> {
        let (now, mut out) = (self.time(), Vec::new());
        if self.membership.starting(now) {
            let text = "the daemon has just started: its peers have time to be heard".into();
            out.push(Reason {
                kind: "starting",
                text,
            });
        }
        for (name, health, _) in self.membership.peers(now) {
            if !matches!(health, Health::Alive | Health::Suspect) {
                continue;
            }
            match self.membership.foreign(name) {
                Some((version, release)) => out.push(Reason {
                    kind: "version",
                    text: format!(
                        "{name} (holdfastd {}) speaks version {version} of records, we speak \
                         {VERSION}: no records are told and nothing is handed over",
                        shortened(release)
                    ),
                }),
                None => self.ready.of_peer(name, &self.config, now, &mut out),
            }
        }
        for service in &self.config.services {
            let name = service.name();
            if service.mode == Mode::Observe {
                let text = format!("{name} is only observed: nothing of it is taken over");
                out.push(Reason {
                    kind: "observe",
                    text,
                });
            }
            if let Some(Err(why)) = self.ready.listeners.get(&service.socket()) {
                let text = format!("{name}: {why}");
                out.push(Reason {
                    kind: "listener",
                    text,
                });
            }
        }
        for object in self.ready.sample.objects() {
            if let (Some(Err(why)), false) =
                (&object.found, self.membership.owns(object.service().ip()))
            {
                let text = format!("{}: {why}", shown(object.id()));
                out.push(Reason {
                    kind: "object",
                    text,
                });
            }
        }
        out
    }

    /// The answer to the question whether this node is ready.
    pub(crate) fn readiness(&self) -> Value {
        let reasons = self.reasons();
        let why: Vec<_> = reasons
            .iter()
            .map(|r| json!({"reason": r.kind, "text": r.text}))
            .collect();
        let objects = || self.ready.sample.objects();
        let clocks: BTreeMap<_, _> = self.ready.clocks().collect();
        json!({
            "ready": reasons.is_empty(),
            "why": why,
            "objects_sampled": objects().count(),
            "objects_same": objects().filter(|o| o.found == Some(Ok(()))).count(),
            "clocks_ahead_ms": clocks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{tests::EXAMPLE, MovedBy};

    fn config() -> Config {
        Config::parse(EXAMPLE).unwrap()
    }

    fn reasons(ready: &Ready, now: Time) -> Vec<Reason> {
        let mut out = Vec::new();
        ready.of_peer("b", &config(), now, &mut out);
        out
    }

    fn why(ready: &Ready, now: Time) -> Vec<&'static str> {
        reasons(ready, now).into_iter().map(|r| r.kind).collect()
    }

    #[test]
    fn a_peer_must_tell_all_its_records_again_and_again() {
        let mut r = Ready::default();
        let s = Duration::from_secs;
        assert_eq!(why(&r, s(1)), ["records"]);
        r.hear("b", &Update::Begin { boot: 1 }, s(1));
        assert_eq!(why(&r, s(1)), ["records"]);
        r.hear("b", &r.about(&config(), true), s(1));
        assert_eq!(why(&r, s(1)), Vec::<&str>::new());
        assert_eq!(why(&r, s(10)), ["records"]);
        r.hear("b", &Update::Begin { boot: 1 }, s(11));
        assert_eq!(why(&r, s(11)), ["records"], "it begins anew");
        r.hear("b", &r.about(&config(), true), s(11));
        assert_eq!(why(&r, s(11)), Vec::<&str>::new());
        // It was taken for dead, wrongly.
        r.lost("b");
        assert_eq!(why(&r, s(11)), ["records"]);
        r.hear("b", &r.about(&config(), true), s(12));
        assert_eq!(why(&r, s(12)), Vec::<&str>::new());
        // Its records were forgotten: it must tell them again.
        r.forget("b");
        r.hear("b", &r.about(&config(), true), s(13));
        assert_eq!(why(&r, s(13)), ["records"]);
    }

    #[test]
    fn another_version_does_not_keep_from_a_drain() {
        let of = |kinds: &[&'static str]| {
            let reason = |kind: &&'static str| Reason {
                kind,
                text: String::new(),
            };
            fitness(&kinds.iter().map(reason).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Fitness::Ready);
        assert_eq!(of(&["version", "version"]), Fitness::Ready);
        assert_eq!(of(&["version", "object"]), Fitness::Doubtful);
        assert_eq!(of(&["object", "listener"]), Fitness::Unfit);
        assert!(Fitness::Ready > Fitness::Doubtful && Fitness::Doubtful > Fitness::Unfit);
    }

    #[test]
    fn clocks_and_versions_must_agree() {
        let mut r = Ready::default();
        r.hear("b", &Update::Begin { boot: 1 }, Time::ZERO);
        let about = |ahead: i64, daemon: &str, module: &str| Update::About {
            waits: true,
            wall_ms: wall_ms().saturating_add_signed(ahead),
            daemon: daemon.into(),
            module: module.into(),
            fitness: Fitness::Ready,
            services: Vec::new(),
        };
        let (ours, module) = (env!("CARGO_PKG_VERSION"), r.module.clone());
        for (ahead, way) in [(60_000, "ms ahead of ours"), (-60_000, "ms behind ours")] {
            r.hear("b", &about(ahead, ours, &module), Time::ZERO);
            let [reason] = &reasons(&r, Time::ZERO)[..] else {
                panic!()
            };
            assert_eq!(reason.kind, "clock");
            let text = reason.text.strip_prefix("the clock of b is ").unwrap();
            let (ms, rest) = text.split_once(' ').unwrap();
            assert_eq!(rest, way);
            // A little may have passed since it spoke.
            assert!(ms.parse::<u64>().unwrap().abs_diff(60_000) < 1000, "{text}");
        }
        let limit = config().readiness.clock_ms as i64;
        r.hear("b", &about(limit / 2, ours, &module), Time::ZERO);
        assert_eq!(why(&r, Time::ZERO), Vec::<&str>::new());
        r.hear("b", &about(0, "0.0.0", "x"), Time::ZERO);
        assert_eq!(why(&r, Time::ZERO), ["version", "version"]);
        let far = Update::About {
            waits: true,
            wall_ms: u64::MAX,
            daemon: ours.into(),
            module,
            fitness: Fitness::Unfit,
            services: Vec::new(),
        };
        r.hear("b", &far, Time::ZERO);
        assert_eq!(why(&r, Time::ZERO), ["clock"]);
        assert_eq!(r.fitness("b", QUIET), Fitness::Unfit);
        assert_eq!(
            r.fitness("c", QUIET),
            Fitness::Doubtful,
            "it has said nothing"
        );
        assert_eq!(r.fitness("b", QUIET * 2), Fitness::Doubtful, "long ago");
        let long = about(0, &"x".repeat(1000), "");
        r.hear("b", &long, Time::ZERO);
        assert_eq!(r.peers["b"].daemon.len(), WORD);
    }

    #[test]
    fn configurations_must_agree_on_what_a_takeover_does() {
        let mut r = Ready::default();
        r.hear("b", &Update::Begin { boot: 1 }, Time::ZERO);
        let mut theirs = config();
        let said = |r: &mut Ready, theirs: &Config| {
            let about = r.about(theirs, true);
            r.hear("b", &about, Time::ZERO);
            let reasons = reasons(r, Time::ZERO);
            assert!(reasons.iter().all(|r| r.kind == "config"), "{reasons:?}");
            reasons.into_iter().map(|r| r.text).collect::<Vec<_>>()
        };
        assert_eq!(said(&mut r, &theirs), Vec::<String>::new());
        theirs.services[0].deterministic = true;
        theirs.services[0].moved_by = MovedBy::Others;
        // What differs for good reasons.
        theirs.services[0].restart_ms += 1;
        let differ = [
            "192.0.2.10:80: b has deterministic = true, we have false",
            "192.0.2.10:80: b has moved-by = \"others\", we have \"holdfastd\"",
        ];
        assert_eq!(said(&mut r, &theirs), differ);
        theirs.services[0].port = 81;
        let lacks = ["b has a service at 192.0.2.10:81, we do not"];
        assert_eq!(said(&mut r, &theirs), lacks);
    }
}
