// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Addresses that another program moves (VRRP, a routing daemon): who has one is its owner.
//!
//! Such an address is claimed when it comes to this node, whoever claimed it before: the other
//! program has decided. A node that it has left goes on claiming it, but says that it is gone, so
//! that the claim that follows has a higher generation than all before; the flows are let go once
//! that claim is heard. Of two nodes that have the address at the same time, the one to which it
//! came last is the owner, until it goes from there.

use std::net::IpAddr;

use super::{Change, Health, Membership, Time};

/// An address of which this node only knows whether it has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct External {
    present: bool,
    /// It has come and was not claimed since.
    arrived: bool,
}

impl Membership {
    /// `addr` is moved by another program from now on.
    pub fn make_external(&mut self, addr: IpAddr) {
        self.external.entry(addr).or_default();
    }

    /// Whether `addr` is moved by another program.
    pub fn is_external(&self, addr: IpAddr) -> bool {
        self.external.contains_key(&addr)
    }

    /// Addresses that are moved by another program.
    pub fn externals(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.external.keys().copied()
    }

    /// Whether this node has the external address `addr` now; `true` if that is new.
    pub fn present(&mut self, addr: IpAddr, present: bool) -> bool {
        let Some(e) = self.external.get_mut(&addr) else {
            return false;
        };
        let new = e.present != present;
        e.present = present;
        e.arrived = present && (e.arrived || new);
        new
    }

    /// Addresses that this node claims although they have left it.
    pub(super) fn gone(&self) -> Vec<IpAddr> {
        let gone =
            |(addr, e): (&IpAddr, &External)| (!e.present && self.owns(*addr)).then_some(*addr);
        self.external.iter().filter_map(gone).collect()
    }

    /// Claims the external addresses that are this node's to claim.
    pub fn take_external(&mut self, now: Time) -> Vec<Change> {
        if self.starting(now) || self.leaving {
            return Vec::new();
        }
        let mut changes = Vec::new();
        for (addr, e) in &mut self.external {
            let Some(owner) = self.owners.get_mut(addr) else {
                continue;
            };
            let ours = owner.name.as_deref() == Some(&*self.name);
            let has = |name: &String| {
                let peer = self.peers.get(name);
                peer.is_some_and(|p| p.health != Health::Dead && !p.gone.contains(addr))
            };
            let free = !owner.name.as_ref().is_some_and(has);
            if !e.present || ours || !(free || e.arrived) {
                e.arrived &= !ours;
                continue;
            }
            e.arrived = false;
            changes.push(owner.succeed(*addr, &self.name));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Group, VIP};
    use super::*;

    /// Nodes between which a program moves the address.
    fn group(n: usize) -> Group {
        let mut g = Group::new(n);
        for node in &mut g.nodes {
            node.make_external(VIP);
        }
        g
    }

    /// The address comes to a node, or goes from it.
    fn moves(g: &mut Group, node: usize, here: bool) {
        g.nodes[node].present(VIP, here);
        let changes = g.nodes[node].take_external(g.now);
        g.note(node, changes);
    }

    fn takes(g: &Group) -> Vec<(usize, u32)> {
        let take = |(n, _, c): &(usize, u128, Change)| match c {
            Change::Take { generation, .. } => Some((*n, *generation)),
            _ => None,
        };
        g.log.iter().filter_map(take).collect()
    }

    fn yields(g: &Group) -> Vec<usize> {
        let gives =
            |(n, _, c): &(usize, u128, Change)| matches!(c, Change::Yield { .. }).then_some(*n);
        g.log.iter().filter_map(gives).collect()
    }

    #[test]
    fn who_has_the_address_is_its_owner() {
        let mut g = group(3);
        g.run(2000);
        assert_eq!(takes(&g), [], "nobody takes what nobody was given");
        moves(&mut g, 2, true);
        assert_eq!(g.owners(), [2]);
        g.run(200);
        // As a whole machine dies: the address comes before the silence is long enough.
        g.dead.insert(2);
        g.run(50);
        moves(&mut g, 1, true);
        g.run(2000);
        assert_eq!(takes(&g), [(2, 1), (1, 2)]);
        assert_eq!(g.owners(), [1]);
    }

    #[test]
    fn a_death_alone_moves_nothing() {
        let mut g = group(2);
        g.run(1000);
        moves(&mut g, 0, true);
        g.run(200);
        g.dead.insert(0);
        g.run(5000);
        assert_eq!(g.owners(), Vec::<usize>::new());
    }

    #[test]
    fn flows_are_let_go_once_another_node_has_the_address() {
        let mut g = group(2);
        g.run(1000);
        moves(&mut g, 0, true);
        g.run(200);
        moves(&mut g, 0, false);
        g.run(1000);
        assert_eq!((g.owners(), yields(&g)), (vec![0], vec![]));
        moves(&mut g, 0, true);
        g.run(200);
        assert_eq!(takes(&g), [(0, 1)], "it came back, nothing has happened");
        moves(&mut g, 0, false);
        moves(&mut g, 1, true);
        g.run(200);
        assert_eq!((g.owners(), yields(&g)), (vec![1], vec![0]));
        moves(&mut g, 1, false);
        moves(&mut g, 0, true);
        g.run(200);
        assert_eq!(takes(&g), [(0, 1), (1, 2), (0, 3)]);
        assert_eq!((g.owners(), yields(&g)), (vec![0], vec![0, 1]));
    }

    #[test]
    fn of_two_that_have_it_the_last_one_is_the_owner() {
        let mut g = group(2);
        g.run(1000);
        moves(&mut g, 0, true);
        g.run(200);
        moves(&mut g, 1, true);
        g.run(2000);
        assert_eq!((g.owners(), yields(&g)), (vec![1], vec![0]));
        moves(&mut g, 1, false);
        g.run(200);
        assert_eq!(takes(&g), [(0, 1), (1, 2), (0, 3)]);
        assert_eq!(g.owners(), [0]);
    }

    #[test]
    fn a_node_that_starts_with_the_address_hears_first_who_had_it() {
        let mut g = group(2);
        g.run(1000);
        for (node, here) in [(0, true), (0, false), (1, true), (1, false)] {
            moves(&mut g, node, here);
            g.run(200);
        }
        g.nodes[0] = super::super::tests::node(0, 2, g.now, 999);
        g.nodes[0].make_external(VIP);
        moves(&mut g, 0, true);
        g.run(1000);
        assert_eq!(takes(&g), [(0, 1), (1, 2), (0, 3)]);
        assert_eq!(g.owners(), [0]);
    }
}
