// SPDX-License-Identifier: GPL-2.0

//! Sequence numbers that cannot be mixed.
//!
//! A connection has two byte streams, client to server ([`C2s`]) and server to client
//! ([`S2c`]), and each stream is numbered twice: as the client sees it ([`Client`]) and as
//! the local socket does ([`Local`]). A number carries both in its type, so that comparing
//! or adding across them does not compile; only a [`Delta`] leads from one side to the other.
//!
//! ```compile_fail
//! use holdfast_core::seq::{C2s, Client, Local, Seq};
//! let client = Seq::<Client, C2s>::new(1);
//! let local = Seq::<Local, C2s>::new(1);
//! client.before(local); // expected `Seq<Client, C2s>`, found `Seq<Local, C2s>`
//! ```
//!
//! All arithmetic is modulo 2^32 (RFC 9293, section 3.4).

use ::core::marker::PhantomData;

/// The side that the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {}
/// The side that the local socket sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {}
/// The stream from the client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum C2s {}
/// The stream from the server to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S2c {}

/// A sequence number of stream `D` as side `V` sees it, in host byte order.
#[derive(Debug, PartialEq, Eq)]
pub struct Seq<V, D>(u32, PhantomData<(V, D)>);

// Derived `Copy` would ask for `V: Copy`, which the uninhabited markers only have by accident.
impl<V, D> Clone for Seq<V, D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V, D> Copy for Seq<V, D> {}

impl<V, D> Seq<V, D> {
    /// Takes `raw`, in host byte order, as a number of this side and stream.
    pub const fn new(raw: u32) -> Self {
        Seq(raw, PhantomData)
    }

    /// The number, in host byte order.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The number `n` bytes on.
    #[must_use]
    pub const fn plus(self, n: u32) -> Self {
        Seq::new(self.0.wrapping_add(n))
    }

    /// The number `n` bytes back.
    #[must_use]
    pub const fn minus(self, n: u32) -> Self {
        Seq::new(self.0.wrapping_sub(n))
    }

    /// Bytes from `earlier` to here, negative if it is in fact later (`SEG.SEQ - x` as in
    /// `before()` of `include/net/tcp.h`).
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// Whether this is strictly before `other`.
    pub const fn before(self, other: Self) -> bool {
        self.since(other) < 0
    }

    /// Whether this is strictly after `other`.
    pub const fn after(self, other: Self) -> bool {
        self.since(other) > 0
    }
}

/// What leads from local to client numbers of stream `D`: client = local + delta.
#[derive(Debug, PartialEq, Eq)]
pub struct Delta<D>(u32, PhantomData<D>);

impl<D> Clone for Delta<D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<D> Copy for Delta<D> {}

impl<D> Delta<D> {
    /// The delta that changes nothing.
    pub const ZERO: Self = Delta::new(0);

    /// The delta whose raw value is `client - local` (mod 2^32).
    pub const fn new(raw: u32) -> Self {
        Delta(raw, PhantomData)
    }

    /// The delta that makes `local` appear as `client`.
    pub const fn between(client: Seq<Client, D>, local: Seq<Local, D>) -> Self {
        Delta::new(client.raw().wrapping_sub(local.raw()))
    }

    /// `client - local` (mod 2^32).
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether both sides see the same numbers.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The number of `local` as the client sees it.
    pub const fn to_client(self, local: Seq<Local, D>) -> Seq<Client, D> {
        Seq::new(local.raw().wrapping_add(self.0))
    }

    /// The number of `client` as the local socket sees it.
    pub const fn to_local(self, client: Seq<Client, D>) -> Seq<Local, D> {
        Seq::new(client.raw().wrapping_sub(self.0))
    }
}

/// A position in stream `D`, client space, that does not wrap: the low 32 bits are the
/// client's sequence number, the high ones count from 1 how often it wrapped since the flow began.
/// Objects are larger than 2^32 bytes.
#[derive(Debug)]
pub struct Pos<D>(u64, PhantomData<D>);

impl<D> Clone for Pos<D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<D> Copy for Pos<D> {}
impl<D> PartialEq for Pos<D> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<D> Eq for Pos<D> {}
impl<D> PartialOrd for Pos<D> {
    fn partial_cmp(&self, other: &Self) -> Option<::core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<D> Ord for Pos<D> {
    fn cmp(&self, other: &Self) -> ::core::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<D> Pos<D> {
    /// The position with this count.
    pub const fn new(raw: u64) -> Self {
        Pos(raw, PhantomData)
    }

    /// The position of the first number `seq` that is known of a stream. One wrap above zero, so
    /// that what lies before it (a repeated SYN, an old acknowledgement) has a position too.
    pub const fn starting(seq: Seq<Client, D>) -> Self {
        Pos((1 << 32) + seq.raw() as u64, PhantomData)
    }

    /// The position with a count from outside. `None`: no connection has it, or arithmetic
    /// around it might overflow.
    pub const fn checked(raw: u64) -> Option<Self> {
        if raw >> 32 != 0 && raw >> 62 == 0 {
            Some(Pos::new(raw))
        } else {
            None
        }
    }

    /// The count.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The sequence number of this position.
    pub const fn seq(self) -> Seq<Client, D> {
        Seq::new(self.0 as u32)
    }

    /// The position `n` bytes on. Wraps only after 2^64 bytes.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Pos::new(self.0.wrapping_add(n))
    }

    /// The position `n` bytes back.
    #[must_use]
    pub const fn minus(self, n: u64) -> Self {
        Pos::new(self.0.wrapping_sub(n))
    }

    /// Bytes from `earlier` to here; zero if it is in fact later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The position of `seq` that is nearest to this one (at most 2^31 away).
    #[must_use]
    pub const fn nearest(self, seq: Seq<Client, D>) -> Self {
        let diff = seq.since(self.seq()) as i64;
        Pos::new(self.0.wrapping_add_signed(diff))
    }
}
