// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A successor that lacks the object asks the servers of its peers.

use super::*;
use crate::kernel::Failure;
use crate::relay::Relay;

const PORT: u16 = 8041;

/// An engine whose peers `c` and `d` live, and its flow 1, whose client waits in the middle of a
/// response.
fn taken_over() -> (Engine<FakeKernel>, FakeKernel) {
    let (mut e, kernel) = engine();
    e.next.relay = Some(Relay::at([Some(PORT), None]));
    e.next.peers = ["c", "d"]
        .iter()
        .zip([3, 4])
        .map(|(name, n)| ((*name).to_owned(), [192, 0, 2, n].into()))
        .collect();
    e.store.apply("a", Update::Put(downloading(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 10);
    let body = 2000 + HEAD.len() as u64;
    let located = What::Located {
        desc: desc(1),
        word: word(body + 400, 1000 + GET.len() as u64),
        ts: None,
    };
    e.hear(entry(1001, located), 20);
    assert_eq!(asked(&kernel), [None]);
    (e, kernel)
}

/// The listeners that the connections opened since the last time were for.
fn asked(kernel: &FakeKernel) -> Vec<Option<u16>> {
    let port = |call| match call {
        Call::Recover { local_port, .. } => Some(local_port),
        _ => None,
    };
    kernel.take().into_iter().filter_map(port).collect()
}

fn says(e: &mut Engine<FakeKernel>, flow: u64, data: &[u8]) {
    let (pos, data, fin) = (0, data.to_vec(), false);
    e.hear(entry(flow, What::Asked), 30);
    e.hear(entry(flow, What::Answer { pos, data, fin }), 30);
}

const MISSING: &[u8] = b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n";
const RIGHT: &[u8] = b"HTTP/1.1 206 P\r\nContent-Length: 600\r\nETag: \"e\"\r\n\
    Content-Range: bytes 400-999/1000\r\n\r\n";
const CHANGED: &[u8] = b"HTTP/1.1 206 P\r\nContent-Length: 600\r\nETag: \"f\"\r\n\
    Content-Range: bytes 400-999/1000\r\n\r\n";

#[test]
fn what_the_local_server_lacks_the_next_one_has() {
    let (mut e, kernel) = taken_over();
    says(&mut e, 1002, MISSING);
    assert_eq!(asked(&kernel), [Some(PORT)]);
    says(&mut e, 1003, CHANGED);
    assert_eq!(asked(&kernel), [Some(PORT)], "and the one behind it");
    says(&mut e, 1004, RIGHT);
    let end = Some(2000 + HEAD.len() as u64 + 1000);
    let join = Call::Join {
        prefix: Vec::new(),
        answer_length: RIGHT.len() as u64,
        skip: 0,
        object_end: end,
    };
    assert_eq!(kernel.take(), vec![join]);
    e.hear(entry(1004, What::Spliced { pos: 5 }), 40);
    assert_eq!((e.counts["next-node"], e.counts["flows-relayed"]), (2, 1));
    assert_eq!(e.counts["flows-recovered"], 1);
}

#[test]
fn what_nobody_has_is_a_reset_for_the_first_reason() {
    let (mut e, kernel) = taken_over();
    says(&mut e, 1002, MISSING);
    says(&mut e, 1003, CHANGED);
    kernel.take();
    let failed = What::Failed {
        why: Failure::Server,
    };
    e.hear(entry(1004, failed.clone()), 50);
    assert_eq!(kernel.take(), [], "an older one");
    e.hear(entry(1004, What::Asked), 50);
    e.hear(entry(1004, failed), 50);
    assert_eq!(kernel.take(), [Call::End(key(1), Verdict::Reset)]);
    let tally = &e.tally.get(key(1).service).unwrap().counts;
    assert_eq!(tally["refused-missing"], 1);
}

#[test]
fn a_peer_that_does_not_answer_in_time_is_passed_over() {
    let (mut e, kernel) = taken_over();
    says(&mut e, 1002, MISSING);
    kernel.take();
    let late = 31 + e.limits.answer_ms as i64 * 1_000_000;
    e.tick(late);
    assert_eq!(asked(&kernel), [Some(PORT)]);
    e.tick(2 * late);
    assert_eq!(kernel.take(), [Call::End(key(1), Verdict::Reset)]);
}

#[test]
fn peers_are_not_asked_where_that_is_not_wanted() {
    let (mut e, kernel) = taken_over();
    e.services[0].next_port = Some(0);
    says(&mut e, 1002, MISSING);
    assert_eq!(kernel.take(), [Call::End(key(1), Verdict::Reset)]);
}
