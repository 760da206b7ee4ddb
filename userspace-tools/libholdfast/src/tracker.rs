// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Turns what the log tells of one flow into its record.
//!
//! ```text
//!              Object                C2s: head complete          S2c: head complete
//!   Waiting ------------> Asking --------------------> Answering ------------------+
//!      ^                                                                           |
//!      +----------- Done <------------- Replicate, Commit -------------------------+
//!                 Object
//! ```
//!
//! Anything that does not fit leads to `Dead`: the flow goes on as without us, counted.
//! A [`Tracker`] decides and does nothing: its [`Action`]s are carried out by the daemon.

use crate::http::{parse_request, Asked, Doubt, Parsed, HEAD_LIMIT};
use crate::record::{object, Clock, Object, Record, State, BODY_LIMIT, FARTHEST, REQUEST_LIMIT};
use crate::stream::{Refused, Stream};
use crate::types::{FlowKey, TcpOptions};

/// Most bytes of a response that are put in order before its head is complete.
const RESPONSE_LIMIT: usize = 64 * 1024 + HEAD_LIMIT + BODY_LIMIT;

/// What the log tells of a flow. `pos` is the position of the first byte of `data`; `ack` and
/// `acked` are positions of the other stream.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each variant tells of its fields")]
pub enum Event<'a> {
    /// Bytes of the client, not yet final; it has acknowledged `ack`. `ts`: TSval and TSecr;
    /// `time`: monotonic clock in nanoseconds.
    C2s {
        pos: u64,
        ack: u64,
        data: &'a [u8],
        ts: Option<(u32, u32)>,
        time: i64,
    },
    /// Bytes of the service; c2s bytes below `ack` are final.
    S2c { pos: u64, ack: u64, data: &'a [u8] },
    /// The service has closed at `pos`, and that waits for the record of its response; `ack` as of
    /// `S2c`.
    Closing { pos: u64, ack: u64 },
    /// A request begins at c2s position `request`, its response will begin at `start` (s2c).
    Object { request: u64, start: u64 },
    /// The client has acknowledged s2c bytes below `acked`. `ts`, `time`: as of `C2s`.
    Progress {
        acked: u64,
        ts: Option<(u32, u32)>,
        time: i64,
    },
    /// The kernel has let bytes go before the record was safe.
    Unprotected,
    /// Something of the log was lost.
    Lost,
    /// The flow is over.
    Closed,
}

impl Event<'_> {
    /// Whether it tells of positions that no stream reaches.
    fn is_far(&self) -> bool {
        let positions = match *self {
            Event::C2s { pos, ack, .. } | Event::S2c { pos, ack, .. } => [pos, ack],
            Event::Closing { pos, ack } => [pos, ack],
            Event::Object { request, start } => [request, start],
            Event::Progress { acked, .. } => [acked, 0],
            Event::Unprotected | Event::Lost | Event::Closed => [0; 2],
        };
        positions.iter().any(|p| *p >= FARTHEST)
    }
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give [`Tracker::record`] to the support group.
    Replicate,
    /// The same, but it may wait for some milliseconds, and need not be done at all if something
    /// is to be replicated before: the client still keeps all bytes that it tells.
    ReplicateSoon,
    /// Tell the support group [`Record::acked`] and the clock.
    Checkpoint,
    /// Tell the kernel, once all that was replicated before is safe.
    Commit(Release),
    /// Forget the flow, here and in the support group.
    Forget,
    /// Count that the flow or, if a commit with a start follows, the response is unprotected.
    Count(Doubt),
}

/// What the kernel may let go (`flow-commit`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// Position of the first byte of the response.
    pub object_start: Option<u64>,
    /// Where the next response begins.
    pub object_end: Option<u64>,
    /// Open everything, log nothing more.
    pub unprotected: bool,
    /// Open the ack gate.
    pub ack_release: bool,
    /// The service closed inside the head of the response: it is lost.
    pub broken_off: bool,
}

impl Release {
    /// Whether it is of one response and nothing more.
    pub fn is_plain(&self) -> bool {
        let Release {
            object_start,
            object_end: _,
            unprotected,
            ack_release,
            broken_off,
        } = *self;
        object_start.is_some() && !(unprotected || ack_release || broken_off)
    }
}

#[derive(Clone, Debug)]
enum Stage {
    /// For a request.
    Waiting,
    /// The head of the request is not complete.
    Asking,
    /// It is; the head of the response is not, or the request is not final.
    Answering {
        len: usize,
        to_head: bool,
        asked: Asked,
    },
    /// The record of the response was made.
    Done,
    /// Unprotected.
    Dead,
}

/// The record of a flow in the making.
#[derive(Clone, Debug)]
pub struct Tracker {
    record: Record,
    stage: Stage,
    request: Stream,
    response: Stream,
    /// C2s bytes below are final.
    settled: u64,
    /// The next object may begin anywhere: what came before it is unknown.
    adopted: bool,
    /// No byte of the current request was seen yet.
    fresh: bool,
    /// Peers take the response before for unfinished, and could continue it: they are to hear of
    /// the request soon.
    unended: bool,
    /// Where the service has closed before its response was known.
    closing: Option<u64>,
}

impl Tracker {
    /// A connection that was opened here: `request` and `start` are the first positions of
    /// the client's and the service's stream.
    pub fn opened(
        key: FlowKey,
        generation: u32,
        options: TcpOptions,
        clock: Option<Clock>,
        strict: bool,
        request: u64,
        start: u64,
    ) -> Self {
        Self::resume(Record {
            key,
            generation,
            options,
            clock,
            strict,
            deterministic: false,
            request,
            start,
            acked: start,
            state: State::Idle,
        })
    }

    /// A flow that was continued here; `record` says how far it is.
    pub fn resume(record: Record) -> Self {
        let stage = match record.state {
            State::Idle => Stage::Waiting,
            // Joined behind bytes that were never logged here.
            State::Requesting(_) | State::Unprotected(_) => Stage::Dead,
            State::Responding(_) => Stage::Done,
        };
        let request = Stream::new(record.request, REQUEST_LIMIT);
        let response = Stream::new(record.start, RESPONSE_LIMIT);
        let settled = record.request;
        Tracker {
            record,
            stage,
            request,
            response,
            settled,
            adopted: false,
            fresh: true,
            unended: false,
            closing: None,
        }
    }

    /// A flow that was there before the daemon: unprotected until its next request.
    pub fn adopted(
        key: FlowKey,
        generation: u32,
        options: TcpOptions,
        clock: Option<Clock>,
        strict: bool,
        c2s_next: u64,
        s2c_acked: u64,
    ) -> Self {
        let mut t = Self::opened(key, generation, options, clock, strict, c2s_next, s2c_acked);
        t.record.state = State::Unprotected(Doubt::Lost);
        t.adopted = true;
        t
    }

    /// The record as it is now.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// From now on bytes may leave before their record is safe.
    pub fn weaken(&mut self) {
        self.record.strict = false;
    }

    /// Whether the same request is always answered by the same bytes, as its service declares
    /// from now on.
    pub fn declare(&mut self, deterministic: bool) {
        self.record.declare(deterministic);
    }

    /// Whether the flow will not be protected any more.
    pub fn is_dead(&self) -> bool {
        matches!(self.stage, Stage::Dead)
    }

    /// Takes in what the log tells.
    pub fn hear(&mut self, event: Event<'_>) -> Vec<Action> {
        if let Event::Closed = event {
            self.stage = Stage::Dead;
            return vec![Action::Forget];
        }
        if self.is_dead() {
            return Vec::new();
        }
        if event.is_far() {
            return self.give_up(Doubt::OutOfStep);
        }
        match event {
            Event::C2s {
                pos,
                ack,
                data,
                ts,
                time,
            } => {
                self.tick(ts, time);
                self.record.acked = self.record.acked.max(ack);
                self.c2s(pos, ack, data)
            }
            Event::S2c { pos, ack, data } => self.s2c(pos, ack, data),
            Event::Closing { pos, ack } => {
                self.settled = self.settled.max(ack);
                self.closing = Some(pos);
                self.answer()
            }
            Event::Object { request, start } => self.begin(request, start),
            Event::Progress { acked, ts, time } => {
                self.tick(ts, time);
                self.record.acked = self.record.acked.max(acked);
                vec![Action::Checkpoint]
            }
            Event::Unprotected => {
                // The kernel has opened its gates; the commit is for the record of it.
                self.give_up(Doubt::Late)
            }
            Event::Lost => self.give_up(Doubt::Lost),
            Event::Closed => Vec::new(),
        }
    }

    fn tick(&mut self, ts: Option<(u32, u32)>, heard: i64) {
        let Some((tsval, tsecr)) = ts else { return };
        let newer = |a: u32, b: u32| a.wrapping_sub(b) as i32 > 0;
        let clock = self.record.clock.get_or_insert(Clock {
            tsval,
            tsecr,
            heard,
        });
        if newer(tsval, clock.tsval) {
            clock.tsval = tsval;
        }
        if newer(tsecr, clock.tsecr) {
            (clock.tsecr, clock.heard) = (tsecr, heard);
        }
    }

    fn begin(&mut self, request: u64, start: u64) -> Vec<Action> {
        let r = &self.record;
        let fits = match (&self.stage, &r.state) {
            _ if self.adopted => true,
            (Stage::Waiting, _) => request == r.request && start == r.start,
            (Stage::Done, State::Responding(o)) => {
                let follows = o.end.map_or(start > r.start, |e| e == start);
                follows && request == r.request_end()
            }
            _ => false,
        };
        if !fits {
            return self.give_up(Doubt::OutOfStep);
        }
        self.adopted = false;
        self.unended = matches!(&self.record.state,
            State::Responding(o) if o.end.is_none() && self.record.deterministic);
        self.fresh = true;
        self.closing = None;
        self.record.request = request;
        self.record.start = start;
        self.record.acked = self.record.acked.max(start);
        self.record.state = State::Idle;
        self.request = Stream::new(request, REQUEST_LIMIT);
        self.response = Stream::new(start, RESPONSE_LIMIT);
        self.settled = self.settled.max(request);
        self.stage = Stage::Asking;
        Vec::new()
    }

    fn c2s(&mut self, pos: u64, ack: u64, data: &[u8]) -> Vec<Action> {
        match self.stage {
            Stage::Asking | Stage::Answering { .. } => {}
            Stage::Done if pos.saturating_add(data.len() as u64) > self.record.request_end() => {
                return self.give_up(Doubt::Pipelined);
            }
            Stage::Waiting if !self.adopted => return self.give_up(Doubt::OutOfStep),
            _ => return Vec::new(),
        }
        if std::mem::take(&mut self.fresh) && ack != self.record.start {
            // It was sent before all of the last response had arrived.
            return self.give_up(Doubt::Pipelined);
        }
        // What the local socket has taken is what counts, not a later copy.
        let skip = usize::try_from(self.settled.saturating_sub(pos)).unwrap_or(usize::MAX);
        let Some(data) = data.get(skip..) else {
            return Vec::new();
        };
        if let Err(e) = self.request.insert(pos + skip as u64, data) {
            return self.give_up(match e {
                Refused::Conflict => Doubt::Conflict,
                Refused::TooLong => Doubt::TooLong,
            });
        }
        self.advance()
    }

    fn s2c(&mut self, pos: u64, ack: u64, data: &[u8]) -> Vec<Action> {
        self.settled = self.settled.max(ack);
        match self.stage {
            Stage::Asking if data.is_empty() => return Vec::new(),
            Stage::Asking => return self.give_up(Doubt::Early),
            Stage::Answering { .. } => {}
            Stage::Done if self.is_behind_end(pos, data.len()) => {
                return self.give_up(Doubt::Pipelined);
            }
            Stage::Waiting if !self.adopted && !data.is_empty() => {
                return self.give_up(Doubt::Early);
            }
            _ => return Vec::new(),
        }
        match self.response.insert(pos, data) {
            Ok(()) => self.answer(),
            Err(Refused::Conflict) => self.give_up(Doubt::Conflict),
            Err(Refused::TooLong) => self.give_up(Doubt::TooLong),
        }
    }

    fn is_behind_end(&self, pos: u64, len: usize) -> bool {
        let State::Responding(Object { end: Some(end), .. }) = self.record.state else {
            return false;
        };
        pos.saturating_add(len as u64) > end
    }

    /// More of the request is known.
    fn advance(&mut self) -> Vec<Action> {
        let bytes = self.request.bytes();
        if let Stage::Answering { len, .. } = self.stage {
            return match bytes.len() > len {
                true => self.give_up(Doubt::Pipelined),
                false => Vec::new(),
            };
        }
        let parsed = match parse_request(bytes) {
            Ok(parsed) => parsed,
            Err(doubt) => return self.give_up(doubt),
        };
        match parsed {
            Parsed::Head(head) if head.len < bytes.len() => self.give_up(Doubt::Pipelined),
            Parsed::Head(head) => {
                let (len, to_head, asked) = (head.len, head.is_head, head.asked);
                // Once a part of it was let go, the client may have been told of the rest too.
                let kept = matches!(self.record.state, State::Idle) && !self.unended;
                self.stage = Stage::Answering {
                    len,
                    to_head,
                    asked,
                };
                self.record.state = State::Requesting(bytes.to_vec());
                vec![match kept {
                    true => Action::ReplicateSoon,
                    false => Action::Replicate,
                }]
            }
            // The client has paused inside the head: it must not wait for its end.
            Parsed::Partial => {
                self.record.state = State::Requesting(bytes.to_vec());
                let release = Release {
                    ack_release: true,
                    ..Release::default()
                };
                vec![Action::Replicate, Action::Commit(release)]
            }
        }
    }

    /// More of the response is known, or of what is final.
    fn answer(&mut self) -> Vec<Action> {
        let Stage::Answering {
            len,
            to_head,
            asked,
        } = self.stage
        else {
            return Vec::new();
        };
        if self.settled < self.record.request + len as u64 {
            return Vec::new();
        }
        let (request, start) = (self.request.bytes(), self.record.start);
        let (response, deterministic) = (self.response.bytes(), self.record.deterministic);
        let made = match object(request, asked, to_head, start, response, deterministic) {
            Ok(None) => return self.broken_off(),
            Ok(Some(made)) => made,
            Err(doubt) => return self.give_up(doubt),
        };
        let mut actions = Vec::new();
        if let crate::record::Way::None(doubt) = made.way {
            actions.push(Action::Count(doubt));
        }
        let release = Release {
            object_start: Some(start),
            object_end: made.end,
            ..Release::default()
        };
        self.record.state = State::Responding(made);
        self.stage = Stage::Done;
        actions.extend([Action::Replicate, Action::Commit(release)]);
        // The streams are in the record now.
        self.request = Stream::new(0, 0);
        self.response = Stream::new(0, 0);
        actions
    }

    /// The head of the response is not complete. If all that was ever said of it is here, its server
    /// has died.
    fn broken_off(&mut self) -> Vec<Action> {
        let start = self.record.start;
        let said = start + self.response.bytes().len() as u64;
        if self.closing.take_if(|at| *at == said).is_none() {
            return Vec::new();
        }
        let release = Release {
            object_start: Some(start),
            broken_off: true,
            ..Release::default()
        };
        vec![Action::Commit(release)]
    }

    fn give_up(&mut self, why: Doubt) -> Vec<Action> {
        self.stage = Stage::Dead;
        self.record.state = State::Unprotected(why);
        self.request = Stream::new(0, 0);
        self.response = Stream::new(0, 0);
        let release = Release {
            unprotected: true,
            ..Release::default()
        };
        vec![
            Action::Count(why),
            Action::Replicate,
            Action::Commit(release),
        ]
    }
}
#[cfg(test)]
mod tests;
