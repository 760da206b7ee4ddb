// SPDX-License-Identifier: GPL-2.0

//! What is known of a client: the options of its handshake and its timestamps.

use super::wire::{Options, SynOptions};

/// How far a timestamp towards the client jumps ahead of what the client may have seen from
/// a dead server, in milliseconds. The newest echo may be older than the newest value that
/// the client accepted: by the time of a flight that it acknowledged late, and by a server
/// whose clock runs faster than 1 ms a tick. PAWS (RFC 7323, section 5) minds only backwards.
pub const TS_MARGIN: u32 = 1 << 16;

/// Options that client and service agreed on in their SYNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The client's maximum segment size in bytes; 536 if it named none (RFC 9293, 3.7.1).
    pub mss: u16,
    /// The scale of the windows that the client sends; `None` if it offered none.
    pub wscale_client: Option<u8>,
    /// The scale of the windows that the client was told to expect.
    pub wscale_service: Option<u8>,
    /// Both permitted SACK.
    pub sack: bool,
    /// Both use timestamps.
    pub timestamps: bool,
}

/// MSS of a client that names none (RFC 9293, section 3.7.1), IPv4 and IPv6 alike: the lower
/// of both defaults is always right.
const DEFAULT_MSS: u16 = 536;

/// Largest window scale (RFC 7323, section 2.3).
const MAX_WSCALE: u8 = 14;

impl Handshake {
    /// What the client offers with the options of its SYN.
    pub fn offered(syn: &Options) -> Self {
        Handshake {
            mss: syn.mss.unwrap_or(DEFAULT_MSS),
            wscale_client: syn.wscale.map(|s| s.min(MAX_WSCALE)),
            wscale_service: None,
            sack: syn.sack_ok,
            timestamps: syn.ts.is_some(),
        }
    }

    /// What is left of the offer after the answer of the service (its SYN-ACK).
    #[must_use]
    pub fn answered(self, syn_ack: &Options) -> Self {
        let scaled = self.wscale_client.is_some() && syn_ack.wscale.is_some();
        Handshake {
            mss: self.mss,
            wscale_client: self.wscale_client.filter(|_| scaled),
            wscale_service: syn_ack.wscale.filter(|_| scaled).map(|s| s.min(MAX_WSCALE)),
            sack: self.sack && syn_ack.sack_ok,
            timestamps: self.timestamps && syn_ack.ts.is_some(),
        }
    }

    /// The options of a SYN in the client's name: never better than its own.
    pub fn syn_options(&self) -> SynOptions {
        SynOptions {
            mss: self.mss,
            wscale: self.wscale_client,
            sack_ok: self.sack,
        }
    }

    /// Shift of window fields that the client sends.
    pub fn client_shift(&self) -> u8 {
        self.wscale_client.unwrap_or(0)
    }

    /// Shift of window fields that the client is sent.
    pub fn service_shift(&self) -> u8 {
        self.wscale_service.unwrap_or(0)
    }
}

/// The timestamps of a client: its own clock and what it has echoed. Client space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Newest TSval of the client.
    pub tsval: u32,
    /// Newest TSecr of the client: a value that a server once sent.
    pub tsecr: u32,
    /// When `tsecr` was new, in milliseconds of the caller's monotonic clock.
    pub since: u64,
    /// Newest TSval that was sent to the client from here.
    pub sent: u32,
    /// How far ahead of what was heard a guess jumps.
    margin: u32,
    known: bool,
    said: bool,
}

impl Clock {
    /// The clock of a client that another node knew, `age` milliseconds ago.
    pub fn told(tsval: u32, tsecr: u32, now: u64, age: u32) -> Self {
        Clock {
            tsval,
            tsecr,
            since: now.saturating_sub(u64::from(age)),
            sent: tsecr,
            margin: TS_MARGIN,
            known: true,
            said: true,
        }
    }

    /// The same clock for the `n`th server that takes the flow over. Each one is ahead of all
    /// before by a margin of its own: none of them need have been echoed, or recorded.
    #[must_use]
    pub fn taken_over(self, n: u32) -> Self {
        // Half of the numbers at most, so that ahead stays ahead.
        Clock {
            margin: TS_MARGIN * n.clamp(1, (1 << 30) / TS_MARGIN),
            ..self
        }
    }

    /// Takes in the timestamps of a packet of the client.
    pub fn hear(&mut self, ts: Option<(u32, u32)>, now: u64) {
        let Some((tsval, tsecr)) = ts else { return };
        if !self.known {
            *self = Clock {
                tsval,
                tsecr,
                since: now,
                sent: tsecr,
                known: true,
                said: true,
                ..*self
            };
            return;
        }
        self.hear_more(ts, || now);
    }

    /// As [`Clock::hear`] where [something was heard](Clock::heard) before. The time is asked for only
    /// if it matters.
    #[inline(always)]
    pub(super) fn hear_more(&mut self, ts: Option<(u32, u32)>, now: impl FnOnce() -> u64) {
        let Some((tsval, tsecr)) = ts else { return };
        if newer(tsval, self.tsval) {
            self.tsval = tsval;
        }
        if newer(tsecr, self.tsecr) {
            self.tsecr = tsecr;
            self.since = now();
        }
    }

    /// What was heard last, and when TSecr was new, if anything was.
    pub fn heard(&self) -> Option<((u32, u32), u64)> {
        self.known.then_some(((self.tsval, self.tsecr), self.since))
    }

    /// Remembers the TSval of a packet to the client.
    pub fn say(&mut self, tsval: u32) {
        if !self.said || newer(tsval, self.sent) {
            self.sent = tsval;
            self.said = true;
        }
    }

    /// Whether a TSval was sent to the client.
    #[inline]
    pub(super) fn has_said(&self) -> bool {
        self.said
    }

    /// Whether `tsval` is not newer than what was sent before, nor the same.
    #[inline]
    pub(super) fn is_late(&self, tsval: u32) -> bool {
        tsval != self.sent && !newer(tsval, self.sent)
    }

    /// A TSval towards the client that is later than any that it has accepted, and never
    /// earlier than the last one made here: an echo that is heard late is newer than the last
    /// one, but may be older than what was guessed from that.
    pub fn later(&self, now: u64) -> u32 {
        let elapsed = now.saturating_sub(self.since) as u32;
        let guess = self
            .tsecr
            .wrapping_add(elapsed)
            .wrapping_add(self.margin.max(TS_MARGIN));
        if newer(self.sent, guess) {
            self.sent
        } else {
            guess
        }
    }
}

/// Whether timestamp `a` is later than `b` (RFC 7323, section 5.2: modulo 2^32).
pub fn newer(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_only_takes_away() {
        let syn = Options {
            mss: Some(1400),
            wscale: Some(7),
            sack_ok: true,
            ts: Some((1, 0)),
            ..Options::default()
        };
        let all = Handshake::offered(&syn).answered(&syn);
        assert_eq!(all.wscale_service, Some(7));
        assert!(all.sack && all.timestamps);
        let none = Handshake::offered(&syn).answered(&Options::default());
        assert_eq!((none.wscale_client, none.wscale_service), (None, None));
        assert!(!none.sack && !none.timestamps);
        assert_eq!(none.mss, 1400);
    }

    #[test]
    fn the_clock_goes_on_across_a_wrap() {
        let mut c = Clock::default();
        c.hear(Some((u32::MAX, u32::MAX - 1)), 1000);
        c.hear(Some((1, u32::MAX)), 1500);
        assert_eq!((c.tsval, c.tsecr, c.since), (1, u32::MAX, 1500));
        c.hear(Some((0, 5)), 1600);
        assert_eq!((c.tsval, c.tsecr), (1, 5), "an old TSval is not taken");
        assert!(newer(c.later(1700), 5 + 100));
    }

    #[test]
    fn a_late_echo_does_not_turn_the_clock_back() {
        let mut c = Clock::told(7, 100, 0, 0);
        let probe = c.later(1000);
        c.say(probe);
        c.hear(Some((8, 110)), 1000);
        assert!(!newer(probe, c.later(1000)));
    }

    #[test]
    fn the_first_value_is_newer_than_none() {
        let mut c = Clock::default();
        c.say(0xf000_0000);
        assert_eq!(c.sent, 0xf000_0000);
    }

    #[test]
    fn each_takeover_is_ahead_of_the_one_before() {
        let first = Clock::told(7, 100, 0, 0).taken_over(1);
        let second = Clock::told(7, 100, 0, 0).taken_over(2);
        // The first one has spoken for a minute, and nobody recorded an echo.
        assert!(newer(
            second.later(60_000),
            first.later(60_000) + TS_MARGIN / 2
        ));
    }
}
