// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! From the answer of the local server to the exact byte where it joins the client.

use super::{Ask, Join, Judgement, Refusal, Want};
use crate::http::{
    parse_request, parse_response, same_content, Doubt, Framing, Parsed, ResponseHead, HEAD_LIMIT,
};
use crate::record::{object, Object, Record, State, Way};

/// Whether `answer`, all that the server has said so far, continues the flow of `record`.
/// `fin`: the server will say no more.
pub fn judge(record: &Record, ask: &Ask, answer: &[u8], fin: bool) -> Judgement {
    match weigh(record, ask, answer, fin) {
        Ok(Some(join)) => Judgement::Join(join),
        Ok(None) if fin => Judgement::Refuse(Refusal::Closed),
        Ok(None) if answer.len() >= ask.window as usize || answer.len() >= 2 * HEAD_LIMIT => {
            Judgement::Refuse(Refusal::Answer(Doubt::TooLong))
        }
        Ok(None) => Judgement::NeedMore,
        Err(refusal) => Judgement::Refuse(refusal),
    }
}

fn weigh(record: &Record, ask: &Ask, answer: &[u8], fin: bool) -> Result<Option<Join>, Refusal> {
    match (&ask.want, &record.state) {
        (Want::Fresh, State::Requesting(request)) => fresh(record, request, answer),
        (Want::Stored, State::Responding(object)) => stored(record, object, ask, answer),
        (Want::Range { first, last }, State::Responding(object)) => {
            ranged(record, object, ask, (*first, *last), answer, fin)
        }
        (Want::Replay, State::Responding(object)) => replayed(record, object, ask, answer, fin),
        // A plan for another state of the flow.
        _ => Err(Refusal::Ahead),
    }
}

fn joined(
    record: &Record,
    prefix: Vec<u8>,
    answer: &[u8],
    object_end: Option<u64>,
    change: impl FnOnce(&mut Record),
) -> Join {
    let mut record = record.clone();
    let object_start = record.start;
    change(&mut record);
    Join {
        prefix,
        answer_length: answer.len() as u64,
        skip: 0,
        object_start,
        object_end,
        record,
    }
}

/// The client has nothing of a response: any is right, from its first byte on.
fn fresh(record: &Record, request: &[u8], answer: &[u8]) -> Result<Option<Join>, Refusal> {
    let Ok(Parsed::Head(head)) = parse_request(request) else {
        return Err(Refusal::RequestLost);
    };
    let made = match object(
        request,
        head.asked,
        head.is_head,
        record.start,
        answer,
        record.deterministic,
    ) {
        Ok(None) => return Ok(None),
        Ok(Some(made)) => Ok(made),
        Err(doubt) => Err(doubt),
    };
    let end = made.as_ref().ok().and_then(|o| o.end);
    Ok(Some(joined(record, answer.to_vec(), answer, end, |r| {
        r.state = match made {
            Ok(made) => State::Responding(made),
            Err(doubt) => State::Unprotected(doubt),
        };
    })))
}

fn head_of(answer: &[u8], to_head: bool) -> Result<Option<ResponseHead>, Refusal> {
    match parse_response(answer, to_head).map_err(Refusal::Answer)? {
        Parsed::Partial => Ok(None),
        Parsed::Head(head) => Ok(Some(head)),
    }
}

/// The record has the whole response; the server only has to be brought behind its own.
fn stored(
    record: &Record,
    object: &Object,
    ask: &Ask,
    answer: &[u8],
) -> Result<Option<Join>, Refusal> {
    let Some(head) = head_of(answer, object.to_head)? else {
        return Ok(None);
    };
    let Framing::Length(length) = head.framing else {
        return Err(Refusal::Answer(Doubt::UnknownLength));
    };
    let whole = (head.len as u64)
        .checked_add(length)
        .ok_or(Refusal::Answer(Doubt::Framing))?;
    if whole > u64::from(ask.window) {
        return Err(Refusal::Answer(Doubt::TooLong));
    }
    match (answer.len() as u64).cmp(&whole) {
        std::cmp::Ordering::Less => return Ok(None),
        std::cmp::Ordering::Greater => return Err(Refusal::Answer(Doubt::Framing)),
        std::cmp::Ordering::Equal => {}
    }
    let delivered = (ask.at - record.start) as usize;
    let rest = object.sent.get(delivered..).ok_or(Refusal::Ahead)?;
    Ok(Some(joined(
        record,
        rest.to_vec(),
        answer,
        object.end,
        |_| {},
    )))
}

/// The range that was asked for, of the same representation.
fn ranged(
    record: &Record,
    object: &Object,
    ask: &Ask,
    (first, last): (u64, u64),
    answer: &[u8],
    fin: bool,
) -> Result<Option<Join>, Refusal> {
    let Way::Range {
        total,
        validator,
        coding,
        partial,
        ..
    } = &object.way
    else {
        return Err(Refusal::Ahead);
    };
    let Some(head) = head_of(answer, object.to_head)? else {
        return Ok(None);
    };
    match head.status {
        206 => {}
        404 | 410 => return Err(Refusal::Missing(head.status)),
        // It knows no ranges, and says all of it.
        200 if record.deterministic && !*partial => {
            return replayed(record, object, ask, answer, fin)
        }
        other => return Err(Refusal::NotPartial(other)),
    }
    let length = last - first + 1;
    let range = head.range.ok_or(Refusal::WrongRange)?;
    let same = (range.first, range.last, range.total) == (first, last, *total);
    if !same || head.multipart || head.framing != Framing::Length(length) {
        return Err(Refusal::WrongRange);
    }
    // A 206 to If-Range may leave Content-Encoding out (RFC 9110, section 15.3.7).
    let recoded = head.coding.is_some() && head.coding != *coding;
    if head.validator.as_ref() != Some(validator) || recoded {
        return Err(Refusal::WrongValidator);
    }
    let body = &answer[head.len..];
    if body.len() as u64 > length {
        return Err(Refusal::Answer(Doubt::Framing));
    }
    if fin && (body.len() as u64) < length {
        return Err(Refusal::Closed);
    }
    // What the record has of the head goes first; what it has of the body must agree.
    let delivered = usize::try_from(ask.at - record.start).unwrap_or(usize::MAX);
    let head_len = object.head as usize;
    let rest = object.sent.get(delivered..head_len).unwrap_or_default();
    let recorded = object
        .sent
        .get(delivered.max(head_len)..)
        .unwrap_or_default();
    if recorded.iter().zip(body).any(|(a, b)| a != b) {
        return Err(Refusal::WrongBytes);
    }
    Ok(Some(joined(
        record,
        [rest, body].concat(),
        answer,
        object.end,
        |_| {},
    )))
}

/// The recorded answer once more: what the client has of it is discarded.
fn replayed(
    record: &Record,
    object: &Object,
    ask: &Ask,
    answer: &[u8],
    fin: bool,
) -> Result<Option<Join>, Refusal> {
    let Some(head) = head_of(answer, object.to_head)? else {
        return Ok(None);
    };
    // It could be read when the record was made.
    let was = head_of(&object.sent, object.to_head)?;
    let Some(was) = was.filter(|was| was.len == object.head as usize) else {
        return Err(Refusal::Ahead);
    };
    match head.status {
        same if same == was.status => {}
        404 | 410 => return Err(Refusal::Missing(head.status)),
        other => return Err(Refusal::OtherStatus(other)),
    }
    if (&head.etag, &head.last_modified) != (&was.etag, &was.last_modified) {
        return Err(Refusal::WrongValidator);
    }
    if !same_content((answer, &head), (&object.sent, &was)) {
        return Err(Refusal::OtherContent);
    }
    let (body, recorded) = (&answer[head.len..], &object.sent[was.len..]);
    if matches!(head.framing, Framing::Length(n) if (body.len() as u64) > n) {
        return Err(Refusal::Answer(Doubt::Framing));
    }
    if recorded.iter().zip(body).any(|(a, b)| a != b) {
        return Err(Refusal::WrongBytes);
    }
    let whole = matches!(head.framing, Framing::Length(n) if body.len() as u64 == n);
    // All that can be compared is; but a server does not fill a window to its end.
    let compared = body.len() >= recorded.len() || answer.len() >= ask.window as usize / 2;
    if !compared && !whole {
        return Ok(None);
    }
    let delivered = ask.at - record.start;
    let rest = usize::try_from(delivered)
        .ok()
        .and_then(|from| object.sent.get(from..was.len))
        .unwrap_or_default();
    let has = delivered.saturating_sub(was.len as u64);
    let seen = body.len() as u64;
    if fin && (seen < has || matches!(head.framing, Framing::Length(_)) && !whole) {
        return Err(Refusal::Closed);
    }
    let fresh = usize::try_from(has).ok().and_then(|from| body.get(from..));
    let prefix = [rest, fresh.unwrap_or_default()].concat();
    let mut join = joined(record, prefix, answer, object.end, |_| {});
    join.skip = has.saturating_sub(seen);
    Ok(Some(join))
}
