// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! From the record of a flow and its client's word to what is done with it.

use super::{Ask, Plan, Refusal, Want, Word};
use crate::http::{parse_request, range_request, Doubt, Parsed};
use crate::record::{Object, Record, State, Way};

/// Bytes of an answer to a range request that are taken before it is joined: its head, and
/// little of its body, since the prefix carries it.
const RANGE_WINDOW: u32 = 8 * 1024;

/// Bytes of an answer that are taken where all of it must be seen.
const WHOLE_WINDOW: u32 = 32 * 1024;

/// What is to be done with the flow of `record` whose client said `word`.
pub fn plan(record: &Record, word: Word) -> Plan {
    let at = record.resolve(word.ack);
    match &record.state {
        State::Unprotected(doubt) => Plan::Refuse(Refusal::Unprotected(*doubt)),
        _ if at < record.start => Plan::Again,
        _ if at > record.start && !matches!(record.state, State::Responding(_)) => {
            Plan::Refuse(Refusal::Ahead)
        }
        State::Idle | State::Requesting(_) if !nothing_escaped(record, word) => {
            Plan::Refuse(Refusal::Escaped)
        }
        State::Idle => silent(record.request, at, word),
        State::Requesting(request) => unanswered(record, request, at, word),
        State::Responding(object) => answered(record, object, at, word),
    }
}

/// Whether the client surely has no byte of an unrecorded response: none left before its record.
/// Without the data gate nobody knows. What a client said may be older than what was under way to
/// it then, even if it says nothing of bytes out of order.
fn nothing_escaped(record: &Record, word: Word) -> bool {
    record.strict && !word.sacked
}

/// The client will send the bytes from `c2s_next` on, or holds them already.
fn silent(c2s_next: u64, at: u64, word: Word) -> Plan {
    let ahead = word.seq.wrapping_sub(c2s_next as u32) as i32;
    match ahead {
        // What it sends again begins behind what we know: an earlier packet may follow.
        1.. if word.payload => Plan::Again,
        _ => Plan::Silent { at, c2s_next },
    }
}

fn unanswered(record: &Record, request: &[u8], at: u64, word: Word) -> Plan {
    let held = word.payload && word.seq == record.request as u32;
    if held {
        // The client itself says what it wants; nobody could have forged that before.
        return Plan::Silent {
            at,
            c2s_next: record.request,
        };
    }
    let c2s_next = record.request_end();
    if word.seq.wrapping_sub(c2s_next as u32) as i32 > 1 {
        // More of it, or another one; one alone is a FIN.
        return Plan::Refuse(Refusal::RequestLost);
    }
    if !matches!(parse_request(request), Ok(Parsed::Head(_))) {
        // Half a request that the client may have forgotten, and no answer to join it by.
        return Plan::Refuse(Refusal::RequestLost);
    }
    let (request, window) = (request.to_vec(), WHOLE_WINDOW);
    Plan::Ask(Ask {
        at,
        c2s_next,
        request,
        window,
        want: Want::Fresh,
    })
}

fn answered(record: &Record, object: &Object, at: u64, word: Word) -> Plan {
    let c2s_next = record.request_end();
    if let Some(end) = object.end {
        if at == end && !nothing_escaped(record, word) {
            return Plan::Refuse(Refusal::Escaped);
        } else if at == end {
            return silent(c2s_next, at, word);
        } else if at == end + 1 {
            // The FIN behind it has arrived too.
            return Plan::Finished;
        } else if at > end {
            return Plan::Refuse(Refusal::Ahead);
        }
    }
    if word.seq.wrapping_sub(c2s_next as u32) as i32 > 1 {
        // The next request, before the end of this response; one alone is a FIN.
        return Plan::Refuse(Refusal::Unprotected(Doubt::Pipelined));
    }
    let ask = |request, window, want| {
        Plan::Ask(Ask {
            at,
            c2s_next,
            request,
            window,
            want,
        })
    };
    match (&object.way, object.end) {
        (Way::Replay(_), _) => ask(object.request.clone(), WHOLE_WINDOW, Want::Replay),
        (Way::None(doubt), _) => Plan::Refuse(Refusal::Unprotected(*doubt)),
        (Way::Stored, _) => ask(object.request.clone(), WHOLE_WINDOW, Want::Stored),
        (Way::Range { .. }, None) => Plan::Refuse(Refusal::Unprotected(Doubt::UnknownLength)),
        (
            Way::Range {
                first,
                validator,
                partial,
                ..
            },
            Some(end),
        ) => {
            let body = record.start + u64::from(object.head);
            let (from, last) = (first + at.saturating_sub(body), first + (end - body) - 1);
            let to = partial.then_some(last);
            match range_request(&object.request, from, to, validator) {
                Some(request) => ask(request, RANGE_WINDOW, Want::Range { first: from, last }),
                None => Plan::Refuse(Refusal::Unprotected(Doubt::Malformed)),
            }
        }
    }
}
