// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A changed configuration, without a restart. Either all of it is done, or nothing.

use std::net::SocketAddr;

use serde_json::{json, Value};

use crate::config::{Config, MovedBy, Peer, Service};
use crate::daemon::Daemon;
use crate::engine::{Engine, Wait};
use crate::kernel::Kernel;
use crate::locate::Wrong;
use crate::notify::notify;
use crate::quorum::Quorum;
use crate::takeover::{self, Address};
use crate::timeline::monotonic;
use crate::watch::Watch;

/// Stands for a table that is not in the file, and so on no line.
const NOWHERE: usize = usize::MAX;

/// What is different in a new configuration and can be changed while the daemon runs.
#[derive(Clone, Debug, Default)]
struct Plan {
    peers_gone: Vec<String>,
    peers_new: Vec<Peer>,
    services_gone: Vec<Service>,
    services_new: Vec<Service>,
    services_changed: Vec<Service>,
    /// Those of the changed ones whose bytes may leave earlier than before.
    services_weaker: Vec<Service>,
    /// Tables of which something else is different.
    tables: Vec<&'static str>,
}

impl Plan {
    /// What leads from `old` to `new`.
    ///
    /// # Errors
    ///
    /// The first key that cannot be changed.
    fn new(old: &Config, new: &Config) -> Result<Plan, Wrong> {
        let fixed = "cannot be changed without a restart";
        let keep = |same: bool, key: &str, i: usize| match same {
            true => Ok(()),
            false => Err(Wrong::new(key, i, fixed)),
        };
        let (a, b) = (&old.node, &new.node);
        keep(a.name == b.name, "node.name", 0)?;
        keep(a.priority == b.priority, "node.priority", 0)?;
        keep(a.listen == b.listen, "node.listen", 0)?;
        keep(a.secret_file == b.secret_file, "node.secret-file", 0)?;
        keep(a.control == b.control, "node.control", 0)?;
        keep(
            old.metrics.listen == new.metrics.listen,
            "metrics.listen",
            0,
        )?;

        let mut plan = Plan::default();
        for (i, peer) in new.peers.iter().enumerate() {
            match old.peers.iter().find(|p| p.name == peer.name) {
                Some(was) => {
                    keep(was.address == peer.address, "peer.address", i)?;
                    keep(was.priority == peer.priority, "peer.priority", i)?;
                }
                None => plan.peers_new.push(peer.clone()),
            }
        }
        let stays = |p: &&Peer| !new.peers.iter().any(|q| q.name == p.name);
        plan.peers_gone = old
            .peers
            .iter()
            .filter(stays)
            .map(|p| p.name.clone())
            .collect();

        for (i, service) in new.services.iter().enumerate() {
            let there = |s: &&Service| s.address.addr == service.address.addr;
            for was in old.services.iter().filter(there) {
                keep(was.address == service.address, "service.address", i)?;
                keep(was.interface == service.interface, "service.interface", i)?;
                keep(was.moved_by == service.moved_by, "service.moved-by", i)?;
            }
            match old.services.iter().find(|s| s.socket() == service.socket()) {
                Some(was) if format!("{was:?}") == format!("{service:?}") => {}
                Some(was) => {
                    plan.services_changed.push(service.clone());
                    if was.is_strict() && !service.is_strict() {
                        plan.services_weaker.push(service.clone());
                    }
                }
                None => plan.services_new.push(service.clone()),
            }
        }
        let stays = |s: &&Service| !new.services.iter().any(|t| t.socket() == s.socket());
        plan.services_gone = old.services.iter().filter(stays).cloned().collect();

        let tables = [
            (
                "heartbeat",
                format!("{:?}", old.heartbeat),
                format!("{:?}", new.heartbeat),
            ),
            (
                "records",
                format!("{:?}", old.records),
                format!("{:?}", new.records),
            ),
            (
                "recovery",
                format!("{:?}", old.recovery),
                format!("{:?}", new.recovery),
            ),
            (
                "drain",
                format!("{:?}", old.drain),
                format!("{:?}", new.drain),
            ),
            (
                "readiness",
                format!("{:?}", old.readiness),
                format!("{:?}", new.readiness),
            ),
            (
                "hooks",
                format!("{:?}", old.hooks),
                format!("{:?}", new.hooks),
            ),
        ];
        let differs = tables.into_iter().filter(|(_, a, b)| a != b);
        plan.tables = differs.map(|(name, ..)| name).collect();
        Ok(plan)
    }

    /// One line for each change.
    fn words(&self) -> Vec<String> {
        let peers = |what: &str, name: &String| format!("peer {name} {what}");
        let service = |what: &str, s: &Service| format!("service {} {what}", s.name());
        let mut words = Vec::new();
        words.extend(self.peers_gone.iter().map(|p| peers("removed", p)));
        words.extend(self.peers_new.iter().map(|p| peers("added", &p.name)));
        words.extend(self.services_gone.iter().map(|s| service("removed", s)));
        words.extend(self.services_new.iter().map(|s| service("added", s)));
        words.extend(self.services_changed.iter().map(|s| service("changed", s)));
        words.extend(self.tables.iter().map(|t| format!("{t} changed")));
        words
    }
}

impl<T> Quorum<T> {
    /// So many confirmations make an update safe from now on.
    pub fn set_needed(&mut self, needed: usize) {
        self.needed = needed;
    }
}

impl<K: Kernel> Engine<K> {
    /// Makes the module's services those of `plan`; if it refuses one, those that it had.
    fn change_services(&mut self, plan: &Plan) -> Result<(), Wrong> {
        let socket = |s: &Service| s.socket();
        let kept = self.services.clone();
        let result = (|| {
            for s in &plan.services_gone {
                let refused = |e| Wrong::new("service", NOWHERE, format!("{}: {e}", s.name()));
                self.kernel.service_del(socket(s)).map_err(refused)?;
            }
            let weaker = |s: &&Service| {
                plan.services_weaker
                    .iter()
                    .any(|w| w.socket() == s.socket())
            };
            let changed = plan.services_changed.iter().filter(|s| !weaker(s));
            for s in plan.services_new.iter().chain(changed) {
                let refused = |e| Wrong::new("service", NOWHERE, format!("{}: {e}", s.name()));
                self.kernel.service_add(s).map_err(refused)?;
            }
            Ok(())
        })();
        if result.is_err() {
            for s in &plan.services_new {
                let _ = self.kernel.service_del(socket(s));
            }
            for s in &kept {
                // What it had it takes again.
                let _ = self.kernel.service_add(s);
            }
        }
        result
    }

    /// What a service declares of its answers is true of all its flows.
    pub(crate) fn declare(&mut self, service: &Service, now: i64) {
        let mut records = Vec::new();
        for t in self.trackers.values_mut() {
            let r = t.record();
            let other = r.deterministic != service.deterministic;
            if r.key.service == service.socket() && other {
                t.declare(service.deterministic);
                records.push(t.record().clone());
            }
        }
        for record in records {
            self.put(&record, now);
        }
    }

    /// Bytes of a service will leave before their record is safe. Records that say otherwise are
    /// corrected first: a successor would believe that nothing has escaped.
    fn weaken(&mut self, service: &Service, now: i64) {
        let mut records = Vec::new();
        for t in self.trackers.values_mut() {
            if t.record().key.service == service.socket() && t.record().strict {
                t.weaken();
                records.push(t.record().clone());
            }
        }
        for record in records {
            self.put(&record, now);
        }
        self.quorum.wait(Wait::Policy(Box::new(service.clone())));
    }

    /// The records of [`Engine::weaken`] are safe.
    pub(crate) fn let_escape(&mut self, service: &Service) {
        // Unless it has been changed again meanwhile.
        let now = self
            .services
            .iter()
            .find(|s| s.socket() == service.socket());
        if now.is_none_or(Service::is_strict) {
            return;
        }
        if let Err(e) = self.kernel.service_add(service) {
            self.count("policy-failed");
            let note = json!({"service": service.name(), "error": e.to_string()});
            self.timeline.note("policy-failed", note);
        }
    }

    /// Flows of a service are no business of ours any more.
    fn forget_service(&mut self, service: SocketAddr) {
        let of: Vec<_> = self
            .trackers
            .iter()
            .filter(|(_, t)| t.record().key.service == service)
            .map(|(id, _)| *id)
            .collect();
        for id in of {
            if let Some(t) = self.trackers.remove(&id) {
                let record = t.record().clone();
                self.by_key.remove(&record.key);
                self.restarts.forget(&record.key);
                self.drop_record(&record);
            }
        }
        for (_, record) in self.rescues.take_service(service) {
            self.restarts.forget(&record.key);
            self.drop_record(&record);
        }
        self.store.forget(|_, key| key.service == service);
        self.tally.forget(service);
    }
}

impl<K: Kernel> Daemon<K> {
    /// Reads the configuration file again and does what it says. What changed, or why nothing
    /// did.
    pub(crate) fn reload_file(&mut self) -> Value {
        // sd_notify(3): the time tells this reload from an earlier one.
        notify(&format!(
            "RELOADING=1\nMONOTONIC_USEC={}",
            monotonic() / 1000
        ));
        let file = self.config.file.clone();
        let said =
            |wrong: Wrong, text: &str| format!("{}: {}", file.display(), wrong.at_line(text));
        let done = Config::read_with_text(&file)
            .and_then(|(new, text)| self.reload(new).map_err(|wrong| said(wrong, &text)));
        notify("READY=1");
        match done {
            Ok(changes) => {
                self.engine
                    .timeline
                    .note("reloaded", json!({"changes": changes}));
                json!({"changes": changes})
            }
            Err(why) => {
                self.engine.count("reloads-refused");
                self.engine
                    .timeline
                    .note("reload-refused", json!({"why": why}));
                json!({"error": format!("nothing was changed: {why}")})
            }
        }
    }

    /// Goes on with `new`, if all of it can be had.
    fn reload(&mut self, new: Config) -> Result<Vec<String>, Wrong> {
        let plan = Plan::new(&self.config, &new)?;
        if !self.drain.is_settled() {
            let why = "addresses are being handed over: reload when that is done";
            return Err(Wrong::new("service", NOWHERE, why));
        }
        for name in &plan.peers_gone {
            let owned = self.membership.owners().find(|(_, o, _)| *o == Some(name));
            if let Some((addr, ..)) = owned {
                let why = format!("{name} owns {addr}: it cannot be removed before it has stopped");
                return Err(Wrong::new("peer", NOWHERE, why));
            }
        }
        self.engine.change_services(&plan)?;
        // Nothing fails from here on.
        self.engine.services.clone_from(&new.services);
        self.engine.limits = new.recovery.clone();
        self.engine.quorum.set_needed(new.records.quorum);
        self.engine.store.set_limit(new.records.limit);
        let hooks = std::mem::replace(&mut self.config, new).hooks;
        self.change_addresses(&plan, hooks.up.is_some());
        self.change_peers(&plan);
        if plan.tables.contains(&"heartbeat") {
            let beat = &self.config.heartbeat;
            let (interval, misses) = (beat.interval(), beat.misses);
            self.membership.retime(interval, misses, self.time());
            self.retimed = true;
        }
        match Watch::new(&self.config, &self.addresses) {
            Ok(watch) => {
                if !watch.has_gateway_of(&self.watch) {
                    self.membership.forget_gateway();
                }
                self.watch = watch;
            }
            // The old one goes on with the addresses that it knows.
            Err(why) => self
                .engine
                .timeline
                .note("watch-failed", json!({"error": why})),
        }
        let now = monotonic();
        for s in &plan.services_changed {
            self.engine.declare(s, now);
        }
        for s in &plan.services_weaker {
            self.engine.weaken(s, now);
        }
        self.engine.settle();
        Ok(plan.words())
    }

    fn change_addresses(&mut self, plan: &Plan, hooked: bool) {
        for s in &plan.services_gone {
            let (of, addr) = (s.socket(), s.address.addr);
            self.engine.forget_service(of);
            self.ready.forget_service(of);
            if self.engine.serves(addr) {
                continue;
            }
            if self.membership.owns(addr) {
                self.move_address(addr, false);
            }
            self.membership.remove_address(addr);
            self.addresses.remove(&addr);
        }
        for s in &plan.services_new {
            let addr = s.address.addr;
            if self.addresses.contains_key(&addr) {
                continue;
            }
            let address = Address::of(s);
            self.membership.add_address(addr);
            if s.moved_by == MovedBy::Others {
                self.membership.make_external(addr);
            } else if !hooked && takeover::has(&address) {
                self.membership.resume(addr, 1);
            }
            self.addresses.insert(addr, address);
        }
        self.look_for_addresses();
    }

    fn change_peers(&mut self, plan: &Plan) {
        for name in &plan.peers_gone {
            if let Some(task) = self.tellers.remove(name) {
                task.abort();
            }
            self.peers.retain(|(peer, _)| peer != name);
            self.unlink(name);
            self.membership.remove_peer(name);
            self.suspected.remove(name);
            self.ready.forget(name);
            self.engine.store.forget(|owner, _| owner == name);
        }
        let now = self.time();
        for p in &plan.peers_new {
            self.membership.add_peer(&p.name, p.priority, now);
            self.tell((p.name.clone(), p.address));
        }
        let names = self.config.peers.iter().map(|p| p.name.clone()).collect();
        self.names.send_replace(names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::EXAMPLE;

    fn plan(from: &str, to: &str) -> Result<Plan, String> {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE);
        let (old, new) = (
            Config::parse(EXAMPLE).unwrap(),
            Config::parse(&text).unwrap(),
        );
        Plan::new(&old, &new).map_err(|wrong| wrong.at_line(&text))
    }

    #[test]
    fn what_cannot_be_changed_is_refused_with_line_and_key() {
        let fixed = "cannot be changed without a restart";
        for (from, to, said) in [
            ("name = \"a\"", "name = \"x\"", "line 3: node.name"),
            ("priority = 1", "priority = 7", "line 4: node.priority"),
            ("priority = 2", "priority = 7", "line 10: peer.priority"),
            ("10.0.0.2:4870", "10.0.0.2:1", "line 11: peer.address"),
            ("10.0.0.1:4870", "10.0.0.1:1", "line 5: node.listen"),
            ("/secret", "/other", "line 6: node.secret-file"),
            ("eth0", "eth1", "line 15: service.interface"),
            ("/24", "/25", "line 14: service.address"),
            (
                "port = 80",
                "port = 80\nmoved-by = \"others\"",
                "line 17: service.moved-by",
            ),
        ] {
            assert_eq!(plan(from, to).unwrap_err(), format!("{said}: {fixed}"));
        }
    }

    #[test]
    fn what_changes_is_said() {
        let words = |from, to| plan(from, to).unwrap().words();
        assert_eq!(
            words("port = 80", "port = 80\nmode = \"observe\"\nname = \"web\""),
            ["service web changed"]
        );
        assert_eq!(
            words("port = 80", "port = 81"),
            [
                "service 192.0.2.10:80 removed",
                "service 192.0.2.10:81 added"
            ]
        );
        let third = "[heartbeat]\nmisses = 4\n[[peer]]\nname = \"c\"\npriority = 3\n\
                     address = \"10.0.0.3:1\"\n[[peer]]";
        assert_eq!(
            words("[[peer]]", third),
            ["peer c added", "heartbeat changed"]
        );
        let times = "[drain]\nstop-ms = 1\n[recovery]\nidle-s = 1\n[[peer]]";
        assert_eq!(
            words("[[peer]]", times),
            ["recovery changed", "drain changed"]
        );
        assert_eq!(
            words("port = 80", "port = 80\nrestart-ms = 1"),
            ["service 192.0.2.10:80 changed"]
        );
        assert_eq!(words("\"b\"", "\"c\""), ["peer b removed", "peer c added"]);
    }
}
