// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The log, where neither side tells the truth: records to a reader, the consumer count to the
//! kernel.

use holdfast_core::ring::{Kind, Producer, Record, ALIGN, HEADER};
use holdfast_fuzz::{noise, number, run};
use libholdfast::Ring;
use std::fs::File;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;
const SIZE: u64 = 4096;

/// A ring of garbage ends or is refused; what is read of it is never longer than it can be.
#[test]
fn records() {
    let path = std::env::temp_dir().join(format!("holdfast-fuzz-ring-{}", std::process::id()));
    run("ring records", |rng| {
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.set_len(2 * PAGE + SIZE).unwrap();
        let consumed = match rng.below(4) {
            0 => rng.bits(),
            _ => number(rng, 0) & !(ALIGN - 1),
        };
        let mut at = 0;
        while at < SIZE {
            let len = match rng.below(10) {
                0 => number(rng, 0) as u32,
                _ => (HEADER as u64 + ALIGN * rng.below(20)) as u32,
            };
            let record = Record {
                len,
                kind: rng.below(20) as u16,
                flags: rng.bits() as u16,
                data_len: number(rng, u64::from(len).saturating_sub(HEADER as u64)) as u32,
                lost: rng.bits(),
                ..Record::default()
            };
            let from = (consumed.wrapping_add(at)) % SIZE;
            let bytes = record.to_bytes();
            let room = bytes.len().min((SIZE - from) as usize);
            file.write_all_at(&bytes[..room], 2 * PAGE + from).unwrap();
            at += u64::from(len).clamp(ALIGN, SIZE);
        }
        let spots = rng.below(3);
        for _ in 0..spots {
            let at = 2 * PAGE + rng.below(SIZE - 8);
            file.write_all_at(&noise(rng, 8), at).unwrap();
        }
        file.write_all_at(&SIZE.to_ne_bytes(), PAGE + 8).unwrap();
        let produced = match rng.below(3) {
            0 => rng.bits(),
            _ => consumed.wrapping_add(rng.below(SIZE / ALIGN + 2) * ALIGN),
        };
        file.write_all_at(&produced.to_ne_bytes(), PAGE).unwrap();
        file.write_all_at(&consumed.to_ne_bytes(), 0).unwrap();

        let mut ring = Ring::open_path(&path).unwrap();
        // No more than the area has room for.
        for n in 0.. {
            assert!(n <= SIZE / ALIGN, "it goes round");
            match ring.next() {
                Ok(Some(e)) => {
                    assert_ne!(e.kind, Kind::Pad);
                    assert_eq!(e.data.len(), e.record.data_len as usize);
                }
                Ok(None) => break,
                Err(why) => {
                    assert_eq!(ring.next().unwrap_err(), why, "it stays so");
                    break;
                }
            }
        }
    });
    let _ = std::fs::remove_file(&path);
}

/// Whatever the reader says that it has read, nothing is written outside the area, and nothing
/// over what an honest count says is unread.
#[test]
fn consumer() {
    run("ring consumer", |rng| {
        let mut producer = Producer::new(SIZE);
        let mut honest = 0;
        for _ in 0..100 {
            let before = producer.head();
            let lies = rng.permille(300);
            let consumer = if lies { number(rng, before) } else { honest };
            let data = number(rng, 200) as usize;
            let data = if rng.permille(700) { data % 600 } else { data };
            let lost = producer.lost();
            let Some(slot) = producer.reserve(consumer, data) else {
                assert_eq!((producer.head(), producer.lost()), (before, lost + 1));
                honest = if rng.permille(500) { before } else { honest };
                continue;
            };
            let pad = slot.pad.map_or(0, |(offset, len)| {
                assert_eq!(offset as u64 + u64::from(len), SIZE);
                u64::from(len)
            });
            assert!(slot.offset as u64 + u64::from(slot.len) <= SIZE);
            assert!(u64::from(slot.len) >= HEADER as u64 + data as u64);
            assert_eq!(producer.head(), before + pad + u64::from(slot.len));
            assert!(consumer <= before && producer.head() - consumer <= SIZE);
            if lies {
                honest = before;
            }
        }
    });
}
