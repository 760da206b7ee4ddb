// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Carries out the moves of addresses: those of one address one after the other, and again until
//! they succeed or another one is ordered. An address that should have gone but stays would
//! draw clients to a node that has let go of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::Hooks;
use crate::takeover::{self, Address};

/// An address was moved, to this node if `true`, or could not be.
pub type Moved = (IpAddr, bool, Result<(), String>);

/// After what time a move that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// When announcements are repeated, in milliseconds after the one before.
const AGAIN: [u64; 4] = [50, 200, 1000, 3000];

struct Order {
    address: Address,
    hooks: Hooks,
    ours: bool,
}

/// Moves addresses, each in a task of its own.
pub struct Mover {
    orders: HashMap<IpAddr, mpsc::UnboundedSender<Order>>,
    done: mpsc::Sender<Moved>,
}

impl Mover {
    /// Each move, or its first failure, is reported once to the receiver.
    pub fn new() -> (Self, mpsc::Receiver<Moved>) {
        let (done, moved) = mpsc::channel(64);
        let orders = HashMap::new();
        (Mover { orders, done }, moved)
    }

    /// Moves `address` to this node, or away from it. Does not wait.
    pub fn order(&mut self, address: Address, hooks: Hooks, ours: bool) {
        let done = &self.done;
        let worker = self.orders.entry(address.prefix.addr).or_insert_with(|| {
            let (tx, rx) = mpsc::unbounded_channel();
            tokio::spawn(work(rx, done.clone()));
            tx
        });
        // The worker lives as long as we do.
        let _ = worker.send(Order {
            address,
            hooks,
            ours,
        });
    }
}

async fn work(mut orders: mpsc::UnboundedReceiver<Order>, done: mpsc::Sender<Moved>) {
    let mut waiting = orders.recv().await;
    while let Some(order) = waiting.take() {
        let Order {
            address,
            hooks,
            ours,
        } = &order;
        let mut result = carry_out(address, hooks, *ours).await;
        let moved = (address.prefix.addr, *ours, result.clone());
        if done.send(moved).await.is_err() {
            return;
        }
        let mut announcements = AGAIN.iter().filter(|_| *ours && hooks.up.is_none());
        // Until the next order comes.
        waiting = loop {
            let pause = match (&result, announcements.next()) {
                (Err(_), _) => RETRY,
                (Ok(()), Some(ms)) => Duration::from_millis(*ms),
                (Ok(()), None) => break orders.recv().await,
            };
            if let Ok(next) = timeout(pause, orders.recv()).await {
                break next;
            }
            match result {
                Err(_) => result = carry_out(address, hooks, *ours).await,
                Ok(()) => {
                    // The first one has arrived most often.
                    let _ = takeover::announce(address);
                }
            }
        };
    }
}

async fn carry_out(address: &Address, hooks: &Hooks, ours: bool) -> Result<(), String> {
    match ours {
        true => takeover::up(address, hooks).await,
        false => takeover::down(address, hooks).await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn address() -> Address {
        Address {
            prefix: "192.0.2.10/24".parse().unwrap(),
            interface: "none".into(),
        }
    }

    /// A file that is not there yet.
    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("holdfast-mover-{name}-{}", std::process::id()))
    }

    fn hook(script: &str) -> Option<Vec<String>> {
        Some(["sh", "-c", script].map(str::to_owned).into())
    }

    #[tokio::test]
    async fn moves_of_an_address_keep_their_order() {
        let log = file("order");
        let hooks = Hooks {
            // The first is slower than the second.
            up: hook(&format!("sleep 0.2; echo up >>{}", log.display())),
            down: hook(&format!("echo down >>{}", log.display())),
        };
        let (mut mover, mut moved) = Mover::new();
        mover.order(address(), hooks.clone(), true);
        mover.order(address(), hooks, false);
        let addr = address().prefix.addr;
        assert_eq!(moved.recv().await, Some((addr, true, Ok(()))));
        assert_eq!(moved.recv().await, Some((addr, false, Ok(()))));
        assert_eq!(fs::read_to_string(&log).unwrap(), "up\ndown\n");
        fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn a_move_that_failed_is_tried_again() {
        let mark = file("again");
        let twice = format!(
            "test -e {0} && echo >>{0}; touch {0}; test -s {0}",
            mark.display()
        );
        let hooks = Hooks {
            up: None,
            down: hook(&twice),
        };
        let (mut mover, mut moved) = Mover::new();
        mover.order(address(), hooks, false);
        let (_, ours, first) = moved.recv().await.unwrap();
        assert!(!ours && first.is_err(), "{first:?}");
        while fs::read(&mark).unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fs::remove_file(mark).unwrap();
    }
}
