// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The ring against a kernel in memory.

#![allow(unsafe_code)]

use super::*;
use holdfast_core::ring::Producer;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

const SIZE: u64 = 4096;

/// The kernel's side, in memory.
struct Kernel {
    file: File,
    producer: Producer,
    time: u64,
}

impl Kernel {
    fn new() -> Self {
        // SAFETY: The name is a C string; the descriptor is new and has no other owner.
        let file = unsafe {
            let fd = libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0);
            File::from_raw_fd(fd)
        };
        let page = page_size() as u64;
        file.set_len(2 * page + SIZE.max(page)).unwrap();
        let kernel = Kernel {
            file,
            producer: Producer::new(SIZE),
            time: 0,
        };
        kernel.put(page + 8, &SIZE.to_ne_bytes());
        kernel
    }

    fn open(&self) -> Ring {
        Ring::map(self.file.try_clone().unwrap()).unwrap()
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).unwrap();
    }

    fn put_data(&self, offset: usize, bytes: &[u8]) {
        self.put(2 * page_size() as u64 + offset as u64, bytes);
    }

    fn publish(&self, head: u64) {
        self.put(page_size() as u64, &head.to_ne_bytes());
    }

    fn consumed(&self) -> u64 {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, 0).unwrap();
        u64::from_ne_bytes(word)
    }

    /// Writes a record as `rust/log.rs` does; whether there was room.
    fn write(&mut self, kind: Kind, data: &[u8]) -> bool {
        let Some(slot) = self.producer.reserve(self.consumed(), data.len()) else {
            return false;
        };
        if let Some((offset, len)) = slot.pad {
            let pad = Record {
                len,
                kind: Kind::Pad as u16,
                ..Record::default()
            };
            self.put_data(offset, &pad.to_bytes()[..8]);
        }
        self.time += 1;
        let record = Record {
            len: slot.len,
            kind: kind as u16,
            time: self.time,
            lost: self.producer.lost(),
            data_len: data.len() as u32,
            ..Record::default()
        };
        self.put_data(slot.offset, &record.to_bytes());
        self.put_data(slot.offset + HEADER, data);
        self.publish(self.producer.head());
        true
    }
}

#[test]
fn an_empty_ring_has_nothing() {
    let mut ring = Kernel::new().open();
    assert_eq!((ring.size(), ring.lost()), (SIZE, 0));
    assert!(ring.next().unwrap().is_none());
}

#[test]
fn records_are_read_in_order_across_many_wraps() {
    let mut kernel = Kernel::new();
    let mut ring = kernel.open();
    let (mut written, mut read, mut lost) = (0usize, 0usize, 0);
    let bytes = |i: usize| vec![i as u8; (i * 37) % 700];
    while read < 2000 {
        if kernel.write(Kind::S2c, &bytes(written)) {
            written += 1;
            continue;
        }
        lost += 1;
        while let Some(entry) = ring.next().unwrap() {
            assert_eq!(entry.kind, Kind::S2c);
            assert_eq!(entry.record.time, read as u64 + 1);
            assert_eq!(entry.data, bytes(read));
            read += 1;
        }
        assert_eq!(read, written);
        assert_eq!(
            kernel.consumed(),
            kernel.producer.head(),
            "all room was given back"
        );
    }
    assert_eq!(
        ring.lost(),
        lost - 1,
        "the newest record knows of all but the last loss"
    );
}

#[test]
fn room_is_given_back_while_reading() {
    let mut kernel = Kernel::new();
    let mut ring = kernel.open();
    while kernel.write(Kind::C2s, &[7; 100]) {}
    for _ in 0..10 {
        ring.next().unwrap().unwrap();
    }
    assert!(kernel.consumed() > 0);
    assert!(kernel.write(Kind::C2s, &[7; 100]));
}

#[test]
fn a_second_reader_goes_on_where_the_first_stopped() {
    let mut kernel = Kernel::new();
    kernel.write(Kind::Object, b"");
    let mut ring = kernel.open();
    ring.next().unwrap().unwrap();
    assert!(ring.next().unwrap().is_none());
    drop(ring);
    assert!(kernel.open().next().unwrap().is_none());
}

/// What comes of one record with these fields changed.
fn spoiled(change: impl FnOnce(&mut Record)) -> Result<bool, &'static str> {
    let mut kernel = Kernel::new();
    kernel.write(Kind::C2s, &[1; 16]);
    let mut record = Record {
        len: HEADER as u32 + 16,
        kind: Kind::C2s as u16,
        data_len: 16,
        ..Record::default()
    };
    change(&mut record);
    kernel.put_data(0, &record.to_bytes());
    let result = kernel.open().next().map(|e| e.is_some()).map_err(|e| e.why);
    result
}

#[test]
fn impossible_records_are_errors() {
    assert_eq!(spoiled(|_| ()), Ok(true));
    for len in [0, 4, 12, HEADER as u32 + 24, 4096, 8192, u32::MAX - 7] {
        assert!(spoiled(|r| r.len = len).is_err(), "{len}");
    }
    assert!(
        spoiled(|r| r.len = HEADER as u32).is_err(),
        "shorter than its data"
    );
    assert!(spoiled(|r| r.data_len = 17).is_err());
    assert!(spoiled(|r| r.data_len = u32::MAX).is_err());
    assert!(spoiled(|r| r.kind = 999).is_err());
}

#[test]
fn impossible_counts_are_errors() {
    for head in [3, SIZE + 8, u64::MAX, 1 << 40] {
        let kernel = Kernel::new();
        kernel.publish(head);
        let mut ring = kernel.open();
        assert!(ring.next().is_err(), "{head}");
        assert!(ring.next().is_err(), "it stays so");
    }
}

#[test]
fn an_impossible_size_is_an_error() {
    for size in [0, 100, 4097, u64::MAX] {
        let kernel = Kernel::new();
        kernel.put(page_size() as u64 + 8, &size.to_ne_bytes());
        assert!(matches!(Ring::map(kernel.file), Err(Error::Malformed(_))));
    }
}
