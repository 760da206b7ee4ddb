// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What a node believes of what comes by links.

use super::node::*;
use super::*;
use crate::link::LinkEvent;
use crate::wire::Beat;

/// Node b, which has just started.
async fn b() -> Daemon<FakeKernel> {
    let config = Config::parse(&config("b", free_ports(), "none", "true")).unwrap();
    let secret = Secret::new(&[9; 32]).unwrap();
    let started = Daemon::new(config, &secret, FakeKernel::default(), true, (2, 12));
    started.await.unwrap()
}

fn told(conn: u64, updates: Vec<Update>) -> LinkEvent {
    LinkEvent::Told {
        peer: "a".into(),
        conn,
        updates,
    }
}

/// All that a node has, the `n`-th flow; it waits for its peers.
fn all(d: &Daemon<FakeKernel>, n: u16) -> Vec<Update> {
    let put = Update::Put(record(n).encode(0));
    let about = d.ready.about(&d.config, true);
    vec![Update::Begin { boot: 1 }, put, about]
}

#[tokio::test]
async fn what_is_left_of_an_older_link_is_not_heard() {
    let mut d = b().await;
    let (first, second) = (all(&d, 1), all(&d, 2));
    d.linked(told(1, first.clone()));
    d.linked(told(3, second));
    d.linked(told(1, first.clone()));
    d.linked(told(2, first));
    d.linked(LinkEvent::Left {
        peer: "a".into(),
        conn: 1,
    });
    assert_eq!(d.engine.store.count(), 1);
    let (_, kept) = d.engine.store.take(&key(2)).unwrap();
    assert!(kept.strict);
}

#[tokio::test]
async fn a_link_that_has_told_nothing_says_nothing_by_its_end() {
    let mut d = b().await;
    let told_all = all(&d, 1);
    d.linked(told(1, told_all));
    // A handshake that was recorded goes so far.
    d.linked(LinkEvent::Left {
        peer: "a".into(),
        conn: 2,
    });
    // Nor does one that does not begin.
    d.linked(told(3, vec![Update::Put(record(2).encode(0))]));
    assert_eq!(d.engine.store.count(), 1);
    let (_, kept) = d.engine.store.take(&key(1)).unwrap();
    assert!(kept.strict);
}

#[tokio::test]
async fn who_has_no_link_to_us_promises_nothing_any_more() {
    let mut d = b().await;
    let (addr, mut seq) = ("192.0.2.10".parse().unwrap(), 0);
    let mut hear = |d: &mut Daemon<FakeKernel>, unlinked| {
        seq += 1;
        let beat = Beat {
            version: crate::wire::VERSION,
            from: "a".into(),
            boot: 1,
            session: 11,
            seq,
            echo: Some(12),
            claims: vec![(addr, 1)],
            leaving: false,
            deaf: false,
            connected: true,
            drained: false,
            unlinked,
            gone: Vec::new(),
            release: String::new(),
        };
        let changes = d.membership.hear(&beat, d.time());
        d.changed(changes);
    };
    // Its first words are older than its link.
    let told_all = all(&d, 1);
    d.linked(told(1, told_all));
    hear(&mut d, true);
    let strict = |d: &mut Daemon<FakeKernel>| {
        let (_, kept) = d.engine.store.take(&key(1)).unwrap();
        d.engine
            .store
            .apply("a", Update::Put(record(1).encode(0)), 0);
        kept.strict
    };
    assert!(strict(&mut d));
    hear(&mut d, false);
    assert!(strict(&mut d));
    hear(&mut d, true);
    assert!(!strict(&mut d));
}
