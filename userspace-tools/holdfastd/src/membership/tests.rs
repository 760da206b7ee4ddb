// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

use super::*;

pub(super) const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));
const MS: Duration = Duration::from_millis(1);

/// Nodes that hear each other, but for those that are cut off.
pub(super) struct Group {
    pub(super) nodes: Vec<Membership>,
    pub(super) now: Time,
    pub(super) dead: HashSet<usize>,
    pub(super) log: Vec<(usize, u128, Change)>,
}

pub(super) fn node(i: usize, n: usize, now: Time, session: u64) -> Membership {
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
    pub(super) fn new(n: usize) -> Self {
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

    pub(super) fn run(&mut self, ms: u32) {
        for _ in 0..ms / 10 {
            let beats = (self.now + MS * 10).as_millis() % 50 == 0;
            self.step(|_| beats);
        }
    }

    /// Lets 10 ms pass. `hears`: whether a node hears what the others say now.
    fn step(&mut self, hears: impl Fn(usize) -> bool) {
        self.now += MS * 10;
        for i in 0..self.nodes.len() {
            if self.dead.contains(&i) {
                continue;
            }
            for j in 0..self.nodes.len() {
                if i != j && !self.dead.contains(&j) && hears(j) {
                    let b = self.nodes[i].beat(&format!("n{j}"), true);
                    let changes = self.nodes[j].hear(&b, self.now);
                    self.note(j, changes);
                }
            }
            let changes = self.nodes[i].tick(self.now);
            self.note(i, changes);
        }
    }

    pub(super) fn note(&mut self, node: usize, changes: Vec<Change>) {
        let at = self.now.as_millis();
        self.log.extend(changes.into_iter().map(|c| (node, at, c)));
    }

    pub(super) fn owners(&self) -> Vec<usize> {
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
fn it_is_known_when_somebody_will_be_late_and_dead() {
    let mut g = Group::new(2);
    assert_eq!(g.nodes[1].due(MS * 149), Some(MS * 150));
    assert_eq!(g.nodes[1].due(MS * 150), Some(MS * 450), "it has started");
    g.run(1000);
    let (node, heard) = (&g.nodes[1], g.now);
    assert_eq!(node.due(heard), Some(heard + MS * 75));
    assert_eq!(node.due(heard + MS * 75), Some(heard + MS * 150));
    assert_eq!(node.due(heard + MS * 150), None);
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
    let recorded = g.nodes[0].beat("n1", true);
    assert_eq!(g.nodes[1].hear(&recorded, g.now), vec![]);
    let vain = |why| vec![Change::Vain(why)];
    assert_eq!(g.nodes[1].hear(&recorded, g.now), vain(Vain::Replayed));
    g.dead.insert(0);
    g.run(500);
    assert_eq!(
        g.nodes[1].hear(&recorded, g.now),
        vain(Vain::Replayed),
        "heard before"
    );
    let stranger = Beat {
        from: "x".into(),
        ..recorded.clone()
    };
    assert_eq!(g.nodes[1].hear(&stranger, g.now), vain(Vain::Stranger));
    // Nor to a node that has just started, nor after the sender's restart.
    let mut fresh = node(1, 2, g.now, 7);
    assert_eq!(fresh.hear(&recorded, g.now), vain(Vain::Unproven));
    g.nodes[0] = node(0, 2, g.now, 999);
    g.dead.clear();
    g.run(500);
    let old = Beat {
        seq: 1 << 40,
        ..recorded
    };
    let now = g.now + MS * 1000;
    assert_eq!(g.nodes[1].hear(&old, now), vain(Vain::Replayed));
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
    let changes = g.nodes[1].hear(&again.beat("n1", true), g.now);
    assert!(matches!(&changes[..], [Change::Dead(n, _), Change::Alive(_)] if n == "n0"));
}

#[test]
fn a_claim_of_the_last_generation_is_survived() {
    let mut g = Group::new(2);
    g.run(1000);
    let lie = Beat {
        claims: vec![(VIP, u32::MAX)],
        ..g.nodes[0].beat("n1", true)
    };
    g.nodes[1].hear(&lie, g.now);
    g.dead.insert(0);
    g.run(1000);
    assert_eq!(g.owners(), vec![1]);
}

/// Node 0 speaks `version`, and says more than ours.
fn speak(g: &mut Group, version: u16, ms: u32) {
    for _ in 0..ms / 10 {
        g.now += MS * 10;
        for (i, j) in [(0, 1), (1, 0)] {
            let mut beat = g.nodes[i].beat(&format!("n{j}"), true);
            if i == 0 {
                beat.version = version;
            }
            let mut said = beat.encode();
            said.extend([7; 30]);
            let heard = Beat::decode(&said).unwrap();
            let changes = g.nodes[j].hear(&heard, g.now);
            g.note(j, changes);
            let changes = g.nodes[i].tick(g.now);
            g.note(i, changes);
        }
    }
}

#[test]
fn an_owner_of_another_version_lives_and_keeps_its_address() {
    for version in [0, VERSION + 1, u16::MAX] {
        let mut g = Group::new(2);
        speak(&mut g, version, 2000);
        assert_eq!(g.owners(), vec![0]);
        let other = &g.nodes[1];
        assert!(other.is_alive("n0") && !other.is_willing("n0"));
        assert_eq!(other.foreign("n0").map(|f| f.0), Some(version));
        let says = Change::Speaks("n0".into(), version);
        assert_eq!(g.log.iter().filter(|(_, _, c)| *c == says).count(), 1);
        assert!(!g.log.iter().any(|(_, _, c)| matches!(c, Change::Dead(..))));
        // Its death is one like any other.
        g.dead.insert(0);
        g.run(500);
        assert_eq!(g.owners(), vec![1]);
        // Upgraded, it is one of ours.
        g.nodes[0] = node(0, 2, g.now, 999);
        g.dead.clear();
        speak(&mut g, VERSION, 1000);
        assert_eq!(g.owners(), vec![1]);
        assert!(g.nodes[1].is_willing("n0") && g.nodes[1].foreign("n0").is_none());
    }
}

#[test]
fn our_own_pause_kills_nobody() {
    let mut g = Group::new(2);
    g.run(1000);
    let later = g.now + MS * 5000;
    assert_eq!(g.nodes[1].tick(later), vec![]);
}

#[test]
fn a_silent_node_whose_machine_answers_keeps_its_address_until_it_does_not() {
    let mut g = Group::new(2);
    g.run(1000);
    g.dead.insert(0);
    for _ in 0..50 {
        g.run(10);
        if g.nodes[1].in_doubt().any(|a| a == VIP) {
            g.nodes[1].answered(VIP, g.now);
        }
    }
    assert_eq!(g.owners(), Vec::<usize>::new());
    let mute = |(n, _, c): &(usize, u128, Change)| *n == 1 && matches!(c, Change::Mute(..));
    assert_eq!(g.log.iter().filter(|l| mute(l)).count(), 1);
    g.run(100);
    assert_eq!(g.owners(), vec![1], "now it is dead");
}

#[test]
fn who_is_cut_off_takes_nothing() {
    let mut g = Group::new(2);
    g.nodes[1].reached(g.now);
    g.run(1000);
    g.dead.insert(0);
    g.run(500);
    assert_eq!(g.owners(), Vec::<usize>::new());
    for _ in 0..14 {
        g.nodes[1].reached(g.now);
        g.run(10);
        assert_eq!(g.owners(), Vec::<usize>::new(), "it listens first");
    }
    reaching(&mut g, 30, &[1]);
    assert_eq!(g.owners(), vec![1]);
}

#[test]
fn a_gateway_that_is_asked_no_more_is_not_missed() {
    let mut g = Group::new(2);
    g.nodes[1].reached(g.now);
    g.run(1000);
    g.dead.insert(0);
    g.run(500);
    assert_eq!(g.owners(), Vec::<usize>::new());
    g.nodes[1].forget_gateway();
    g.run(10);
    assert_eq!(g.owners(), vec![1]);
}

#[test]
fn who_was_cut_off_hears_the_owner_before_it_takes_anything() {
    let mut g = Group::new(2);
    g.nodes[1].reached(g.now);
    g.run(1000);
    // Node 1 is cut off from node 0 and from the gateway; node 0 goes on.
    for step in 0..100 {
        g.step(|_| false);
        // The gateway is back a moment before the next heartbeat.
        if step > 95 {
            g.nodes[1].reached(g.now);
        }
    }
    g.run(500);
    assert_eq!(g.owners(), vec![0]);
    assert!(g
        .log
        .iter()
        .all(|(n, _, c)| *n == 0 || !matches!(c, Change::Take { .. })));
}

/// Lets time pass while the gateway answers these nodes.
fn reaching(g: &mut Group, ms: u32, which: &[usize]) {
    for _ in 0..ms / 10 {
        for i in which {
            g.nodes[*i].reached(g.now);
        }
        g.run(10);
    }
}

#[test]
fn an_owner_that_clients_cannot_reach_lets_go() {
    let mut g = Group::new(2);
    reaching(&mut g, 1000, &[0, 1]);
    reaching(&mut g, 3000, &[1]);
    assert_eq!(g.owners(), vec![1]);
    reaching(&mut g, 1000, &[0, 1]);
    assert_eq!(g.owners(), vec![1], "no way back by itself");
    reaching(&mut g, 3000, &[]);
    assert_eq!(g.owners(), vec![1], "nobody is better");
}

/// Lets `a` hear nothing while all hear it, for so long.
fn deafen(g: &mut Group, a: usize, ms: u32) {
    for step in 0..ms / 10 {
        g.step(|node| step % 5 == 0 && node != a);
    }
}

#[test]
fn a_deaf_owner_is_replaced_only_by_who_is_surely_connected() {
    let mut g = Group::new(2);
    g.run(1000);
    deafen(&mut g, 0, 1000);
    assert_eq!(g.owners(), vec![0], "nobody knows whose link is broken");
    for _ in 0..4 {
        g.nodes[1].reached(g.now);
        deafen(&mut g, 0, 50);
    }
    assert!(g.nodes[1].owns(VIP));
    g.run(200);
    assert_eq!(g.owners(), vec![1], "the deaf one hears of it at last");
    let undead = |(n, _, c): &(usize, u128, Change)| *n == 1 && *c == Change::NotDead("n0".into());
    assert!(g.log.iter().any(undead));
}

#[test]
fn whose_first_word_after_a_cut_is_that_it_was_deaf_is_not_dead() {
    let mut g = Group::new(2);
    reaching(&mut g, 1000, &[0, 1]);
    // Node 0, the owner, is cut off; node 1 takes over.
    for _ in 0..100 {
        g.nodes[1].reached(g.now);
        g.step(|_| false);
    }
    assert_eq!(g.owners(), vec![0, 1]);
    // Node 1 speaks first.
    g.nodes[0].reached(g.now);
    deafen(&mut g, 1, 20);
    assert_eq!(g.owners(), vec![1]);
    reaching(&mut g, 1000, &[0, 1]);
    assert_eq!(g.owners(), vec![1]);
    let back = |(n, _, c): &(usize, u128, Change)| *n == 1 && matches!(c, Change::Yield { .. });
    assert!(!g.log.iter().any(back), "it never went back");
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

#[test]
fn an_address_that_is_offered_is_taken_at_once() {
    let mut g = Group::new(3);
    g.run(1000);
    let generation = g.nodes[0].successor_generation(VIP).unwrap();
    let now = g.now;
    assert_eq!(g.nodes[0].accept("n1", VIP, generation), None, "not n1's");
    let taken = g.nodes[1].accept("n0", VIP, generation);
    assert!(matches!(taken, Some(Change::Take { generation: 2, .. })));
    assert_eq!(g.nodes[1].accept("n0", VIP, generation), None, "twice");
    g.nodes[0].drain(Some(now));
    g.run(100);
    assert_eq!(g.owners(), vec![1]);
    let yields = |n| {
        let of =
            move |(m, _, c): &&(usize, u128, Change)| *m == n && matches!(c, Change::Yield { .. });
        g.log.iter().filter(of).count()
    };
    assert_eq!((yields(0), yields(1), yields(2)), (1, 0, 0));
    // The drained one, first by priority, is passed over.
    g.dead.insert(1);
    g.run(500);
    assert_eq!(g.owners(), vec![2]);
}

#[test]
fn a_drained_node_takes_nothing_but_soon_after_and_alone() {
    for (wait, owners) in [(100, vec![0]), (11_000, vec![])] {
        let mut g = Group::new(2);
        g.run(1000);
        g.nodes[1].accept("n0", VIP, 2).unwrap();
        g.nodes[0].drain(Some(g.now));
        g.run(wait);
        assert_eq!(g.owners(), vec![1]);
        g.dead.insert(1);
        g.run(1000);
        assert_eq!(g.owners(), owners, "{wait}");
        g.nodes[0].drain(None);
        g.run(1000);
        assert_eq!(g.owners(), vec![0]);
    }
}

#[test]
fn an_offer_that_is_withdrawn_never_wins() {
    let mut g = Group::new(2);
    g.run(1000);
    let offered = g.nodes[0].successor_generation(VIP).unwrap();
    g.nodes[0].reclaim(VIP);
    // Before it hears of that: it lets go. After: it does not take it.
    assert!(g.nodes[1].accept("n0", VIP, offered).is_some());
    g.run(200);
    assert_eq!(g.owners(), vec![0]);
    assert_eq!(g.nodes[1].accept("n0", VIP, offered), None);
}
