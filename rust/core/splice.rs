// SPDX-License-Identifier: GPL-2.0

//! The splice: how a packet of one side becomes one of the other.
//!
//! A splice is two half-splices, [`Splice::c2s`] and [`Splice::s2c`], each of which
//! translates one direction. Both need the numbering of both streams, for a packet of one
//! stream acknowledges the other:
//!
//! ```text
//!               client space                    local space
//!     c2s:   seq            ----------------->  seq           (stream C2s)
//!            ack, SACK      ----------------->  ack, SACK     (stream S2c)
//!            TSecr          ----------------->  TSecr - D_t
//!     s2c:   seq            <-----------------  seq           (stream S2c)
//!            ack, SACK      <-----------------  ack, SACK     (stream C2s)
//!            TSval + D_t    <-----------------  TSval
//!            window         <-----------------  window, of another scale
//! ```
//!
//! The halves need not be on one machine. Where only [`Splice::c2s`] is used, nothing is
//! known of what the service sends, and [`Splice::acknowledged`] has to be called instead.

use super::counter::Counter;
use super::options::MAX_WSCALE;
use super::seq::{C2s, Client, Delta, Local, S2c, Seq};
use super::wire::{Endpoint, Packet};

/// Bytes after which what lay before a position has surely been acknowledged: more than the
/// largest window (2^30, RFC 7323, section 2.3), and well below 2^31, where "before" turns.
pub(super) const SETTLED: i32 = (1 << 30) + (1 << 29);

/// Why a packet was not translated. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// It lies across a boundary: payload bytes before offset `at` and those from there on
    /// are translated differently, so it must be split there. `at` is never 0; it is the
    /// length of the payload if only the FIN lies beyond.
    Straddles {
        /// Offset in the payload, in bytes.
        at: u32,
    },
    /// Its bytes were taken out of the stream when the boundary moved.
    Erased,
    /// It is signed (TCP-MD5, TCP-AO).
    Signed,
}

impl Refuse {
    /// The counter of this refusal.
    pub const fn counter(self) -> Counter {
        match self {
            Refuse::Straddles { .. } => Counter::Straddle,
            Refuse::Erased => Counter::Erased,
            Refuse::Signed => Counter::Signed,
        }
    }
}

/// A place where the delta changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boundary {
    /// The first byte of the new delta.
    at: Seq<Local, S2c>,
    /// The delta of the bytes before.
    old: Delta<S2c>,
}

/// How stream s2c is numbered on both sides.
///
/// With a boundary, one of the sides has a gap at it:
///
/// ```text
///   bytes erased from the stream            bytes inserted into it
///   local   ....|xxxx|....                  local   ........|........
///               lost  at                                    at
///   client  ........|........               client  ....|xxxx|....
///                   new(at)                      old(at)  new(at)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    pub(super) delta: Delta<S2c>,
    pub(super) boundary: Option<Boundary>,
    /// The first byte that the local socket itself numbered.
    pub(super) floor: Option<Seq<Local, S2c>>,
}

/// The smaller of two numbers of one side.
fn earlier<V, D>(a: Seq<V, D>, b: Seq<V, D>) -> Seq<V, D> {
    if b.before(a) {
        b
    } else {
        a
    }
}

impl Numbering {
    /// Whether both sides have the same numbers.
    fn is_identity(&self) -> bool {
        self.delta.is_zero() && self.boundary.is_none() && self.floor.is_none()
    }

    /// The byte `n` (or, as an acknowledgement, all bytes before it) in local space.
    fn local(&self, n: Seq<Client, S2c>) -> Seq<Local, S2c> {
        match self.boundary {
            Some(b) if n.before(self.delta.to_client(b.at)) => earlier(b.old.to_local(n), b.at),
            _ => self.delta.to_local(n),
        }
    }

    /// The end `n` of a block of bytes in local space: it says nothing of the byte there.
    fn local_end(&self, n: Seq<Client, S2c>) -> Seq<Local, S2c> {
        match self.boundary {
            Some(b) if !n.after(self.delta.to_client(b.at)) => earlier(b.old.to_local(n), b.at),
            _ => self.delta.to_local(n),
        }
    }

    /// Refuses a segment with bytes below the floor: they were never for the client, which may
    /// have others at their place.
    fn above_floor(&self, n: Seq<Local, S2c>, len: u32) -> Result<(), Refuse> {
        match self.floor {
            Some(floor) if len > 0 && n.before(floor) => {
                let below = floor.since(n) as u32;
                Err(if len > below {
                    Refuse::Straddles { at: below }
                } else {
                    Refuse::Erased
                })
            }
            _ => Ok(()),
        }
    }

    /// The byte `n` in client space, of a segment that takes `len` numbers, of which a SYN
    /// takes the first `syn`.
    fn client(&self, n: Seq<Local, S2c>, len: u32, syn: u32) -> Result<Seq<Client, S2c>, Refuse> {
        let Some(b) = self.boundary.filter(|b| n.before(b.at)) else {
            return self.above_floor(n, len).map(|()| self.delta.to_client(n));
        };
        let joint = self.delta.to_client(b.at);
        // The first byte that must not be sent with the old delta.
        let end = earlier(b.old.to_local(joint), b.at);
        let room = end.since(n);
        if len == 0 {
            Ok(earlier(b.old.to_client(n), joint))
        } else if room <= 0 {
            Err(Refuse::Erased)
        } else if len > room as u32 {
            // A SYN begins a stream, and no boundary divides it from the first byte but by
            // a mistake of the caller.
            Err(Refuse::Straddles {
                at: (room as u32).saturating_sub(syn),
            })
        } else {
            Ok(b.old.to_client(n))
        }
    }
}

/// The timestamps of the service, as the client sees them and as the local socket does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// What is added to TSval of the service (mod 2^32), and taken off TSecr of the client.
    pub delta: u32,
    /// The first TSval of the local socket, in its own space. What the client echoes from
    /// before it (of another server) becomes this: an older one would be taken for a very
    /// long round trip, or for a sign that a retransmission was needless.
    pub first: Option<u32>,
}

/// A window field re-expressed in another scale (RFC 7323, section 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescale {
    /// The scale of the side that sends it (0 if it uses none).
    pub from: u8,
    /// The scale that the side which receives it was told (0 if none).
    pub to: u8,
}

impl Rescale {
    /// The field `window` in the other scale, rounded down: never more than was offered.
    #[inline]
    pub fn apply(self, window: u16) -> u16 {
        if self.is_same() {
            return window;
        }
        self.apply_less(window, 0)
    }

    /// Whether fields stay as they are.
    #[inline]
    pub(super) fn is_same(self) -> bool {
        self.from == self.to
    }

    /// As [`Rescale::apply`], of a window that ends `less` bytes earlier.
    #[inline]
    fn apply_less(self, window: u16, less: u32) -> u16 {
        let bytes = u32::from(window) << self.from.min(MAX_WSCALE);
        let bytes = bytes.saturating_sub(less);
        u16::try_from(bytes >> self.to.min(MAX_WSCALE)).unwrap_or(u16::MAX)
    }
}

/// New addresses of a packet. `None`: as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The new source.
    pub source: Option<Endpoint>,
    /// The new destination.
    pub destination: Option<Endpoint>,
}

impl Rewrite {
    pub(super) fn is_nothing(&self) -> bool {
        self.source.is_none() && self.destination.is_none()
    }

    fn apply(&self, p: &mut Packet<'_>) {
        if let Some(end) = self.source {
            p.set_source(end);
        }
        if let Some(end) = self.destination {
            p.set_destination(end);
        }
    }
}

/// The translation of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    pub(super) c2s: Delta<C2s>,
    pub(super) s2c: Numbering,
    pub(super) clock: Clock,
    pub(super) window_c2s: Rescale,
    pub(super) window_s2c: Rescale,
    pub(super) rewrite_c2s: Rewrite,
    pub(super) rewrite_s2c: Rewrite,
}

impl Splice {
    /// The splice that changes nothing.
    pub const fn identity() -> Self {
        const SAME: Rescale = Rescale { from: 0, to: 0 };
        const STAY: Rewrite = Rewrite {
            source: None,
            destination: None,
        };
        Splice {
            c2s: Delta::ZERO,
            s2c: Numbering {
                delta: Delta::ZERO,
                boundary: None,
                floor: None,
            },
            clock: Clock {
                delta: 0,
                first: None,
            },
            window_c2s: SAME,
            window_s2c: SAME,
            rewrite_c2s: STAY,
            rewrite_s2c: STAY,
        }
    }

    /// The splice with these deltas, each client minus local.
    pub const fn new(c2s: Delta<C2s>, s2c: Delta<S2c>, clock: Clock) -> Self {
        let mut splice = Splice::identity();
        splice.c2s = c2s;
        splice.s2c.delta = s2c;
        splice.clock = clock;
        splice
    }

    /// With `floor`, the first s2c byte that the local socket itself has numbered and the
    /// client may see. An acknowledgement below it is of bytes of another server: it is
    /// raised to the floor, and SACK blocks below it are removed.
    #[must_use]
    pub const fn with_ack_floor(mut self, floor: Seq<Local, S2c>) -> Self {
        self.s2c.floor = Some(floor);
        self
    }

    /// With windows re-expressed: those of the client, and those of the service. The fields
    /// of SYN segments are never scaled and stay (RFC 7323, section 2.2).
    #[must_use]
    pub const fn with_windows(mut self, c2s: Rescale, s2c: Rescale) -> Self {
        self.window_c2s = c2s;
        self.window_s2c = s2c;
        self
    }

    /// With new addresses for the packets of each direction.
    #[must_use]
    pub const fn with_addresses(mut self, c2s: Rewrite, s2c: Rewrite) -> Self {
        self.rewrite_c2s = c2s;
        self.rewrite_s2c = s2c;
        self
    }

    /// Whether no packet is changed.
    #[inline]
    pub fn is_identity(&self) -> bool {
        self.c2s.is_zero()
            && self.s2c.is_identity()
            && self.clock.delta == 0
            && self.clock.first.is_none()
            && self.window_c2s.is_same()
            && self.window_s2c.is_same()
            && self.rewrite_c2s.is_nothing()
            && self.rewrite_s2c.is_nothing()
    }

    /// The first s2c byte that the local socket has numbered for the client, while it matters.
    pub const fn ack_floor(&self) -> Option<Seq<Local, S2c>> {
        self.s2c.floor
    }

    /// What leads from local to client numbers of c2s.
    pub const fn delta_c2s(&self) -> Delta<C2s> {
        self.c2s
    }

    /// What leads from local to client numbers of s2c, behind the boundary if there is one.
    pub const fn delta_s2c(&self) -> Delta<S2c> {
        self.s2c.delta
    }

    /// The timestamps.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// The acknowledgement number `ack` of the client, as the local socket gets it.
    pub fn ack_to_local(&self, ack: Seq<Client, S2c>) -> Seq<Local, S2c> {
        let n = self.s2c.local(ack);
        match self.s2c.floor {
            Some(floor) if n.before(floor) => floor,
            _ => n,
        }
    }

    /// The s2c number `seq` of the local socket as the client sees it; of bytes that were
    /// erased, the number that follows them.
    pub fn seq_to_client(&self, seq: Seq<Local, S2c>) -> Seq<Client, S2c> {
        // Without length nothing is refused.
        self.s2c
            .client(seq, 0, 0)
            .unwrap_or(self.s2c.delta.to_client(seq))
    }

    /// Gives s2c bytes from `at` on the delta `new`. Bytes before `at` keep the old one until
    /// they are acknowledged. Where `new` is below the old one, the bytes in between are
    /// erased, and refused from now on; the caller has not sent any of them to the client.
    ///
    /// Returns whether it was done: not while an older boundary is still needed.
    #[must_use]
    pub fn move_boundary_s2c(&mut self, at: Seq<Local, S2c>, new: Delta<S2c>) -> bool {
        if self.s2c.boundary.is_some() {
            return false;
        }
        if new != self.s2c.delta {
            self.s2c.boundary = Some(Boundary {
                at,
                old: self.s2c.delta,
            });
            self.s2c.delta = new;
        }
        true
    }

    /// Tells that the client has acknowledged all before `una`. It must be no more than was
    /// sent. A boundary below is given up, and an acknowledgement floor takes its place.
    ///
    /// [`Splice::s2c`] finds out by itself when 1.5 GiB have gone by; calling this frees the
    /// boundary earlier.
    pub fn acknowledged(&mut self, una: Seq<Client, S2c>) {
        if let Some(b) = self.s2c.boundary {
            if una.before(self.s2c.delta.to_client(b.at)) {
                return;
            }
            self.s2c.boundary = None;
            self.s2c.floor = Some(b.at);
        }
        if self
            .s2c
            .floor
            .is_some_and(|f| self.s2c.delta.to_local(una).since(f) > SETTLED)
        {
            self.s2c.floor = None;
        }
    }

    /// Translates a packet of the client for the local socket. Returns whether it lost SACK blocks,
    /// of bytes that this socket has not sent or is told by the acknowledgement.
    ///
    /// # Errors
    /// [`Refuse::Signed`], and the packet is unchanged.
    pub fn c2s(&self, p: &mut Packet<'_>) -> Result<bool, Refuse> {
        let mut removed = false;
        if self.is_identity() {
            return Ok(removed);
        }
        if p.options().signed() {
            return Err(Refuse::Signed);
        }
        p.set_seq(self.c2s.to_local(Seq::new(p.seq())).raw());
        // An acknowledgement that is raised takes the window with it: its right edge stays.
        let mut raised = 0;
        if p.has_ack() {
            let ack = Seq::new(p.ack());
            let local = self.ack_to_local(ack);
            raised = local.since(self.s2c.delta.to_local(ack)).max(0) as u32;
            p.set_ack(local.raw());
            removed = self.sack_to_local(p, Some(local).filter(|_| raised > 0));
            if let Some((tsval, tsecr)) = p.options().ts {
                p.set_timestamps(tsval, self.tsecr_to_local(tsecr));
            }
        }
        if !p.syn() {
            p.set_window(self.window_c2s.apply_less(p.window(), raised));
        }
        self.rewrite_c2s.apply(p);
        Ok(removed)
    }

    /// Whether [`Splice::s2c`] would translate this packet.
    ///
    /// # Errors
    /// Any [`Refuse`].
    pub fn check_s2c(&self, p: &Packet<'_>) -> Result<(), Refuse> {
        if self.is_identity() {
            return Ok(());
        }
        self.place_s2c(p).map(|_| ())
    }

    /// The sequence number of a packet of the local socket in client space.
    fn place_s2c(&self, p: &Packet<'_>) -> Result<Seq<Client, S2c>, Refuse> {
        if p.options().signed() {
            return Err(Refuse::Signed);
        }
        self.s2c
            .client(Seq::new(p.seq()), p.seq_len(), u32::from(p.syn()))
    }

    /// Translates a packet of the local socket for the client.
    ///
    /// # Errors
    /// Any [`Refuse`], and the packet is unchanged.
    pub fn s2c(&mut self, p: &mut Packet<'_>) -> Result<(), Refuse> {
        if self.is_identity() {
            return Ok(());
        }
        let seq = self.place_s2c(p)?;
        let local = Seq::new(p.seq());
        // The sequence number of a reset can be what a stranger acknowledged (RFC 9293,
        // section 3.10.7.1).
        if !p.rst() {
            self.settle(local, p.options().ts.map(|(tsval, _)| tsval));
        }
        p.set_seq(seq.raw());
        if p.has_ack() {
            p.set_ack(self.c2s.to_client(Seq::new(p.ack())).raw());
        }
        self.sack_to_client(p);
        if let Some((tsval, tsecr)) = p.options().ts {
            p.set_timestamps(tsval.wrapping_add(self.clock.delta), tsecr);
        }
        if !p.syn() {
            p.set_window(self.window_s2c.apply(p.window()));
        }
        self.rewrite_s2c.apply(p);
        Ok(())
    }

    /// Forgets what `seq` and `tsval`, of the local socket and so trusted, show to be long
    /// past: numbers wrap, and what lay before would seem to lie ahead.
    fn settle(&mut self, seq: Seq<Local, S2c>, tsval: Option<u32>) {
        if self.s2c.boundary.is_some_and(|b| seq.since(b.at) > SETTLED) {
            self.s2c.boundary = None;
        }
        if self.s2c.floor.is_some_and(|f| seq.since(f) > SETTLED) {
            self.s2c.floor = None;
        }
        if let (Some(first), Some(tsval)) = (self.clock.first, tsval) {
            if tsval.wrapping_sub(first) as i32 > SETTLED {
                self.clock.first = None;
            }
        }
    }

    pub(super) fn tsecr_to_local(&self, tsecr: u32) -> u32 {
        // 0 means that there is none to echo; Linux takes it so, too.
        if tsecr == 0 {
            return 0;
        }
        let local = tsecr.wrapping_sub(self.clock.delta);
        match self.clock.first {
            Some(first) if (local.wrapping_sub(first) as i32) < 0 => first,
            _ => local,
        }
    }

    /// `raised`: the acknowledgement, if it was raised. A block at it is removed, too: the
    /// local socket would take it for reneging (`tcp_check_sack_reneging`). Returns whether there
    /// was one to remove.
    fn sack_to_local(&self, p: &mut Packet<'_>, raised: Option<Seq<Local, S2c>>) -> bool {
        let (mut i, mut removed) = (0, false);
        while let Some((left, right)) = p.options().sack().get(i).copied() {
            let mut left = self.s2c.local(Seq::new(left));
            let right = self.s2c.local_end(Seq::new(right));
            if let Some(floor) = self.s2c.floor.filter(|f| left.before(*f)) {
                left = floor;
            }
            let reneges = raised.is_some_and(|ack| !left.after(ack) && right.after(ack));
            if right.after(left) && !reneges {
                p.set_sack(i, left.raw(), right.raw());
                i += 1;
            } else {
                removed |= p.remove_sack_block(i);
            }
        }
        removed
    }

    fn sack_to_client(&self, p: &mut Packet<'_>) {
        let mut i = 0;
        while let Some((left, right)) = p.options().sack().get(i).copied() {
            let left = self.c2s.to_client(Seq::new(left));
            let right = self.c2s.to_client(Seq::new(right));
            p.set_sack(i, left.raw(), right.raw());
            i += 1;
        }
    }
}
