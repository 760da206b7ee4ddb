// SPDX-License-Identifier: GPL-2.0

//! Every branch that a person will one day ask about has a counter with a name.

/// One line a counter: variant, name, what it counts.
macro_rules! counters {
    ($($variant:ident $name:literal $doc:literal)+) => {
        /// What is counted, per network namespace. The number is the index of the counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Counter {
            $(#[doc = $doc] $variant,)+
        }

        impl Counter {
            /// All counters, in the order of their numbers.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant),+];

            /// The name that tools show: lower case, words joined by `_`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Counter::$variant => $name,)+
                }
            }

            /// What it counts, in one sentence.
            pub const fn doc(self) -> &'static str {
                match self {
                    $(Counter::$variant => $doc,)+
                }
            }
        }
    };
}

counters! {
    Short "short" "Packets that end before their headers do."
    Malformed "malformed" "Packets whose header fields contradict each other."
    NotTcp "not_tcp" "Packets that carry something other than TCP."
    Fragment "fragment" "Fragments of TCP packets that nobody reassembled before us; passed as they are."
    ExtensionHeader "extension_header" "IPv6 packets with extension headers that cannot be walked."
    Signed "signed" "Connections under TCP-MD5 or TCP-AO, and segments of those whose server died, left alone."
    Straddle "straddle" "Packets that lie across a delta boundary, dropped; the sender repeats them."
    Erased "erased" "Packets of the service whose bytes were taken out of the stream."
    FlowOpened "flow_opened" "Connections whose handshake was seen."
    FlowClosed "flow_closed" "Connections that ended, by FIN or reset."
    FlowExpired "flow_expired" "Flows forgotten because no local socket has them any more."
    FlowLimit "flow_limit" "Connections not protected because the flow table is full; packets of orphans are dropped."
    NoMemory "no_memory" "Times that memory was short: what it was for went on unprotected or was dropped."
    HandshakeTimeout "handshake_timeout" "Connections whose SYN was not answered in time."
    ChecksumBad "checksum_bad" "Packets to a service whose TCP checksum was wrong; left to the stack."
    MptcpBlanked "mptcp_blanked" "SYNs from which the MPTCP option was taken."
    FastopenBlanked "fastopen_blanked" "SYNs from which the Fast Open option was taken."
    LogFull "log_full" "Flows unprotected because the log ring had no room."
    Committed "committed" "Responses whose record was safe before their bytes left."
    LateCommit "late_commit" "flow-commit for a response that is not the current one; ignored."
    HoldTimeout "hold_timeout" "Flows unprotected because flow-commit did not come within hold-ms."
    HoldLimit "hold_limit" "Packets dropped because the flow holds too many already; the sender repeats them."
    Held "held" "Packets of the service that waited for flow-commit."
    Declined "declined" "Flows that userspace declared not to be protected."
    AckLowered "ack_lowered" "Acknowledgements lowered to the ack gate."
    AckSwallowed "ack_swallowed" "Acknowledgements that said nothing new once lowered."
    AckCapped "ack_capped" "Acknowledgements of bytes of a dead server that the new one has not sent yet, lowered."
    AckGateAdvanced "ack_gate_advanced" "Retransmissions of held bytes that were answered with one byte more."
    AckGateReleased "ack_gate_released" "Times that the ack gate was opened before the response."
    RequestTooLong "request_too_long" "Requests longer than the ack gate holds."
    Orphan "orphan" "Flows found without local socket."
    OrphanSwallowed "orphan_swallowed" "Packets of flows without local socket; the client repeats what matters."
    OrphanLimit "orphan_limit" "Packets dropped because too many orphans wait for a verdict; the client repeats them."
    VerdictTimeout "verdict_timeout" "Orphans left to the stack because no verdict came within verdict-ms."
    ProbeSent "probe_sent" "Probes sent to clients."
    Located "located" "Clients that said where they stand."
    Unlocated "unlocated" "Clients that answered no probe."
    NotRecovered "not_recovered" "Clients reset because userspace did not recover them in time."
    GhostOpened "ghost_opened" "Connections opened in a client's name."
    GhostHeard "ghost_heard" "Packets of the server to a ghost."
    GhostLost "ghost_lost" "Ghosts that the server refused, reset or did not answer."
    GhostHandshake "ghost_handshake" "Handshake segments of a joined socket, kept from the client."
    LateSocket "late_socket" "Packets of an old local socket, kept from the client."
    Joined "joined" "Ghosts whose answer was joined to a client."
    PrefixAgain "prefix_again" "Retransmissions of the bytes that precede the server's own."
    PrefixLost "prefix_lost" "Clients reset because they did not acknowledge the prefix."
    Spliced "spliced" "Flows that go on with another server."
    GivenUp "given_up" "Flows that userspace told us to reset."
    ClientReset "client_reset" "Clients that were reset because their flow could not be continued."
    Muted "muted" "Packets of flows that another node has."
    CloseHeld "close_held" "Connections that a local server closed before the known end of a response, held back."
    ClosePassed "close_passed" "Such closes that nobody made up for in time, let through."
    EmitFailed "emit_failed" "Packets of ours that could not be made or sent."
    IcmpTranslated "icmp_translated" "ICMP errors whose quotation was translated."
    WouldHold "would_hold" "Packets of an observed service that would have waited for flow-commit."
    WouldLower "would_lower" "Acknowledgements of an observed service that the ack gate would have lowered."
    WouldBlank "would_blank" "SYNs to an observed service from which options would have been taken."
    WouldCatch "would_catch" "Packets to an observed service without local socket; the stack answers them."
    GhostDirected "ghost_directed" "Packets of ghosts that were given to another listener than the service's own."
    Replayed "replayed" "Answers of which a ghost was to discard what the client has already."
    OpeningLimit "opening_limit" "Connections not protected because too many handshakes are under way."
    HoldFailed "hold_failed" "Packets dropped because they could not be held; the sender repeats them."
    HeldFreed "held_freed" "Held packets freed with their flow, device, namespace or server."
    SackRemoved "sack_removed" "Packets from which SACK blocks were taken that the other side would misread."
    TimestampRaised "timestamp_raised" "Packets overtaken while they were held, whose timestamp was raised."
    IcmpUntranslated "icmp_untranslated" "ICMP errors whose quotation could not be translated; passed as they are."
}

impl Counter {
    /// How many counters there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The counter with this number, if there is one.
    pub fn from_raw(raw: u16) -> Option<Self> {
        Self::ALL.get(usize::from(raw)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_and_names_are_unique() {
        for (i, c) in Counter::ALL.iter().enumerate() {
            assert_eq!(*c as usize, i);
            assert_eq!(Counter::from_raw(i as u16), Some(*c));
            assert!(c
                .name()
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            assert!(Counter::ALL[..i].iter().all(|d| d.name() != c.name()));
        }
        assert_eq!(Counter::from_raw(Counter::COUNT as u16), None);
    }

    #[test]
    fn the_page_of_counters_has_each_once() {
        let page = include_str!("../../Documentation/counters.md");
        for counter in Counter::ALL {
            let number = *counter as usize;
            let row = std::format!("| {number} | `{}` | {} |", counter.name(), counter.doc());
            assert!(page.lines().any(|l| l == row), "counters.md lacks: {row}");
        }
        let numbered = |l: &&str| l.starts_with("| ") && l.as_bytes()[2].is_ascii_digit();
        assert_eq!(page.lines().filter(numbered).count(), Counter::COUNT);
    }
}
