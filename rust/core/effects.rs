// SPDX-License-Identifier: GPL-2.0

//! What a decision asks its caller to do.
//!
//! The flow state machine changes its own state and the headers it is shown, nothing else.
//! All that reaches further (a packet of our own, a log record, a timer) is listed here, in
//! fixed room, and done by the caller once the flow's lock is released.

use super::counter::Counter;
use super::ring::Kind;
use super::wire::Segment;

/// A short list in fixed room. What does not fit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<T: Copy, const N: usize> {
    items: [Option<T>; N],
    len: u8,
}

impl<T: Copy, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T: Copy, const N: usize> List<T, N> {
    const EMPTY: Self = {
        assert!(N <= u8::MAX as usize);
        List {
            items: [None; N],
            len: 0,
        }
    };

    /// Appends `item`; `false` if there is no room.
    pub fn push(&mut self, item: T) -> bool {
        match self.items.get_mut(usize::from(self.len)) {
            Some(slot) => {
                *slot = Some(item);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().take(usize::from(self.len)).flatten()
    }

    /// Forgets all items.
    fn clear(&mut self) {
        self.len = 0;
    }

    /// Items that still fit.
    pub fn room(&self) -> usize {
        N - usize::from(self.len)
    }
}

/// What becomes of the packet that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, as its headers are now.
    Accept,
    /// It is freed; the sender must not notice.
    Drop(Counter),
    /// It waits, unchanged, until [`Effects::release`]; then it is shown again.
    Hold,
}

/// Where the payload of a packet of ours comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// No payload.
    None,
    /// Part of the request that the ghost sends.
    Request {
        /// Offset in bytes in the request.
        from: u32,
        /// Number of bytes.
        len: u32,
    },
    /// Part of the prefix that goes to the client.
    Prefix {
        /// Offset in bytes in the prefix.
        from: u32,
        /// Number of bytes.
        len: u32,
    },
}

/// A packet to make and send: to the client past netfilter, or to the local stack as if the
/// client had sent it ([`Segment::dir`] says which).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Headers.
    pub segment: Segment,
    /// Payload.
    pub bytes: Bytes,
}

/// What a log record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogData {
    /// Nothing.
    None,
    /// Part of the payload of the packet that was shown.
    Payload {
        /// Offset in bytes in the payload.
        from: u32,
        /// Number of bytes.
        len: u32,
    },
    /// A [`super::ring::Desc`] of the flow.
    Desc,
}

/// A record to write to the log; the fields are those of [`super::ring::Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// What it tells.
    pub kind: Kind,
    /// Of [`super::ring::flags`].
    pub flags: u16,
    /// Position, as `kind` says.
    pub pos: u64,
    /// Position of the other stream, as `kind` says.
    pub ack: u64,
    /// Window in bytes, or a number as `kind` says.
    pub window: u32,
    /// TSval and TSecr of the packet in client space.
    pub ts: Option<(u32, u32)>,
    /// Data.
    pub data: LogData,
}

impl Log {
    /// A record without packet.
    pub fn new(kind: Kind, pos: u64, ack: u64) -> Self {
        Log {
            kind,
            flags: 0,
            pos,
            ack,
            window: 0,
            ts: None,
            data: LogData::None,
        }
    }
}

/// All that a decision asks for, besides the [`Verdict`].
#[derive(Debug, PartialEq, Eq)]
pub struct Effects {
    /// Packets to send, in order.
    pub emits: List<Emit, 12>,
    /// Records to write, in order.
    pub logs: List<Log, 4>,
    /// Counters to raise by one.
    pub counts: List<Counter, 6>,
    /// Held packets are to be shown again.
    pub release: bool,
    /// Held packets are to be freed.
    pub discard: bool,
    /// The flow is to be removed from the table.
    pub gone: bool,
    /// The flow changed its phase: tell the listeners.
    pub notify: bool,
    /// Another connection has the name of the flow now: what is told from here on is of that one.
    pub anew: bool,
}

impl Default for Effects {
    fn default() -> Self {
        Self::NONE
    }
}

impl Effects {
    // A constant is copied into its place; a value made at run time is on the stack twice.
    const NONE: Self = Effects {
        emits: List::EMPTY,
        logs: List::EMPTY,
        counts: List::EMPTY,
        release: false,
        discard: false,
        gone: false,
        notify: false,
        anew: false,
    };

    /// Nothing.
    pub const fn new() -> Self {
        Self::NONE
    }

    /// Whether nothing at all is asked for, as after most packets.
    pub fn is_nothing(&self) -> bool {
        let lists = self.emits.len | self.logs.len | self.counts.len;
        lists == 0 && !(self.release || self.discard || self.gone || self.notify || self.anew)
    }

    /// Packets, records and counts have been seen to: forgets them, so that the room serves
    /// again (it is too large for a second one on the stack). What else is asked for stays.
    pub fn reuse(&mut self) {
        self.emits.clear();
        self.logs.clear();
        self.counts.clear();
    }

    /// Adds to a counter.
    pub fn count(&mut self, counter: Counter) {
        // More than fit are a defect that the counts would show; losing one harms nothing.
        let _ = self.counts.push(counter);
    }
}
