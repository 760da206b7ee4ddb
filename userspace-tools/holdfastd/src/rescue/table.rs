// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The flows that are being taken over: by their names, by their numbers in the kernel, and by what
//! must be done for them when. No tick looks through all of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use libholdfast::record::Record;
use libholdfast::recovery::Ask;
use libholdfast::types::FlowKey;

use super::turns::{Turns, HOLDS};
use super::{Rescue, Stage};
use crate::next::Search;

/// The flows that are being taken over.
#[derive(Debug, Default)]
pub struct Rescues {
    flows: HashMap<FlowKey, Rescue>,
    by_id: HashMap<u64, FlowKey>,
    pub(super) turns: Turns,
    /// By when the kernel must be told that flows which wait for their turn are still wanted.
    kept: BTreeSet<(i64, FlowKey)>,
    /// Deadlines of those that are under way.
    due: BTreeSet<(i64, FlowKey)>,
    /// When the time of idle ones is over, in the order in which they became idle. Those that are
    /// not idle any more are passed over.
    idle: VecDeque<(i64, FlowKey)>,
    /// Whose answer had grown when it was to be joined.
    grown: Vec<FlowKey>,
    /// How many are being probed.
    probed: usize,
    /// For how many a server is asked.
    active: usize,
    /// Number of the newest join that waits, of any flow: an answer that is not looked at any more must
    /// not be joined in the place of the one that is.
    joins: u64,
}

impl Rescues {
    /// Their records.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.flows.values().map(|r| &r.record)
    }

    /// How many there are, and how many of them are under way.
    pub fn len(&self) -> (usize, usize) {
        (self.flows.len(), self.probed + self.active)
    }

    /// Whether any is under way, or waits for its turn.
    pub(crate) fn are_busy(&self) -> bool {
        !self.due.is_empty() || !self.kept.is_empty() || !self.turns.is_empty() || self.len().1 > 0
    }

    pub(super) fn probed(&self) -> usize {
        self.probed
    }

    pub(super) fn active(&self) -> usize {
        self.active
    }

    pub(super) fn get(&self, key: &FlowKey) -> Option<&Rescue> {
        self.flows.get(key)
    }

    /// What is no matter of its stage and deadline may be changed.
    pub(super) fn get_mut(&mut self, key: &FlowKey) -> Option<&mut Rescue> {
        self.flows.get_mut(key)
    }

    /// The flow that has this number in the kernel.
    pub(super) fn named(&self, flow: u64) -> Option<FlowKey> {
        self.by_id.get(&flow).copied()
    }

    /// Those that wait for their turn and must be kept now, the most urgent first, but of `share`
    /// parts of all that wait no more than one, or [`HOLDS`].
    pub(super) fn to_keep(&self, now: i64, share: usize) -> Vec<FlowKey> {
        let most = HOLDS.max(self.kept.len().div_ceil(share));
        until(&self.kept, now, most)
    }

    /// Those under way whose time is over, the latest first, `most` of them.
    pub(super) fn due(&self, now: i64, most: usize) -> Vec<FlowKey> {
        until(&self.due, now, most)
    }

    /// Takes those out of line that have been idle for too long, `most` of them.
    pub(super) fn idle_until(&mut self, now: i64, most: usize) -> Vec<FlowKey> {
        let mut over = Vec::new();
        while over.len() < most {
            let first = self.idle.front().copied();
            let Some((_, key)) = first.filter(|(at, _)| *at <= now) else {
                break;
            };
            self.idle.pop_front();
            let idle = |r: &Rescue| matches!(r.stage, Stage::Idle) && r.deadline <= now;
            over.extend(self.flows.get(&key).is_some_and(idle).then_some(key));
        }
        over
    }

    /// An answer has grown: it is looked at again with the next tick.
    pub(super) fn grows(&mut self, key: &FlowKey) {
        self.grown.push(*key);
    }

    pub(super) fn grown(&mut self) -> Vec<FlowKey> {
        std::mem::take(&mut self.grown)
    }

    /// A number for a join that is to wait.
    pub(super) fn next_join(&mut self) -> u64 {
        self.joins += 1;
        self.joins
    }

    /// Takes out the records of the flows of an address, with their numbers in the kernel.
    pub(crate) fn take_address(&mut self, addr: IpAddr) -> Vec<(Option<u64>, Record)> {
        self.take_where(|service| service.ip() == addr)
    }

    /// Takes out the records of the flows of a service, with their numbers in the kernel.
    pub(crate) fn take_service(&mut self, service: SocketAddr) -> Vec<(Option<u64>, Record)> {
        self.take_where(|of| *of == service)
    }

    fn take_where(&mut self, there: impl Fn(&SocketAddr) -> bool) -> Vec<(Option<u64>, Record)> {
        let keys = self.flows.keys().filter(|k| there(&k.service));
        let keys: Vec<_> = keys.copied().collect();
        let removed = keys.iter().filter_map(|key| self.remove(key));
        removed.map(|r| (r.flow, r.record)).collect()
    }

    /// The client has used the flow's port again.
    pub(crate) fn forget(&mut self, key: &FlowKey) {
        self.remove(key);
    }

    pub(super) fn insert(&mut self, rescue: Rescue) {
        let (key, place) = (rescue.record.key, rescue.place());
        self.remove(&key);
        if let Some(flow) = rescue.flow {
            self.by_id.insert(flow, key);
        }
        self.flows.insert(key, rescue);
        self.enter(&key, place);
    }

    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<Rescue> {
        let rescue = self.flows.remove(key)?;
        if let Some(flow) = rescue.flow {
            self.by_id.remove(&flow);
        }
        self.leave(key, rescue.place());
        Some(rescue)
    }

    pub(super) fn set(&mut self, key: &FlowKey, stage: Stage, deadline: i64) {
        self.change(key, |r| (r.stage, r.deadline) = (stage, deadline));
    }

    /// Takes out the stage of a flow, which is to have another one and is under way until then.
    pub(super) fn take_stage(&mut self, key: &FlowKey) -> Option<Stage> {
        self.change(key, |r| std::mem::replace(&mut r.stage, Stage::Joining))
    }

    /// Changes the stage of a flow or its deadline.
    pub(super) fn change<R>(
        &mut self,
        key: &FlowKey,
        change: impl FnOnce(&mut Rescue) -> R,
    ) -> Option<R> {
        let rescue = self.flows.get_mut(key)?;
        let before = rescue.place();
        let result = change(rescue);
        let after = rescue.place();
        self.leave(key, before);
        self.enter(key, after);
        Some(result)
    }

    fn enter(&mut self, key: &FlowKey, place: Place) {
        match place.load {
            Load::None => {}
            Load::Probed => self.probed += 1,
            Load::Active => self.active += 1,
        }
        let at = (place.deadline, *key);
        match place.line {
            Line::None => {}
            Line::Kept => drop(self.kept.insert(at)),
            Line::Due => drop(self.due.insert(at)),
            Line::Idle => self.idle.push_back(at),
        }
    }

    fn leave(&mut self, key: &FlowKey, place: Place) {
        match place.load {
            Load::None => {}
            Load::Probed => self.probed -= 1,
            Load::Active => self.active -= 1,
        }
        let at = (place.deadline, *key);
        match place.line {
            Line::None | Line::Idle => {}
            Line::Kept => drop(self.kept.remove(&at)),
            Line::Due => drop(self.due.remove(&at)),
        }
    }

    pub(crate) fn identify(&mut self, key: &FlowKey, flow: u64) {
        let Some(rescue) = self.flows.get_mut(key) else {
            return;
        };
        if let Some(old) = rescue.flow.replace(flow) {
            self.by_id.remove(&old);
        }
        self.by_id.insert(flow, *key);
    }

    /// How far the search for a server that has the object has come.
    pub(crate) fn search(&mut self, key: &FlowKey) -> Option<&mut Search> {
        self.flows.get_mut(key).map(|rescue| &mut rescue.search)
    }

    /// What another server is to be asked, which is given as much time as the one before. `None`:
    /// nothing is being asked, or the answer was right a moment ago and is about to be joined.
    pub(crate) fn ask_again(&mut self, key: &FlowKey) -> Option<Box<Ask>> {
        let rescue = self.flows.get_mut(key).filter(|r| !r.is_to_be_joined())?;
        rescue.patience = None;
        let deadline = rescue.deadline;
        match self.take_stage(key)? {
            Stage::Asking { ask, .. }
            | Stage::Replaying { ask }
            | Stage::Waiting { ask: Some(ask) } => Some(ask),
            other => {
                self.set(key, other, deadline);
                None
            }
        }
    }

    /// The number of a flow in the kernel.
    pub(super) fn flow(&self, key: &FlowKey) -> Option<u64> {
        self.flows.get(key)?.flow
    }

    /// The kernel has nothing of the flow any more. The number that it had there.
    pub(super) fn unidentify(&mut self, key: &FlowKey) -> Option<u64> {
        let old = self.flows.get_mut(key)?.flow.take()?;
        self.by_id.remove(&old);
        Some(old)
    }
}

/// Where a flow is in line by its deadline.
#[derive(Clone, Copy, Debug)]
enum Line {
    None,
    Kept,
    Due,
    Idle,
}

/// What counts while a flow is under way.
#[derive(Clone, Copy, Debug)]
enum Load {
    None,
    Probed,
    Active,
}

/// What a flow counts for while it is in its stage.
#[derive(Clone, Copy, Debug)]
struct Place {
    load: Load,
    line: Line,
    deadline: i64,
}

impl Rescue {
    fn place(&self) -> Place {
        let line = match self.stage {
            _ if self.deadline == i64::MAX => Line::None,
            Stage::Idle => Line::Idle,
            Stage::Queued { .. } => Line::Kept,
            _ => Line::Due,
        };
        let load = match self.stage {
            Stage::Locating => Load::Probed,
            Stage::Asking { .. } | Stage::Waiting { .. } | Stage::Joining => Load::Active,
            // Who replays is not counted: it may take long, and others are not to wait for it.
            Stage::Replaying { .. } | Stage::Delivering => Load::None,
            Stage::Idle | Stage::Queued { .. } => Load::None,
        };
        Place {
            load,
            line,
            deadline: self.deadline,
        }
    }
}

/// The first in line whose time has come, `most` of them.
fn until(line: &BTreeSet<(i64, FlowKey)>, now: i64, most: usize) -> Vec<FlowKey> {
    let late = line.iter().take_while(|(at, _)| *at <= now);
    late.take(most).map(|(_, key)| *key).collect()
}
