// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Moves the address of a service to this node and away from it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::config::{Hooks, Prefix, Service};
use crate::frame;

/// Longest run of a program.
const PATIENCE: Duration = Duration::from_secs(10);

/// An address and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub prefix: Prefix,
    pub interface: String,
}

impl Address {
    /// Of a service.
    pub fn of(service: &Service) -> Self {
        Address {
            prefix: service.address,
            interface: service.interface.clone(),
        }
    }
}

/// Makes `address` ours and says so to the neighbours.
///
/// # Errors
///
/// A sentence for a person.
pub async fn up(address: &Address, hooks: &Hooks) -> Result<(), String> {
    if let Some(hook) = &hooks.up {
        return run_hook(hook, address).await;
    }
    let prefix = address.prefix.to_string();
    let mut args = vec!["address", "replace", &prefix, "dev", &address.interface];
    if address.prefix.addr.is_ipv6() {
        // Duplicate detection takes a second, and finds the dead node's last words.
        args.push("nodad");
    }
    run("ip", &args).await?;
    announce(address).map_err(|e| format!("announce {}: {e}", address.prefix.addr))
}

/// Tells the neighbours that `address` lives here now.
///
/// # Errors
///
/// The frame could not be sent.
pub fn announce(address: &Address) -> io::Result<()> {
    frame::send(&address.interface, |mac| match address.prefix.addr {
        IpAddr::V4(a) => frame::arp(mac, a, a),
        IpAddr::V6(a) => frame::advertisement(mac, a),
    })
}

/// Gives `address` up. It may have gone already.
///
/// # Errors
///
/// A sentence for a person.
pub async fn down(address: &Address, hooks: &Hooks) -> Result<(), String> {
    if let Some(hook) = &hooks.down {
        return run_hook(hook, address).await;
    }
    if !has(address) {
        return Ok(());
    }
    let prefix = address.prefix.to_string();
    run(
        "ip",
        &["address", "del", &prefix, "dev", &address.interface],
    )
    .await
}

/// Whether this node has `address`.
pub fn has(address: &Address) -> bool {
    let Ok(mut all) = nix::ifaddrs::getifaddrs() else {
        return false;
    };
    all.any(|i| {
        let Some(a) = i.address else { return false };
        let v4 = a.as_sockaddr_in().map(|s| IpAddr::V4(s.ip()));
        let v6 = a.as_sockaddr_in6().map(|s| IpAddr::V6(s.ip()));
        i.interface_name == address.interface && v4.or(v6) == Some(address.prefix.addr)
    })
}

async fn run_hook(hook: &[String], address: &Address) -> Result<(), String> {
    let Some((program, args)) = hook.split_first() else {
        return Ok(());
    };
    let mut command = Command::new(program);
    command
        .args(args)
        .env("HOLDFAST_ADDRESS", address.prefix.addr.to_string())
        .env("HOLDFAST_PREFIX", address.prefix.to_string())
        .env("HOLDFAST_INTERFACE", &address.interface);
    wait(program, command).await
}

async fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(args);
    wait(program, command).await
}

async fn wait(program: &str, mut command: Command) -> Result<(), String> {
    command.kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Err(_) => Err(format!(
            "{program}: took longer than {} s",
            PATIENCE.as_secs()
        )),
        Ok(Err(e)) => Err(format!("{program}: {e}")),
        Ok(Ok(out)) if !out.status.success() => {
            let said = String::from_utf8_lossy(&out.stderr);
            Err(format!("{program}: {}: {}", out.status, said.trim()))
        }
        Ok(Ok(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_and_goes() {
        crate::testing::in_own_namespace(come_and_go);
    }

    async fn come_and_go() {
        let veth = ["link", "add", "hf0", "type", "veth", "peer", "name", "hf1"];
        run("ip", &veth).await.unwrap();
        for end in ["hf0", "hf1"] {
            run("ip", &["link", "set", end, "up"]).await.unwrap();
        }
        for prefix in ["192.0.2.10/24", "2001:db8::10/64"] {
            let address = Address {
                prefix: prefix.parse().unwrap(),
                interface: "hf0".into(),
            };
            let hooks = Hooks::default();
            assert!(!has(&address));
            up(&address, &hooks).await.unwrap();
            up(&address, &hooks).await.unwrap();
            assert!(has(&address));
            down(&address, &hooks).await.unwrap();
            assert!(!has(&address));
        }
    }
}
