// SPDX-License-Identifier: GPL-2.0

//! The arithmetic of the splice.

use super::super::seq::{Delta, Seq};
use super::super::splice::{Clock, Refuse, Rescale, Rewrite, Splice};
use super::super::wire::{flags, Csum, Packet};
use super::{endpoint, sack_option, sound, spec, ts_option, Spec};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn packet<T>(bytes: &mut [u8], csum: Csum, f: impl FnOnce(&mut Packet<'_>) -> T) -> T {
    let len = bytes.len() as u32;
    f(&mut Packet::parse(bytes, len, csum).unwrap())
}

fn splice(c2s: u32, s2c: u32, ts: u32) -> Splice {
    Splice::new(
        Delta::new(c2s),
        Delta::new(s2c),
        Clock {
            delta: ts,
            first: None,
        },
    )
}

fn back(c2s: u32, s2c: u32, ts: u32) -> Splice {
    splice(c2s.wrapping_neg(), s2c.wrapping_neg(), ts.wrapping_neg())
}

/// What matters of a packet: seq, ack, window, timestamps, SACK.
type Fields = (u32, u32, u16, Option<(u32, u32)>, Vec<(u32, u32)>);

fn fields(p: &Packet<'_>) -> Fields {
    let o = p.options();
    (p.seq(), p.ack(), p.window(), o.ts, o.sack().to_vec())
}

fn at(n: u32) -> impl Strategy<Value = u32> {
    // Near the wrap as often as anywhere.
    prop_oneof![
        any::<u32>(),
        (0..n).prop_map(move |d| d.wrapping_sub(n / 2))
    ]
}

proptest! {
    #[test]
    fn c2s_is_the_arithmetic_and_can_be_undone(spec in spec(), d: (u32, u32, u32)) {
        let (c, s, t) = d;
        let before = spec.bytes();
        let mut bytes = before.clone();
        packet(&mut bytes, spec.csum, |p| {
            let (seq, ack, window, ts, sack) = fields(p);
            prop_assert_eq!(splice(c, s, t).c2s(p), Ok(false));
            let local = |n: u32| n.wrapping_sub(s);
            prop_assert_eq!(fields(p), (
                seq.wrapping_sub(c), local(ack), window,
                ts.map(|(v, e)| (v, if e == 0 { 0 } else { e.wrapping_sub(t) })),
                sack.iter().map(|(l, r)| (local(*l), local(*r))).collect(),
            ));
            Ok(())
        })?;
        prop_assert!(sound(&bytes, spec.csum));
        packet(&mut bytes, spec.csum, |p| back(c, s, t).c2s(p)).unwrap();
        prop_assert_eq!(bytes, before);
    }

    #[test]
    fn s2c_is_the_arithmetic_and_can_be_undone(spec in spec(), d: (u32, u32, u32)) {
        let (c, s, t) = d;
        let before = spec.bytes();
        let mut bytes = before.clone();
        packet(&mut bytes, spec.csum, |p| {
            let (seq, ack, window, ts, sack) = fields(p);
            prop_assert_eq!(splice(c, s, t).s2c(p), Ok(()));
            let client = |n: u32| n.wrapping_add(c);
            prop_assert_eq!(fields(p), (
                seq.wrapping_add(s), client(ack), window,
                ts.map(|(v, e)| (v.wrapping_add(t), e)),
                sack.iter().map(|(l, r)| (client(*l), client(*r))).collect(),
            ));
            Ok(())
        })?;
        prop_assert!(sound(&bytes, spec.csum));
        packet(&mut bytes, spec.csum, |p| back(c, s, t).s2c(p)).unwrap();
        prop_assert_eq!(bytes, before);
    }

    #[test]
    fn both_halves_may_change_addresses(
        (spec, a, b) in spec().prop_flat_map(|s| {
            let f = s.key.family;
            (Just(s), endpoint(f), endpoint(f))
        }),
    ) {
        let there = Rewrite { source: Some(a), destination: Some(b) };
        let (source, destination) = spec.key.ends(spec.dir);
        let home = Rewrite { source: Some(source), destination: Some(destination) };
        let mut splice = splice(1, 2, 3).with_addresses(there, home);
        let before = spec.bytes();
        let mut bytes = before.clone();
        packet(&mut bytes, spec.csum, |p| splice.c2s(p)).unwrap();
        let key = packet(&mut bytes, spec.csum, |p| p.key(spec.dir));
        prop_assert_eq!(key.ends(spec.dir), (a, b));
        prop_assert!(sound(&bytes, spec.csum));
        packet(&mut bytes, spec.csum, |p| splice.s2c(p)).unwrap();
        let key = packet(&mut bytes, spec.csum, |p| p.key(spec.dir));
        prop_assert_eq!(key, spec.key);
        prop_assert!(sound(&bytes, spec.csum));
    }
}

/// The stream around a boundary, byte by byte: local offset (from `at - SPAN`) to client
/// number, or nothing for an erased byte.
struct Model {
    base: u32,
    client: Vec<Option<u32>>,
}

const SPAN: u32 = 300;

impl Model {
    fn new(at: u32, old: u32, new: u32) -> Self {
        let joint = at.wrapping_add(new);
        let base = at.wrapping_sub(SPAN);
        let client = (0..2 * SPAN)
            .map(|i| match i < SPAN {
                true => Some(base.wrapping_add(i).wrapping_add(old))
                    .filter(|c| (c.wrapping_sub(joint) as i32) < 0),
                false => Some(base.wrapping_add(i).wrapping_add(new)),
            })
            .collect();
        Model { base, client }
    }

    /// Offsets of the live bytes whose client number is (not) before `n`.
    fn live(&self, n: u32, before: bool) -> impl DoubleEndedIterator<Item = u32> + '_ {
        let hit = move |c: u32| ((c.wrapping_sub(n) as i32) < 0) == before;
        (0..2 * SPAN).filter(move |i| self.client[*i as usize].is_some_and(hit))
    }

    /// The first byte that the client still lacks when it acknowledges `n`.
    fn ack(&self, n: u32) -> u32 {
        self.base.wrapping_add(self.live(n, false).next().unwrap())
    }

    /// The end of the bytes before `n`.
    fn end(&self, n: u32) -> u32 {
        self.base
            .wrapping_add(self.live(n, true).next_back().unwrap() + 1)
    }

    fn segment(&self, from: u32, len: u32) -> Result<u32, Refuse> {
        let first = self.client[from as usize].ok_or(Refuse::Erased)?;
        for k in 1..len {
            if self.client[(from + k) as usize] != Some(first.wrapping_add(k)) {
                return Err(Refuse::Straddles { at: k });
            }
        }
        Ok(first)
    }
}

fn plain(seq: u32, ack: u32, payload: usize, options: Vec<u8>) -> Spec {
    let end = |a: u8| super::Endpoint {
        addr: [a; 16],
        port: [a; 2],
    };
    Spec {
        key: super::Key::new(6, end(1), end(2)),
        dir: super::Dir::ToClient,
        extra: (0, vec![]),
        seq,
        ack,
        flags: flags::ACK,
        window: 1000,
        options,
        payload: vec![7; payload],
        csum: Csum::Full,
    }
}

proptest! {
    #[test]
    fn a_boundary_divides_the_stream(
        joint in at(2000), old in at(2000), shift in -100i32..100,
        from in 0..SPAN + 50, len in 1..200u32, fin: bool, acks in (50..350u32, 1..100u32),
    ) {
        let (at, new) = (joint, old.wrapping_add_signed(shift));
        let model = Model::new(at, old, new);
        let mut splice = splice(0, old, 0);
        prop_assert!(splice.move_boundary_s2c(Seq::new(at), Delta::new(new)));
        prop_assert_eq!(splice.move_boundary_s2c(Seq::new(at), Delta::new(9)), shift == 0);
        if shift == 0 {
            return Ok(());
        }

        let seq = model.base.wrapping_add(from);
        let mut spec = plain(seq, 0, len as usize - usize::from(fin), vec![]);
        spec.flags |= u8::from(fin);
        let before = spec.bytes();
        let mut bytes = before.clone();
        let got = packet(&mut bytes, Csum::Full, |p| splice.s2c(p).map(|()| p.seq()));
        prop_assert_eq!(got, model.segment(from, len));
        prop_assert!(sound(&bytes, Csum::Full));
        if got.is_err() {
            prop_assert_eq!(bytes, before);
        }

        let ack = model.base.wrapping_add(old).wrapping_add(acks.0);
        let block = (ack, ack.wrapping_add(acks.1));
        let mut bytes = plain(0, ack, 0, sack_option(&[block])).bytes();
        packet(&mut bytes, Csum::Full, |p| {
            let removed = splice.c2s(p);
            prop_assert_eq!(p.ack(), model.ack(ack));
            let want = (model.ack(block.0), model.end(block.1));
            // Where the acknowledgement is raised, a block at it would look like reneging.
            let raised = model.ack(ack).wrapping_sub(ack.wrapping_sub(new)) as i32 > 0;
            let reneges = raised && want.0.wrapping_sub(p.ack()) as i32 <= 0;
            let want = if want.0 == want.1 || reneges { vec![] } else { vec![want] };
            prop_assert_eq!(p.options().sack(), &want[..]);
            prop_assert_eq!(removed, Ok(want.is_empty()));
            let less = if raised { model.ack(ack).wrapping_sub(ack.wrapping_sub(new)) } else { 0 };
            prop_assert_eq!(u32::from(p.window()), 1000u32.saturating_sub(less), "the right edge stays");
            Ok(())
        })?;
        prop_assert!(sound(&bytes, Csum::Full));
    }

    /// A pure acknowledgement carries a number that the client accepts, wherever it stands.
    #[test]
    fn a_segment_without_bytes_is_never_refused(joint in at(2000), shift in -100i32..100, off in 0..600u32) {
        let mut splice = splice(0, 77, 0);
        let new = 77u32.wrapping_add_signed(shift);
        prop_assert!(splice.move_boundary_s2c(Seq::new(joint), Delta::new(new)));
        let seq = joint.wrapping_sub(300).wrapping_add(off);
        let mut bytes = plain(seq, 0, 0, vec![]).bytes();
        let got = packet(&mut bytes, Csum::Full, |p| splice.s2c(p).map(|()| p.seq()));
        let got = got.unwrap();
        prop_assert_eq!(splice.seq_to_client(Seq::new(seq)).raw(), got);
        let client_joint = joint.wrapping_add(new);
        if off < 300 {
            prop_assert!(client_joint.wrapping_sub(got) as i32 >= 0);
        } else {
            prop_assert_eq!(got, seq.wrapping_add(new));
        }
    }

    #[test]
    fn nothing_below_the_floor_is_acknowledged(
        floor in at(2000), delta: u32, off in -500i32..500, left in -500i32..500, len in 1..600u32,
    ) {
        let splice = splice(0, delta, 0).with_ack_floor(Seq::new(floor));
        let client = |off: i32| floor.wrapping_add(delta).wrapping_add_signed(off);
        let block = (client(left), client(left).wrapping_add(len));
        let mut bytes = plain(0, client(off), 0, sack_option(&[block, (client(600), client(700))])).bytes();
        packet(&mut bytes, Csum::Full, |p| {
            let removed = splice.c2s(p);
            prop_assert_eq!(p.ack(), floor.wrapping_add(off.max(0) as u32));
            let right = left + len as i32;
            let mut want = vec![(600, 700)];
            let reneges = off < 0 && left <= 0;
            if right > 0 && !reneges {
                want.insert(0, (left.max(0), right));
            }
            prop_assert_eq!(i32::from(p.window()), (1000 + off.min(0)).max(0), "the right edge stays");
            let got: Vec<_> = p.options().sack().iter()
                .map(|(l, r)| (l.wrapping_sub(floor) as i32, r.wrapping_sub(floor) as i32)).collect();
            prop_assert_eq!(removed, Ok(got.len() < 2));
            prop_assert_eq!(got, want);
            Ok(())
        })?;
        prop_assert!(sound(&bytes, Csum::Full));
    }

    #[test]
    fn a_window_never_grows_by_rescaling(window: u16, from in 0..16u8, to in 0..16u8) {
        let new = Rescale { from, to }.apply(window);
        let (old, new) = (u64::from(window) << from.min(14), u64::from(new) << to.min(14));
        prop_assert!(new <= old);
        prop_assert!(old - new < 1 << to.min(14) || new >> to.min(14) == 0xffff);
    }

    #[test]
    fn an_echo_from_before_the_first_timestamp_becomes_it(first in at(2000), delta: u32, off in -500i32..500) {
        let clock = Clock { delta, first: Some(first) };
        let splice = Splice::new(Delta::ZERO, Delta::ZERO, clock);
        let tsecr = first.wrapping_add(delta).wrapping_add_signed(off);
        prop_assume!(tsecr != 0);
        let mut bytes = plain(0, 0, 0, ts_option(5, tsecr)).bytes();
        packet(&mut bytes, Csum::Full, |p| splice.c2s(p)).unwrap();
        let ts = packet(&mut bytes, Csum::Full, |p| p.options().ts);
        prop_assert_eq!(ts, Some((5, first.wrapping_add(off.max(0) as u32))));
    }
}

#[test]
fn the_identity_changes_nothing_not_even_a_signed_packet() {
    let mut bytes = plain(1, 2, 3, [&[19, 18][..], &[5; 16]].concat()).bytes();
    let before = bytes.clone();
    assert!(Splice::identity().is_identity());
    packet(&mut bytes, Csum::Full, |p| {
        Splice::identity().s2c(p)?;
        Splice::identity().c2s(p)
    })
    .unwrap();
    packet(&mut bytes, Csum::Full, |p| {
        assert_eq!(splice(1, 0, 0).s2c(p), Err(Refuse::Signed));
        assert_eq!(splice(0, 0, 1).c2s(p), Err(Refuse::Signed));
    });
    assert_eq!(bytes, before);
    for other in [splice(1, 0, 0), splice(0, 1, 0), splice(0, 0, 1)] {
        assert!(!other.is_identity());
    }
}

#[test]
fn numbers_that_mean_nothing_stay() {
    let splice = splice(10, 20, 30);
    let mut syn = plain(100, 0, 0, ts_option(7, 0));
    syn.flags = flags::SYN;
    let mut bytes = syn.bytes();
    packet(&mut bytes, Csum::Full, |p| {
        splice.c2s(p).unwrap();
        assert_eq!((p.seq(), p.ack(), p.options().ts), (90, 0, Some((7, 0))));
    });
}

#[test]
fn windows_of_syn_segments_are_never_scaled() {
    let mut splice =
        Splice::identity().with_windows(Rescale { from: 7, to: 0 }, Rescale { from: 7, to: 9 });
    let mut both = |flags: u8| {
        let mut spec = plain(1, 2, 0, vec![]);
        spec.flags = flags;
        let mut bytes = spec.bytes();
        packet(&mut bytes, Csum::Full, |p| {
            splice.s2c(p).unwrap();
            let s2c = p.window();
            p.set_window(3);
            splice.c2s(p).unwrap();
            (s2c, p.window())
        })
    };
    assert_eq!(both(flags::SYN | flags::ACK), (1000, 3));
    assert_eq!(both(flags::ACK), (250, 384));
}

/// A boundary and a floor at 1000 do not come to life again when the numbers wrap.
#[test]
fn what_is_long_past_is_forgotten() {
    let clock = Clock {
        delta: 0,
        first: Some(50),
    };
    let mut splice = Splice::new(Delta::ZERO, Delta::ZERO, clock).with_ack_floor(Seq::new(500));
    assert!(splice.move_boundary_s2c(Seq::new(1000), Delta::new(9)));
    let send = |splice: &mut Splice, seq: u32, flags: u8, tsval: u32| {
        let mut spec = plain(seq, 0, 1, ts_option(tsval, 0));
        spec.flags = flags;
        let mut bytes = spec.bytes();
        packet(&mut bytes, Csum::Full, |p| splice.s2c(p).map(|()| p.seq()))
    };
    let far = 3 << 29;
    // A reset repeats whatever number a stranger sent: it proves nothing.
    let reset = (far + 1500, far + 1509);
    assert_eq!(
        send(&mut splice, reset.0, flags::RST, far + 99),
        Ok(reset.1)
    );
    assert_eq!(send(&mut splice, 999, flags::ACK, 60), Ok(999));
    for step in 1..=16u32 {
        let far = step.wrapping_mul(1 << 28);
        let seq = far.wrapping_add(1000);
        assert_eq!(
            send(&mut splice, seq, flags::ACK, far),
            Ok(seq.wrapping_add(9))
        );
        let ack = Seq::new(seq.wrapping_add(9));
        assert_eq!(splice.ack_to_local(ack).raw(), seq);
        let echo = far.wrapping_add(50);
        let mut bytes = plain(0, 0, 0, ts_option(1, echo)).bytes();
        let ts = packet(&mut bytes, Csum::Full, |p| {
            splice.c2s(p).map(|_| p.options().ts)
        });
        assert_eq!(ts, Ok(Some((1, echo))));
    }
    assert_eq!(
        splice,
        Splice::new(Delta::ZERO, Delta::new(9), Clock::default())
    );
}

#[test]
fn an_acknowledged_boundary_becomes_a_floor() {
    let mut splice = splice(0, 100, 0);
    assert!(splice.move_boundary_s2c(Seq::new(1000), Delta::new(60)));
    splice.acknowledged(Seq::new(1059));
    assert!(!splice.move_boundary_s2c(Seq::new(2000), Delta::new(0)));
    splice.acknowledged(Seq::new(1060));
    assert_eq!(splice.ack_to_local(Seq::new(1055)).raw(), 1000);
    assert_eq!(splice.ack_to_local(Seq::new(1061)).raw(), 1001);
    assert!(splice.move_boundary_s2c(Seq::new(2000), Delta::new(0)));
}
