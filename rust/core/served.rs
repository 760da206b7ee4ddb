// SPDX-License-Identifier: GPL-2.0

//! A flow that a local socket serves: watch, log, gate, translate.
//!
//! Order of work for a packet: where it stands in client space; what it says about the other
//! stream; whether it can be translated at all, as one that is refused counts for nothing else;
//! what of it is new and goes to the log; whether a gate holds it; translation last, so that a
//! packet which must wait is left as it was.

use super::counter::Counter;
use super::effects::{Bytes, Effects, Emit, Log, LogData, Verdict};
use super::flow::{Env, Flow, Object, Phase, PASSING_TIME};
use super::gate::Word;
use super::lost::Lost;
use super::ring::{flags as log_flags, Kind};
use super::seq::{C2s, Client, Local, Pos, S2c, Seq};
use super::shadow::Shadow;
use super::wire::{flags as tcp, Dir, Packet, Segment};

/// A progress record is written when the client has acknowledged a quarter of its window more,
/// and so many bytes at least: who asks it where it stands must ask inside of what firewalls on
/// the way take for its window.
pub(super) const PROGRESS: u64 = 32 * 1024;

/// Milliseconds from one progress record of a flow to the next, at least.
pub(super) const PROGRESS_EVERY: u64 = 100;

impl Flow {
    pub(super) fn served_c2s(
        &mut self,
        p: &mut Packet<'_>,
        env: &Env,
        fx: &mut Effects,
    ) -> Verdict {
        let flags = p.flags();
        if flags & tcp::SYN != 0 {
            return self.syn(p, env, fx);
        }
        let pos = self.c2s.next.nearest(Seq::new(p.seq()));
        let len = p.payload_len();
        let end = pos.plus(u64::from(len));
        if self.phase == Phase::Opening {
            self.confirm(p, pos, fx);
        }
        if self.phase != Phase::Opening && self.plausible(pos, end) {
            self.cap_ack(p, fx);
            if self.phase == Phase::Joining {
                self.prefix_acked(p, env, fx);
            }
            self.hear_ack(p, env, fx);
            if flags & tcp::RST != 0 {
                self.hear_reset(p, pos, env, fx);
            } else {
                self.hear_bytes(p, pos, end, env, fx);
            }
        }
        match self.splice.c2s(p) {
            Ok(false) => Verdict::Accept,
            Ok(true) => {
                fx.count(Counter::SackRemoved);
                Verdict::Accept
            }
            Err(refused) => Verdict::Drop(refused.counter()),
        }
    }

    /// A reset counts only at the next byte expected (RFC 5961, section 3.2). A client without
    /// socket takes its number from the acknowledgement that it was sent, a lowered one perhaps.
    fn hear_reset(&mut self, p: &mut Packet<'_>, pos: Pos<C2s>, env: &Env, fx: &mut Effects) {
        let gated = self.c2s.gate.position().is_some() && self.c2s.gate.told() == Some(pos);
        if gated {
            p.set_seq(self.c2s.acked.seq().raw());
        }
        if gated || pos == self.c2s.acked {
            self.close(log_flags::RST, env, fx);
        }
    }

    /// Whether bytes from `pos` to `end` may be the client's: in the window, or sent again
    /// because an acknowledgement was lost or held (one byte less: a keep-alive probe).
    pub(super) fn plausible(&self, pos: Pos<C2s>, end: Pos<C2s>) -> bool {
        const BEHIND: u64 = 1 << 16;
        end <= self.c2s.edge.plus(1) && pos.plus(BEHIND) >= self.c2s.acked
    }

    /// The client may have bytes of a dead server that this one has not sent yet. A socket
    /// drops what acknowledges them (`tcp_ack`), and would stay where it is: it is told less,
    /// and the right edge of the window stays.
    fn cap_ack(&mut self, p: &mut Packet<'_>, fx: &mut Effects) {
        let Some(edge) = self.dead_edge else { return };
        let sent = self.s2c.next;
        let ack = sent.nearest(Seq::new(p.ack()));
        if sent >= edge {
            self.dead_edge = None;
        }
        if sent >= edge || ack > edge {
            // What nobody has ever sent is for the local socket to refuse (RFC 5961, section 5.2).
            return;
        }
        if p.has_ack() && ack > sent {
            self.stands_at(ack.seq());
            let more = ack.since(sent) >> self.handshake.client_shift();
            let window = u64::from(p.window()) + more;
            p.set_ack(sent.seq().raw());
            p.set_window(u16::try_from(window).unwrap_or(u16::MAX));
            fx.count(Counter::AckCapped);
        }
        let mut removed = false;
        let mut i = 0;
        while let Some((left, right)) = p.options().sack().get(i).copied() {
            let beyond = sent.nearest(Seq::new(right)) > sent;
            if beyond && sent.nearest(Seq::new(left)) >= sent && p.remove_sack_block(i) {
                removed = true;
                continue;
            }
            if beyond {
                p.set_sack(i, left, sent.seq().raw());
            }
            i += 1;
        }
        if removed {
            fx.count(Counter::SackRemoved);
        }
    }

    fn hear_ack(&mut self, p: &Packet<'_>, env: &Env, fx: &mut Effects) {
        if p.flags() & tcp::ACK == 0 {
            return;
        }
        let ack = self.s2c.next.nearest(Seq::new(p.ack()));
        // With the FIN, one more than the bytes.
        if ack < self.s2c.acked || ack > self.s2c.next {
            return;
        }
        self.clock.hear(p.options().ts, env.now);
        self.s2c.window = p.window();
        self.s2c.acked = ack;
        let window = u64::from(p.window()) << self.handshake.client_shift();
        // Of a flow whose server has closed early nothing is due but its end.
        if self.lost.is_none() && ack.since(self.s2c.reported) >= PROGRESS.max(window / 4) {
            self.progress_deadline = self.s2c.reported_at.saturating_add(PROGRESS_EVERY);
            self.report_progress(env, fx);
        }
        self.maybe_finished(env, fx);
    }

    /// Tells userspace how far the client has come, once it is time.
    pub(super) fn report_progress(&mut self, env: &Env, fx: &mut Effects) {
        if env.now < self.progress_deadline {
            return;
        }
        self.progress_deadline = u64::MAX;
        self.s2c.reported = self.s2c.acked;
        self.s2c.reported_at = env.now;
        if !self.protected || !env.policy.reader {
            return;
        }
        let (pos, ack) = (self.s2c.acked.raw(), self.c2s.next.raw());
        let mut log = Log::new(Kind::Progress, pos, ack);
        log.ts = self.clock.heard().map(|(ts, _)| ts);
        fx.logs.push(log);
    }

    fn hear_bytes(
        &mut self,
        p: &Packet<'_>,
        pos: Pos<C2s>,
        end: Pos<C2s>,
        env: &Env,
        fx: &mut Effects,
    ) {
        let fin = p.flags() & tcp::FIN != 0;
        if end > pos {
            if end > self.c2s.next {
                if self.begins_request() {
                    self.begin_object(env, fx);
                }
                self.c2s.next = end;
                self.bound_request(env, fx);
            } else if pos < self.c2s.acked && self.c2s.gate.retransmission(self.c2s.next, env.now) {
                // What the local socket has not acknowledged either is not held: it was lost.
                fx.count(Counter::AckGateAdvanced);
            }
            self.log_c2s(p, pos, end, env, fx);
        } else if fin
            && end < self.c2s.acked
            && self.c2s.gate.retransmission(self.c2s.next, env.now)
        {
            fx.count(Counter::AckGateAdvanced);
        }
        if fin && end >= self.c2s.next && self.c2s.fin.is_none() {
            // It is held as a byte of the request would be: an acknowledgement of it is one of them all.
            self.c2s.fin = Some(end);
            self.c2s.next = end.plus(1);
        }
    }

    /// The kernel's own rule for where a request begins: the first bytes of all, or new ones
    /// once everything of the last response went out and was acknowledged.
    pub(super) fn begins_request(&self) -> bool {
        self.object.is_none_or(|o| {
            let answered = match o.end {
                Some(end) => self.s2c.next >= end,
                None => self.s2c.next > o.start,
            };
            answered && self.s2c.acked == self.s2c.next
        })
    }

    fn begin_object(&mut self, env: &Env, fx: &mut Effects) {
        let object = Object {
            request: self.c2s.next,
            start: self.s2c.next,
            end: None,
        };
        self.object = Some(object);
        if !self.protected || !env.policy.reader {
            return;
        }
        fx.logs.push(Log::new(
            Kind::Object,
            object.start.raw(),
            object.request.raw(),
        ));
        self.s2c.logged = object.start;
        self.s2c.log_end = object.start.plus(u64::from(env.policy.head_limit));
        if env.gating() {
            self.shadow = Shadow::default();
            self.c2s.gate.close(object.request, env.now);
            self.ack_deadline = u64::MAX;
            if env.policy.strict {
                self.s2c.gate.close(object.start);
            }
        } else {
            let start = env.policy.strict.then_some(object.start);
            self.shadow.close(object.request, start);
        }
    }

    /// A request that is too long to be held is let go.
    fn bound_request(&mut self, env: &Env, fx: &mut Effects) {
        let Some(object) = self.object else { return };
        let long = self.c2s.next.since(object.request) > u64::from(env.policy.request_limit);
        if long && (self.c2s.gate.open() | self.shadow.open_ack()) {
            fx.count(Counter::RequestTooLong);
        }
    }

    fn log_c2s(
        &mut self,
        p: &Packet<'_>,
        pos: Pos<C2s>,
        end: Pos<C2s>,
        env: &Env,
        fx: &mut Effects,
    ) {
        // What the local socket has acknowledged is final; before that, a second copy is
        // logged too, so that the reader sees if they differ.
        let from = pos.max(self.c2s.acked);
        if !self.protected || !env.policy.reader || from >= end {
            return;
        }
        let mut log = packet_log(Kind::C2s, p, from.raw(), self.s2c.acked.raw());
        log.data = LogData::Payload {
            from: from.since(pos) as u32,
            len: end.since(from) as u32,
        };
        log.window = u32::from(p.window()) << self.handshake.client_shift();
        fx.logs.push(log);
    }

    pub(super) fn served_s2c(
        &mut self,
        p: &mut Packet<'_>,
        env: &Env,
        fx: &mut Effects,
    ) -> Verdict {
        let flags = p.flags();
        if flags & tcp::SYN != 0 {
            return self.syn_ack(p, env, fx);
        }
        let seq = self.splice.seq_to_client(Seq::<Local, S2c>::new(p.seq()));
        let pos = self.s2c.next.nearest(seq);
        let len = p.payload_len();
        let fin = flags & tcp::FIN != 0;
        let end = pos.plus(u64::from(len) + u64::from(fin));
        // True whatever becomes of the bytes.
        let word = self.hear_local_ack(p);
        if let Err(refused) = self.splice.check_s2c(p) {
            // It says again what the ghost has heard: its acknowledgement was lost.
            self.nudge_service(fx);
            return Verdict::Drop(refused.counter());
        }

        if flags & tcp::RST != 0 {
            if self.hold_deadline != u64::MAX {
                // It must not overtake what was said before it.
                self.close_waits(Lost { rst: true }, self.s2c.logged, fx);
                return Verdict::Hold;
            }
            if self.closes_early(None, env) {
                return self.lose_server(Lost { rst: true }, env, fx);
            }
            if self.phase == Phase::Opening {
                // Nobody listens. A splice that was asked for waits for the next attempt.
                fx.gone = self.splice.is_identity();
            } else {
                self.close(log_flags::RST, env, fx);
            }
        } else if fin && self.closes_early(Some(pos.plus(u64::from(len))), env) {
            // Whole: what it carries is the next server's to say.
            return self.lose_server(Lost { rst: false }, env, fx);
        } else if end > pos {
            // A close between two responses waits for no record.
            let last = pos.plus(u64::from(len));
            let between = fin && self.object.and_then(|o| o.end) == Some(last);
            let held = self.s2c.gate.holds(end) && !between;
            self.log_s2c(p, pos, len, held, fx);
            if held {
                if self.hold_deadline == u64::MAX {
                    self.hold_deadline = env.now + u64::from(env.policy.hold_ms);
                    self.closing = None;
                }
                if fin {
                    self.close_waits(Lost { rst: false }, last, fx);
                }
                return Verdict::Hold;
            }
            if self.shadow.holds(end) && !between {
                fx.count(Counter::WouldHold);
            }
            self.s2c.next = self.s2c.next.max(end);
            self.ack_deadline = u64::MAX;
            if fin {
                self.s2c.fin = Some(end);
            }
            if self.object.and_then(|o| o.end).is_some_and(|e| end >= e) {
                // The last bytes of the response carry the whole acknowledgement.
                self.c2s.gate.open();
                self.shadow.open_ack();
            }
        }
        if let Err(refused) = self.splice.s2c(p) {
            return Verdict::Drop(refused.counter());
        }
        if let Some((tsval, tsecr)) = p.options().ts {
            self.clock.say(tsval);
            if tsval != self.clock.sent && (env.policy.protect || self.depends_on_us()) {
                // It was held, and overtaken: PAWS would drop it now (RFC 7323, section 5).
                p.set_timestamps(self.clock.sent, tsecr);
                fx.count(Counter::TimestampRaised);
            }
        }
        let verdict = match word {
            Some((word, news)) => {
                // A probe (keep-alive, zero window) asks for an answer: its number is old.
                let probe = len == 0 && pos < self.s2c.next;
                self.gate_ack(p, word, news && !probe, env, fx)
            }
            None => Verdict::Accept,
        };
        self.maybe_finished(env, fx);
        verdict
    }

    /// Takes in what the local socket says of the client's stream, and whether it acknowledges
    /// more than before; `None` without ACK, and while there is no connection: then it is the socket of the
    /// one before that answers the SYN (RFC 5961, section 4), or a TIME_WAIT.
    fn hear_local_ack(&mut self, p: &Packet<'_>) -> Option<(Word, bool)> {
        if p.flags() & tcp::ACK == 0 || self.phase == Phase::Opening {
            return None;
        }
        let ack: Seq<Client, C2s> = self
            .splice
            .delta_c2s()
            .to_client(Seq::<Local, C2s>::new(p.ack()));
        let ack = self.c2s.next.nearest(ack);
        let edge = ack.plus(u64::from(p.window()) << self.local_shift);
        let news = ack > self.c2s.acked;
        self.c2s.acked = self.c2s.acked.max(ack);
        self.c2s.edge = self.c2s.edge.max(edge);
        Some((Word { ack, edge }, news))
    }

    /// Lowers what a packet says of the client's stream to the gate. `mute`: it may be swallowed
    /// if it says nothing new then: it is an acknowledgement that nobody has asked for.
    fn gate_ack(
        &mut self,
        p: &mut Packet<'_>,
        word: Word,
        mute: bool,
        env: &Env,
        fx: &mut Effects,
    ) -> Verdict {
        if self.shadow.lowers(word.ack) {
            fx.count(Counter::WouldLower);
        }
        if let Some(gate) = self.c2s.gate.position() {
            // Also where a gap ends at the gate.
            if remove_sack_beyond(p, gate) {
                fx.count(Counter::SackRemoved);
            }
        }
        let (low, lowered) = self.c2s.gate.apply(word);
        if !lowered {
            self.c2s.gate.tell(word);
            return Verdict::Accept;
        }
        if self.ack_deadline == u64::MAX && self.object.is_some_and(|o| self.s2c.next == o.start) {
            self.ack_deadline = env.now + u64::from(env.policy.hold_ms);
        }
        let shift = self.handshake.service_shift();
        let window = u16::try_from(low.edge.since(low.ack) >> shift).unwrap_or(u16::MAX);
        // What the client makes of it.
        let told = Word {
            ack: low.ack,
            edge: low.ack.plus(u64::from(window) << shift),
        };
        let pure = p.payload_len() == 0 && p.flags() & (tcp::FIN | tcp::RST) == 0;
        if pure && mute && self.c2s.gate.stale(told) {
            return Verdict::Drop(Counter::AckSwallowed);
        }
        p.set_ack(low.ack.seq().raw());
        p.set_window(window);
        fx.count(Counter::AckLowered);
        self.c2s.gate.tell(told);
        Verdict::Accept
    }

    /// Tells the local socket of a joined flow what the ghost has taken, and where it stands.
    pub(super) fn nudge_service(&self, fx: &mut Effects) {
        let Some(floor) = self.splice.ack_floor().filter(|_| self.joined) else {
            return;
        };
        // The client's window begins where the client stands, maybe inside the prefix.
        let joint = self.s2c.next.nearest(self.splice.seq_to_client(floor));
        let segment = Segment {
            dir: Dir::ToService,
            seq: self.splice.delta_c2s().to_local(self.c2s.acked.seq()).raw(),
            ack: floor.raw(),
            flags: tcp::ACK,
            window: self.window_beyond(joint.since(self.s2c.acked) as u32),
            // Its newest TSval is not known here; Linux takes 0 for none.
            ts: self.handshake.timestamps.then_some((self.clock.tsval, 0)),
            syn: None,
        };
        fx.emits.push(Emit {
            segment,
            bytes: Bytes::None,
        });
    }

    fn log_s2c(&mut self, p: &Packet<'_>, pos: Pos<S2c>, len: u32, held: bool, fx: &mut Effects) {
        let end = pos.plus(u64::from(len));
        let from = pos.max(self.s2c.logged);
        let to = end.min(self.s2c.log_end);
        // A gap would be bytes that were never logged: wait for them to be sent again.
        if !self.protected || from >= to || from > self.s2c.logged {
            return;
        }
        let mut log = packet_log(Kind::S2c, p, from.raw(), self.c2s.acked.raw());
        if held {
            log.flags |= log_flags::HELD;
        }
        log.data = LogData::Payload {
            from: from.since(pos) as u32,
            len: to.since(from) as u32,
        };
        if fx.logs.push(log) {
            self.s2c.logged = to;
        }
    }

    /// The record of the response that begins at `start` is safe. `end` is where the next
    /// response begins, if that is known.
    pub fn commit(&mut self, start: Option<u64>, end: Option<u64>, env: &Env, fx: &mut Effects) {
        let Some(start) = start.and_then(Pos::checked) else {
            return;
        };
        if self.is_lost() {
            // Its server has gone before; who goes on knows the record.
            fx.count(Counter::LateCommit);
            return;
        }
        let Some(object) = self.object.as_mut().filter(|o| o.start == start) else {
            fx.count(Counter::LateCommit);
            return;
        };
        let end = end.and_then(Pos::checked).filter(|e| *e >= start);
        object.end = end;
        self.hold_deadline = u64::MAX;
        self.shadow
            .commit(end.filter(|_| self.protected && env.policy.strict));
        if end.is_none_or(|end| self.s2c.next >= end) {
            self.shadow.open_ack();
        }
        match end {
            Some(end) if self.protected => {
                self.s2c.logged = end;
                self.s2c.log_end = end.plus(u64::from(env.policy.head_limit));
                if env.gating() && env.policy.strict {
                    self.s2c.gate.close(end);
                } else {
                    self.s2c.gate.open();
                }
                if self.s2c.next >= end {
                    // Its last bytes have left: they cannot carry the acknowledgement any more.
                    self.release_ack(fx);
                }
            }
            _ => {
                self.s2c.log_end = self.s2c.logged;
                self.s2c.gate.open();
                // Where the response ends is unknown, so nothing would open the ack gate.
                self.release_ack(fx);
            }
        }
        fx.release = true;
        fx.count(Counter::Committed);
    }

    /// Userspace cannot continue this flow: let it be an ordinary one.
    pub fn unprotect(&mut self, fx: &mut Effects) {
        if self.is_lost() {
            return;
        }
        self.give_up_protection(Counter::Declined, fx);
    }

    /// Opens the ack gate, and tells the client at once what it was not told.
    pub fn release_ack(&mut self, fx: &mut Effects) {
        self.ack_deadline = u64::MAX;
        if self.is_lost() || !self.c2s.gate.open() {
            return;
        }
        let word = Word {
            ack: self.c2s.acked,
            edge: self.c2s.edge,
        };
        if self.c2s.gate.stale(word) {
            return;
        }
        self.c2s.gate.tell(word);
        fx.count(Counter::AckGateReleased);
        let segment = self.towards_client(self.s2c.next.seq(), tcp::ACK);
        fx.emits.push(Emit {
            segment,
            bytes: Bytes::None,
        });
    }

    /// A segment of ours for the client, with the acknowledgement that it may know.
    pub(super) fn towards_client(&self, seq: Seq<Client, S2c>, flags: u8) -> Segment {
        let word = Word {
            ack: self.c2s.acked,
            edge: self.c2s.edge,
        };
        let (word, _) = self.c2s.gate.apply(word);
        let room = word.edge.since(word.ack) >> self.handshake.service_shift();
        Segment {
            dir: Dir::ToClient,
            seq: seq.raw(),
            ack: word.ack.seq().raw(),
            flags,
            window: u16::try_from(room).unwrap_or(u16::MAX),
            ts: self
                .handshake
                .timestamps
                .then_some((self.clock.sent, self.clock.tsval)),
            syn: None,
        }
    }

    fn maybe_finished(&mut self, env: &Env, fx: &mut Effects) {
        if !matches!(self.phase, Phase::Open | Phase::Joining) {
            return;
        }
        let client_done = self.c2s.fin.is_some_and(|fin| self.c2s.acked > fin);
        let service_done = self.s2c.fin.is_some_and(|fin| self.s2c.acked >= fin);
        if client_done && service_done {
            self.close(log_flags::FIN, env, fx);
        }
    }

    /// Leaves the flow to the stack.
    pub(super) fn pass(&mut self, env: &Env, fx: &mut Effects) {
        self.enter(Phase::Passing, fx);
        self.deadline = env.now + PASSING_TIME;
    }
}

fn packet_log(kind: Kind, p: &Packet<'_>, pos: u64, ack: u64) -> Log {
    let mut log = Log::new(kind, pos, ack);
    let f = p.flags();
    for (bit, flag) in [
        (tcp::FIN, log_flags::FIN),
        (tcp::RST, log_flags::RST),
        (tcp::PSH, log_flags::PSH),
    ] {
        if f & bit != 0 {
            log.flags |= flag;
        }
    }
    log.ts = p.options().ts;
    log
}

/// Returns whether there was a block to remove.
fn remove_sack_beyond(p: &mut Packet<'_>, gate: Pos<C2s>) -> bool {
    let beyond = |(_, right): &(u32, u32)| Seq::<Client, C2s>::new(*right).after(gate.seq());
    let mut removed = false;
    while let Some(i) = p.options().sack().iter().position(beyond) {
        if !p.remove_sack_block(i) {
            break;
        }
        removed = true;
    }
    removed
}
