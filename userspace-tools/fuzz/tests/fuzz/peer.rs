// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Heartbeats and updates, forged, replayed, cut, too long and of another version. What
//! spoils the link that records travel is `link.rs`.

use holdfast_fuzz::{noise, number, run, spoil, spoiled, Rng};
use holdfastd::membership::{Change, Membership, Time};
use holdfastd::seal::{Seal, Secret};
use holdfastd::store::{Store, Update};
use holdfastd::wire::{Beat, Hello, VERSION};
use libholdfast::record::{Record, State};
use libholdfast::types::{FlowKey, TcpOptions};
use std::net::IpAddr;
use std::time::Duration;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 80));
const MS: Time = Duration::from_millis(1);

fn group() -> Membership {
    let peers = [("b".to_owned(), 2), ("c".to_owned(), 3)];
    Membership::new(("a", 1), peers, [VIP], (MS * 50, 3), (7, 11), Time::ZERO)
}

fn beat(rng: &mut Rng, seq: u64) -> Beat {
    Beat {
        version: rng.pick(&[VERSION, VERSION, VERSION + 1, 0]),
        from: rng.pick(&["b", "b", "b", "c", "a", "nobody"]).to_owned(),
        boot: rng.below(3),
        session: rng.below(4),
        seq: if rng.permille(800) {
            seq
        } else {
            number(rng, seq)
        },
        echo: rng.pick(&[Some(11), Some(11), Some(12), None]),
        claims: (0..rng.below(4))
            .map(|_| (VIP, number(rng, 1) as u32))
            .collect(),
        leaving: rng.permille(50),
        deaf: rng.permille(50),
        connected: rng.permille(900),
        drained: rng.permille(50),
        unlinked: rng.permille(50),
        gone: (0..rng.below(3)).map(|_| VIP).collect(),
        release: "0".into(),
    }
}

/// A spoiled datagram does not open. One that does, with the secret, but says what is not so,
/// brings neither a node that was never heard to life nor two owners onto this node.
#[test]
fn heartbeats() {
    let secret = Secret::new(&[7; 32]).unwrap();
    let seal = Seal::new(&secret, "beat");
    run("heartbeats", |rng| {
        let mut m = group();
        let (mut now, mut recorded) = (Time::ZERO, Vec::new());
        for seq in 1..60 {
            now += MS * rng.below(120) as u32;
            let said = beat(rng, seq);
            let mut plain = said.encode();
            let sealed = seal.seal(&plain);
            let mut forged = sealed.clone();
            spoil(rng, &mut forged);
            assert!(forged == sealed || seal.open(&forged).is_none());
            // A newer version, or a node that errs: sealed rightly.
            match rng.below(10) {
                0 | 1 => spoil(rng, &mut plain),
                2 => {
                    let more = rng.below(100);
                    plain.extend(noise(rng, more));
                    assert_eq!(Beat::decode(&plain).map(|b| b.claims), Some(said.claims));
                }
                _ => {}
            }
            if let Some(b) = Beat::decode(&plain) {
                let before = m
                    .peers(now)
                    .map(|(n, h, _)| (n.to_owned(), h))
                    .collect::<Vec<_>>();
                let changes = m.hear(&b, now);
                if b.echo != Some(11) || !matches!(&*b.from, "b" | "c") {
                    assert!(matches!(changes[..], [Change::Vain(_)]), "{b:?}");
                    let after = m
                        .peers(now)
                        .map(|(n, h, _)| (n.to_owned(), h))
                        .collect::<Vec<_>>();
                    assert_eq!(before, after);
                }
                recorded.push(b);
            }
            let replayed = rng.below(recorded.len() as u64) as usize;
            if let Some(old) = recorded.get(replayed).filter(|_| rng.permille(300)) {
                let newest = recorded
                    .iter()
                    .filter(|b| b.from == old.from)
                    .map(|b| b.session);
                if newest.last() == Some(old.session) {
                    assert!(!m
                        .hear(old, now)
                        .iter()
                        .any(|c| matches!(c, Change::Take { .. })));
                }
            }
            m.tick(now);
            assert!(m.owners().count() == 1);
        }
    });
}

/// What is no heartbeat or hello is refused; what is one is said on the same.
#[test]
fn words() {
    run("words", |rng| {
        let seq = rng.bits();
        let (beat, hello) = (beat(rng, seq).encode(), Hello::new("b").encode());
        let bytes = spoiled(rng, &[&beat, &hello]);
        if let Some(hello) = Hello::decode(&bytes) {
            assert_eq!(Hello::decode(&hello.encode()), Some(hello));
        }
        if let Some(beat) = Beat::decode(&bytes) {
            let again = Beat::decode(&beat.encode()).unwrap();
            assert_eq!((&again.from, &again.claims), (&beat.from, &beat.claims));
            assert!(again.gone.iter().all(|a| beat.gone.contains(a)));
        }
    });
}

fn record(n: u64, generation: u32) -> Record {
    Record {
        key: key(n),
        generation,
        options: TcpOptions::default(),
        clock: None,
        strict: true,
        deterministic: false,
        request: 1000,
        start: 2000,
        acked: 2000,
        state: State::Idle,
    }
}

fn key(n: u64) -> FlowKey {
    FlowKey {
        client: format!("198.51.100.7:{}", 40_000 + n).parse().unwrap(),
        service: "192.0.2.10:80".parse().unwrap(),
    }
}

/// The store keeps within its limit; what it refuses it counts; a peer cannot touch the records
/// of another but by a newer generation.
#[test]
fn updates() {
    run("updates", |rng| {
        let mut store = Store::new(4);
        for _ in 0..50 {
            let generation = number(rng, 2) as u32;
            let key = key(rng.below(8));
            let n = u64::from(key.client.port()) - 40_000;
            let update = match rng.below(8) {
                0 => Update::Begin { boot: 1 },
                1..=4 => {
                    let mut bytes = record(n, generation).encode(0);
                    if rng.permille(300) {
                        spoil(rng, &mut bytes);
                    }
                    Update::Put(bytes)
                }
                5 | 6 => Update::Mark {
                    key,
                    generation,
                    acked: number(rng, 2000),
                    ts: rng.permille(500).then_some((1, 2)),
                    age_ms: number(rng, 0) as u32,
                },
                _ => Update::Drop { key, generation },
            };
            let mut bytes = postcard::to_allocvec(&update).unwrap();
            if rng.permille(100) {
                spoil(rng, &mut bytes);
            }
            let Ok(update) = postcard::from_bytes::<Update>(&bytes) else {
                continue;
            };
            let (refused, count) = (store.refused, store.count());
            let owner = rng.pick(&["b", "c"]);
            let others = |s: &Store| s.owned(if owner == "b" { "c" } else { "b" });
            let (before, takes) = (others(&store), matches!(update, Update::Put(_)));
            store.apply(owner, update, number(rng, 0) as i64);
            assert!(store.count() <= 4 && store.refused - refused <= 1);
            assert!(takes || others(&store) == before);
            assert!(store.refused == refused || store.count() == count);
        }
    });
}
