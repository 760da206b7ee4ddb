// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The daemon's configuration.

use holdfast_fuzz::{run, spoiled};
use holdfastd::config::Config;

/// What is refused is refused with a sentence; what is taken keeps what `check` promises.
#[test]
fn config() {
    let example = include_bytes!("../../../holdfastd/holdfastd.toml");
    let words: &[u8] =
        b"[[service]]\naddress = \"::1/128\"\nport = 65535\nhold-ms = 10000\n[node]\n";
    run("config", |rng| {
        let text = spoiled(rng, &[example, words]);
        match Config::parse(&String::from_utf8_lossy(&text)) {
            Ok(c) => {
                assert!(!c.services.is_empty() && c.services.iter().all(|s| s.port != 0));
                assert!(c.heartbeat.interval_ms >= 5 && c.heartbeat.misses >= 1);
                // What the daemon computes of them.
                let _ = c.heartbeat.interval() * c.heartbeat.misses * 3;
            }
            Err(why) => assert!(!why.is_empty()),
        }
    });
}
