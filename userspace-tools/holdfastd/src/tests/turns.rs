// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! More flows to recover than may be under way at once.

use super::*;

const SECOND: i64 = 1_000_000_000;

/// An engine that recovers `concurrency` flows at once, and those of the clients from 1 on, in the
/// middle of a response, in that order. For the first one, of number 1002, the server is being asked.
fn shaped(concurrency: usize, clients: u16) -> (Engine<FakeKernel>, FakeKernel) {
    let (mut e, kernel) = silent(concurrency, clients);
    e.limits.answer_ms = 3_600_000;
    e.tick(0);
    kernel.take();
    e.hear(entry(1001, located(1, at(2300))), 0);
    assert_eq!(connected(&kernel.take()), [(1, 2300)]);
    (e, kernel)
}

/// The same, none of whom is being probed yet.
fn silent(concurrency: usize, clients: u16) -> (Engine<FakeKernel>, FakeKernel) {
    let (mut e, kernel) = engine();
    e.limits.concurrency = concurrency;
    e.services[0].verdict_ms = 5000;
    for n in 1..=clients {
        let mut record = downloading(n);
        record.clock.as_mut().unwrap().heard = -i64::from(n);
        e.adopt(record, 0);
    }
    (e, kernel)
}

fn orphan(n: u16, word: Word) -> What {
    let (desc, ts) = (desc(n), None);
    What::Orphan { desc, word, ts }
}

fn located(n: u16, word: Word) -> What {
    let (desc, ts) = (desc(n), None);
    What::Located { desc, word, ts }
}

/// A client that has `ack` of what began at 2000.
fn at(ack: u64) -> Word {
    word(ack, 1000 + GET.len() as u64)
}

/// The flow with this number is over.
fn over(e: &mut Engine<FakeKernel>, flow: u64, now: i64) {
    e.hear(entry(flow, What::Closed { ended: true }), now);
    e.tick(now);
}

/// Whom the calls connect, and where.
fn connected(calls: &[Call]) -> Vec<(u16, u64)> {
    let client = |call: &Call| match call {
        Call::Recover { key, at, .. } => (key.client.port() - 40_000, *at),
        other => panic!("{other:?}"),
    };
    calls.iter().map(client).collect()
}

#[test]
fn who_has_spoken_waits_for_its_turn_and_goes_first() {
    let (mut e, kernel) = shaped(1, 3);
    // Idle flows have no other turn than that.
    e.adopt(record(9), 0);
    e.hear(entry(1, orphan(3, at(2300))), 0);
    e.hear(entry(2, orphan(9, word(2000, 1000))), 0);
    e.tick(0);
    let silent = Call::Locate(key(2), 1999);
    assert_eq!(kernel.take(), vec![silent], "one is under way");
    assert_eq!(e.rescues.len(), (4, 2));
    e.hear(entry(1003, located(2, at(2200))), 0);
    assert_eq!((kernel.take(), e.rescues.len()), (vec![], (4, 1)));
    over(&mut e, 1002, 0);
    assert_eq!(connected(&kernel.take()), [(3, 2300)]);
    over(&mut e, 1004, 0);
    assert_eq!(connected(&kernel.take()), [(9, 2000)]);
    over(&mut e, 1005, 0);
    assert_eq!(connected(&kernel.take()), [(2, 2200)]);
    over(&mut e, 1006, 0);
    assert_eq!((kernel.take(), e.rescues.len()), (vec![], (0, 0)));
}

#[test]
fn who_speaks_does_not_wait_for_the_silent() {
    let (mut e, kernel) = silent(2, 40);
    for n in 0..40 {
        e.tick(n);
        assert!(kernel.take().len() <= 2, "heartbeats must not wait");
    }
    assert_eq!(e.rescues.len(), (40, 32));
    // From the first to the last of them.
    e.hear(entry(1, orphan(40, at(2400))), 50);
    e.hear(entry(1001, located(1, at(2100))), 50);
    assert_eq!(connected(&kernel.take()), [(40, 2400), (1, 2100)]);
    e.hear(entry(1002, located(2, at(2200))), 50);
    assert_eq!(kernel.take(), vec![], "two are under way");
    // Who does not answer makes room for those that were not asked yet.
    let why = Failure::Silent;
    e.hear(entry(1003, What::Failed { why }), 50);
    for n in 51..60 {
        e.tick(n);
    }
    let asked = [33, 34, 35].map(|n| Call::Locate(key(n), 1999));
    assert_eq!(kernel.take(), asked);
    assert_eq!(e.rescues.len(), (40, 34));
}

#[test]
fn whose_word_was_outdated_does_not_wait_for_all_others_again() {
    let (mut e, kernel) = shaped(1, 4);
    for n in 2..=4 {
        // What client 2 has said is older than its record.
        let ack = if n == 2 { 1500 } else { 2200 };
        e.hear(entry(n.into(), orphan(n, at(ack))), 0);
    }
    over(&mut e, 1002, 0);
    let calls = kernel.take();
    assert_eq!(calls[0], Call::Locate(key(2), 1999));
    assert_eq!(connected(&calls[1..]), [(3, 2200)]);
    e.hear(entry(1003, located(2, at(2200))), 0);
    over(&mut e, 1004, 0);
    assert_eq!(connected(&kernel.take()), [(2, 2200)]);
}

#[test]
fn nobody_who_speaks_later_is_served_before() {
    let (mut e, kernel) = shaped(1, 3);
    e.hear(entry(1, orphan(2, at(2200))), 0);
    // The turn is free, and has not been given to anybody yet.
    e.hear(entry(1002, What::Closed { ended: true }), 0);
    e.hear(entry(2, orphan(3, at(2300))), 0);
    assert_eq!(connected(&kernel.take()), [(2, 2200)]);
}

#[test]
fn who_waits_is_kept_by_the_kernel_and_may_say_more() {
    let (mut e, kernel) = shaped(1, 2);
    kernel.take();
    let spoke = SECOND;
    let said = Entry {
        time: spoke,
        ..entry(1, orphan(2, at(2200)))
    };
    e.hear(said, spoke);
    // Half of verdict-ms.
    let asked = spoke + 5 * SECOND / 2;
    e.tick(asked - 1);
    assert_eq!(kernel.take(), vec![]);
    e.tick(asked);
    assert_eq!(kernel.take(), vec![Call::Locate(key(2), 1999)]);
    assert_eq!(e.rescues.len(), (2, 1), "it is not under way for that");
    // A client that does not answer is asked again, and keeps its word.
    e.tick(asked + 5 * SECOND - 1);
    assert_eq!(kernel.take(), vec![]);
    e.tick(asked + 5 * SECOND);
    assert_eq!(kernel.take(), vec![Call::Locate(key(2), 1999)]);
    // What was on its way when its server died has arrived.
    let heard = asked + 6 * SECOND;
    let more = Entry {
        time: heard,
        ..entry(1003, located(2, at(2300)))
    };
    e.hear(more, heard);
    e.tick(heard + 5 * SECOND - 1);
    assert_eq!(kernel.take(), vec![]);
    e.tick(heard + 5 * SECOND);
    assert_eq!(kernel.take(), vec![Call::Locate(key(2), 1999)]);
    over(&mut e, 1002, heard + 6 * SECOND);
    assert_eq!(connected(&kernel.take()), [(2, 2300)]);
}

#[test]
fn heartbeats_do_not_wait_until_thousands_are_kept() {
    let (mut e, kernel) = shaped(1, 201);
    kernel.take();
    for n in 2..=201 {
        e.hear(entry(n.into(), orphan(n, at(2200))), 0);
    }
    let mut kept = Vec::new();
    for n in 0.. {
        e.tick(3 * SECOND + n);
        let calls = kernel.take();
        assert!(calls.len() <= 64, "{}", calls.len());
        if calls.is_empty() {
            break;
        }
        kept.extend(calls);
    }
    let who = |call: &Call| match call {
        Call::Locate(key, _) => key.client.port(),
        other => panic!("{other:?}"),
    };
    let mut who: Vec<_> = kept.iter().map(who).collect();
    who.sort_unstable();
    assert_eq!(who, (40_002..=40_201).collect::<Vec<_>>());
}

#[test]
fn however_many_wait_the_most_urgent_are_kept_first_and_all_in_time() {
    let waiting = 20_000;
    let (mut e, kernel) = shaped(1, waiting + 1);
    // Who was adopted last has spoken first.
    for n in 2..=waiting + 1 {
        let spoke = i64::from(waiting + 1 - n);
        let said = Entry {
            time: spoke,
            ..entry(n.into(), orphan(n, at(2200)))
        };
        e.hear(said, spoke);
    }
    kernel.take();
    let mut kept = Vec::new();
    // Half of the time for which the kernel waits for that.
    for n in 0..250 {
        e.tick(3 * SECOND + n * SECOND / 100);
        kept.append(&mut kernel.take());
    }
    let order = (2..=waiting + 1).rev();
    let wanted: Vec<_> = order.map(|n| Call::Locate(key(n), 1999)).collect();
    assert!(kept == wanted, "{} of {waiting}", kept.len());
}

#[test]
fn who_waits_and_goes_has_no_turn() {
    let (mut e, kernel) = shaped(1, 3);
    kernel.take();
    e.hear(entry(1, orphan(2, at(2200))), 0);
    e.hear(entry(2, orphan(3, at(2300))), 0);
    e.tick(3 * SECOND);
    let held = kernel.take();
    assert!(held.contains(&Call::Locate(key(2), 1999)), "{held:?}");
    assert!(held.contains(&Call::Locate(key(3), 1999)), "{held:?}");
    // One resets, the other uses its port again.
    let second = 1003
        + held
            .iter()
            .position(|c| *c == Call::Locate(key(2), 1999))
            .unwrap() as u64;
    e.hear(entry(second, What::Closed { ended: true }), 3 * SECOND);
    let opened = What::Opened {
        desc: desc(3),
        start: 7000,
        request: 8000,
        ts: None,
    };
    e.hear(entry(2007 - second, opened), 3 * SECOND);
    over(&mut e, 1002, 3 * SECOND);
    assert_eq!((kernel.take(), e.rescues.len()), (vec![], (0, 0)));
}

#[test]
fn a_flow_that_the_kernel_has_forgotten_waits_on() {
    let (mut e, kernel) = shaped(1, 1);
    let mut second = downloading(2);
    second.clock = None;
    e.adopt(second, 0);
    kernel.take();
    e.hear(entry(1, orphan(2, at(2200))), 0);
    e.tick(3 * SECOND);
    assert_eq!(kernel.take(), vec![Call::Locate(key(2), 1999)]);
    // The daemon stood still: there was no probe in time.
    let why = Failure::Silent;
    e.hear(entry(1003, What::Failed { why }), 14 * SECOND);
    e.tick(14 * SECOND);
    assert_eq!(kernel.take(), vec![Call::Locate(key(2), 1999)]);
    assert_eq!(e.counts.get("recovery-silent"), None);
    e.hear(entry(3, orphan(2, at(2200))), 20 * SECOND);
    assert_eq!(kernel.take(), vec![], "one is under way");
    over(&mut e, 1002, 20 * SECOND);
    assert_eq!(connected(&kernel.take()), [(2, 2200)]);
}

#[test]
fn a_close_is_held_back_until_it_is_the_turn_of_its_flow() {
    // So many silent clients are being probed that there is no room for another one.
    let (mut e, kernel) = silent(1, 16);
    for n in 0..16 {
        e.tick(n);
    }
    serve_as(&mut e, 1, 17);
    kernel.take();
    e.hear(entry(1, What::Lost { acked: 2400 }), 0);
    assert_eq!(kernel.take(), vec![]);
    e.tick(5 * SECOND / 2);
    assert_eq!(kernel.take(), vec![Call::Locate(key(17), 1999)]);
    e.hear(entry(1017, located(17, at(2400))), 3 * SECOND);
    assert_eq!(connected(&kernel.take()), [(17, 2400)]);
}

/// The log tells of a request and the head of its response on `flow`, of the `n`-th client.
fn serve_as(e: &mut Engine<FakeKernel>, flow: u64, n: u16) {
    for mut entry in served() {
        entry.flow = flow;
        if let What::Opened { desc: opened, .. } = &mut entry.what {
            *opened = desc(n);
        }
        e.hear(entry, 0);
    }
}
