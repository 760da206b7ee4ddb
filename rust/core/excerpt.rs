// SPDX-License-Identifier: GPL-2.0

//! How much of the beginning of a response is told.
//!
//! Userspace wants the head of a response; of what follows it all, but only if that is short: else a
//! few bytes. It says by which four bytes a head ends ([`Policy::head_end`]), what is short and what
//! are few. Where the first packet of a response has more than that, the rest is not worth a copy in
//! the log, and another one for each hand through which it goes there.
//!
//! What is not found in the first packet, near its start, is logged as if nobody had asked for less.
//!
//! [`Policy::head_end`]: super::flow::Policy::head_end

use super::effects::{Log, LogData};
use super::flow::{Env, Flow};
use super::ring::Kind;
use super::seq::Pos;

/// Bytes of what ends a head.
const WORD: u32 = 4;

/// Bytes that are looked at at once.
const CHUNK: usize = 256;

/// Most bytes of a head that are looked at.
const FARTHEST: u32 = 4096;

impl Flow {
    /// Shortens `log`, which is about a packet of the service, to what userspace wants of it: then
    /// no more of the response is told. `read(offset, bytes)`: reads payload of the packet.
    #[inline(never)]
    pub fn excerpt(&mut self, log: &mut Log, env: &Env, read: impl Fn(u32, &mut [u8]) -> bool) {
        let LogData::Payload { from, len } = log.data else {
            return;
        };
        let policy = &env.policy;
        let first = log.kind == Kind::S2c && self.object.is_some_and(|o| o.start.raw() == log.pos);
        let behind = policy.body_whole.saturating_add(1).max(WORD);
        if !first || policy.head_end == 0 || len < behind {
            return;
        }
        let most = (len - behind).min(FARTHEST);
        let Some(head) = head_of(policy.head_end, most, |at, to| read(from + at, to)) else {
            return;
        };
        let told = head.saturating_add(policy.body_part);
        let end = Pos::checked(log.pos + u64::from(told)).filter(|_| told < len);
        if let Some(end) = end {
            log.data = LogData::Payload { from, len: told };
            (self.s2c.logged, self.s2c.log_end) = (end, end);
        }
    }
}

/// How many bytes there are up to the end of a head, if it is among the first `most`. What begins as the
/// response does is another head: the one before was an interim response.
fn head_of(mark: u32, most: u32, read: impl Fn(u32, &mut [u8]) -> bool) -> Option<u32> {
    let (mut at, mut seen, mut first, mut found) = (0, 0, 0, None);
    let mut chunk = [0; CHUNK];
    while at < most + WORD {
        let part = chunk.get_mut(..CHUNK.min((most + WORD - at) as usize))?;
        if !read(at, part) {
            return None;
        }
        for byte in part {
            at += 1;
            seen = (seen << 8) | u32::from(*byte);
            if at == WORD {
                first = seen;
            }
            if found.is_some_and(|end| end + WORD == at) && seen != first {
                return found;
            }
            if seen == mark && (WORD..=most).contains(&at) {
                found = Some(at);
            }
        }
    }
    None
}
