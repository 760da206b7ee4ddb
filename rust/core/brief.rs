// SPDX-License-Identifier: GPL-2.0

//! What the express way has to know of a flow, in one byte.
//!
//! Most of what [the express way](super::express) asks of a flow has the same answer for packet after
//! packet: only the long way, commands and timers can change it. So it is asked once, and kept as a
//! [`Brief`] for as long as none of them has touched the flow.
//!
//! That nobody forgets to say so is the compiler's business. A [`Briefed`] flow can be changed through
//! [`DerefMut`] only, which throws the brief away, or on the express way, which changes nothing that
//! the brief is made of. There is one function that makes it, [`Brief::of`], of the predicates which
//! the express way asks without a brief.
//!
//! [`DerefMut`]: ::core::ops::DerefMut

use super::express::Around;
use super::flow::Flow;
use super::plain::Plain;
use super::wire::Dir;
use ::core::ops::{Deref, DerefMut};

/// Answers that stay until a flow is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief(u8);

impl Brief {
    /// There is none: the flow may have changed.
    const NONE: Self = Brief(0);
    const MADE: u8 = 1;
    const MOVES: u8 = 1 << 1;

    /// The bit for calm packets in direction `dir`, with or without timestamps.
    const fn calm(dir: Dir, stamped: bool) -> u8 {
        let at = match dir {
            Dir::ToService => 2,
            Dir::ToClient => 4,
        };
        1 << (at + stamped as u8)
    }

    /// The brief of a flow as it is now.
    pub fn of(flow: &Flow) -> Self {
        let mut bits = Self::MADE;
        for stamped in [false, true] {
            if flow.is_calm_c2s(stamped) {
                bits |= Self::calm(Dir::ToService, stamped);
            }
            if flow.is_calm_s2c(stamped) {
                bits |= Self::calm(Dir::ToClient, stamped);
            }
        }
        if flow.moves() {
            bits |= Self::MOVES;
        }
        Brief(bits)
    }

    /// Whether nothing is expected of plain packets in direction `dir`, with or without timestamps:
    /// they may be shown with `CALM`.
    #[inline(always)]
    pub const fn is_calm(self, dir: Dir, stamped: bool) -> bool {
        self.0 & Self::calm(dir, stamped) != 0
    }

    /// Whether plain packets of a calm flow are changed.
    #[inline(always)]
    pub const fn moves(self) -> bool {
        self.0 & Self::MOVES != 0
    }
}

/// A flow and its brief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Briefed {
    brief: Brief,
    flow: Flow,
}

impl From<Flow> for Briefed {
    fn from(flow: Flow) -> Self {
        Briefed {
            brief: Brief::NONE,
            flow,
        }
    }
}

impl Deref for Briefed {
    type Target = Flow;

    #[inline(always)]
    fn deref(&self) -> &Flow {
        &self.flow
    }
}

impl DerefMut for Briefed {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Flow {
        self.brief = Brief::NONE;
        &mut self.flow
    }
}

impl Briefed {
    /// The brief, made now if there is none.
    #[inline(always)]
    pub fn brief(&mut self) -> Brief {
        if self.brief == Brief::NONE {
            self.make();
        }
        self.brief
    }

    #[cold]
    #[inline(never)]
    fn make(&mut self) {
        self.brief = Brief::of(&self.flow);
    }

    /// Whether there is a brief that is not that of the flow as it is: never.
    pub fn is_stale(&self) -> bool {
        self.brief != Brief::NONE && self.brief != Brief::of(&self.flow)
    }

    /// As [`Flow::express_c2s`]. `CALM`: the brief says so.
    #[inline(always)]
    pub fn express_c2s<const CALM: bool>(&mut self, p: &Plain, around: &mut impl Around) -> bool {
        self.flow.express_c2s::<CALM>(p, around)
    }

    /// As [`Flow::express_s2c`]. `CALM`: the brief says so.
    #[inline(always)]
    pub fn express_s2c<const CALM: bool>(&mut self, p: &Plain, around: &mut impl Around) -> bool {
        self.flow.express_s2c::<CALM>(p, around)
    }
}
