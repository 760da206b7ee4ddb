// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Runs a property on input that somebody spoiled, for as long as it is given.
//!
//! `HOLDFAST_SEED` is where the cases of a run begin (a fixed seed without it) and
//! `HOLDFAST_FUZZ_SECONDS` how long each target runs (a second without it). Each case follows
//! from its own seed, which a failure prints: `HOLDFAST_FUZZ_CASE` runs that one alone.

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

use holdfast_sim::rng::mix;
pub use holdfast_sim::rng::Rng;

/// Fewest cases of a run, however slow the machine is.
const CASES_MIN: u64 = 200;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Calls `property` with one generator after another until the time is over.
///
/// # Panics
///
/// Where the property does, after saying how to repeat it.
pub fn run(target: &str, mut property: impl FnMut(&mut Rng)) {
    let one = env("HOLDFAST_FUZZ_CASE");
    let time = Duration::from_secs(env("HOLDFAST_FUZZ_SECONDS").unwrap_or(1));
    let first = mix(env("HOLDFAST_SEED").unwrap_or(1_000_000));
    let began = Instant::now();
    let mut done = 0;
    while done < CASES_MIN || began.elapsed() < time {
        let seed = one.unwrap_or(first.wrapping_add(done));
        let case = || property(&mut Rng::new(mix(seed)));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(case)) {
            eprintln!("{target}: repeat it with HOLDFAST_FUZZ_CASE={seed}");
            resume_unwind(panic);
        }
        done += 1;
        if one.is_some() {
            break;
        }
    }
    println!("{target}: {done} cases");
}

/// One of `seeds`, or two of them joined, spoiled in up to eight places; now and then noise.
pub fn spoiled(rng: &mut Rng, seeds: &[&[u8]]) -> Vec<u8> {
    if rng.permille(30) {
        let len = rng.below(300);
        return noise(rng, len);
    }
    let mut bytes = rng.pick(seeds).to_vec();
    if rng.permille(200) {
        let other = rng.pick(seeds);
        let keep = rng.below(bytes.len() as u64 + 1) as usize;
        let from = rng.below(other.len() as u64 + 1) as usize;
        bytes.truncate(keep);
        bytes.extend_from_slice(&other[from..]);
    }
    for _ in 0..rng.below(9) {
        spoil(rng, &mut bytes);
    }
    bytes
}

/// Spoils `bytes` in one place.
pub fn spoil(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let len = bytes.len() as u64;
    let at = rng.below(len) as usize;
    match rng.below(9) {
        _ if bytes.is_empty() => bytes.push(rng.bits() as u8),
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.bits() as u8,
        // What lengths and counts are mistaken about.
        2 => bytes[at] = rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        3 => {
            let n = rng.pick(&[2, 4, 8]).min(bytes.len() - at);
            let fill = rng.pick(&[0, 0xff]);
            bytes[at..at + n].fill(fill);
        }
        4 => bytes.truncate(at),
        5 => {
            bytes.remove(at);
        }
        6 => bytes.insert(at, rng.bits() as u8),
        7 => {
            // A part of it once more, somewhere.
            let n = (rng.below(64) as usize + 1).min(bytes.len() - at);
            let part = bytes[at..at + n].to_vec();
            let to = rng.below(len + 1) as usize;
            bytes.splice(to..to, part);
        }
        _ => {
            let n = rng.below(40);
            let more = noise(rng, n);
            bytes.splice(at..at, more);
        }
    }
}

/// `len` random bytes.
pub fn noise(rng: &mut Rng, len: u64) -> Vec<u8> {
    (0..len).map(|_| rng.bits() as u8).collect()
}

/// A number that arithmetic may stumble over: near `around`, near a power of two, or any.
pub fn number(rng: &mut Rng, around: u64) -> u64 {
    let near = rng.below(5).wrapping_sub(2);
    match rng.below(8) {
        0..=2 => around.wrapping_add(rng.below(4000).wrapping_sub(2000)),
        3 | 4 => around.wrapping_add(near),
        5 => (1u64 << rng.below(64)).wrapping_add(near),
        6 => u64::MAX.wrapping_add(near),
        _ => rng.bits(),
    }
}
