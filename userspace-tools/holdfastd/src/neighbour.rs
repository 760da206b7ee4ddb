// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Asks the segment of a service who has an address, past the kernel's neighbour table: ARP
//! probes (RFC 5227, section 2.1.1) and neighbour solicitations from the unspecified address
//! (RFC 4861, section 7.2.3), which no host takes anything from but answers.
//!
//! A proxy that answers for others (some clouds, EVPN with suppression) makes dead machines
//! look alive: `heartbeat.check = "none"` is for there.

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use crate::frame;

/// Address resolution, as a packet socket names it: in network byte order.
const ARP: u16 = 0x0806_u16.to_be();

/// How soon a listener notices that nobody hears it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks once on `interface` who has `addr`. Answers come to whoever [`listen`]s.
///
/// # Errors
///
/// No such interface, one without Ethernet address, or no permission (CAP_NET_RAW).
pub fn ask(interface: &str, addr: IpAddr) -> io::Result<()> {
    frame::send(interface, |mac| match addr {
        IpAddr::V4(a) => frame::arp(mac, Ipv4Addr::UNSPECIFIED, a),
        IpAddr::V6(a) => frame::solicitation(mac, a),
    })
}

/// Reports each sign that another machine has one of `addresses`, until nobody hears it.
///
/// # Errors
///
/// No permission (CAP_NET_RAW).
pub fn listen(addresses: &HashSet<IpAddr>, found: &mpsc::Sender<IpAddr>) -> io::Result<()> {
    let arp = Some(Protocol::from(i32::from(ARP)));
    let kinds = [
        (Domain::PACKET, arp, arp_sender as Parse),
        (Domain::IPV6, Some(Protocol::ICMPV6), advertised as Parse),
    ];
    for (domain, protocol, parse) in kinds {
        let socket = Socket::new(domain, Type::RAW, protocol)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let (addresses, found) = (addresses.clone(), found.clone());
        thread::spawn(move || hear(socket, parse, &addresses, &found));
    }
    Ok(())
}

fn hear(mut socket: Socket, parse: Parse, wanted: &HashSet<IpAddr>, found: &mpsc::Sender<IpAddr>) {
    let mut packet = [0; 256];
    while !found.is_closed() {
        let read = socket.read(&mut packet);
        let who = read.ok().and_then(|n| parse(packet.get(..n)?));
        if let Some((addr, mac)) = who.filter(|(addr, _)| wanted.contains(addr)) {
            if !is_ours(mac) && found.blocking_send(addr).is_err() {
                return;
            }
        }
    }
}

/// Who says in a packet that it has which address.
type Parse = fn(&[u8]) -> Option<(IpAddr, [u8; 6])>;

fn arp_sender(frame: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    // Ethernet, IPv4, 6 and 4 bytes; request or reply, the sender names itself.
    let arp = frame.get(14..42)?;
    let ip: [u8; 4] = arp[14..18].try_into().ok()?;
    (arp[..6] == [0, 1, 8, 0, 6, 4]).then_some((ip.into(), arp[8..14].try_into().ok()?))
}

fn advertised(icmp: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    // Type 136 and, in its first option, the target's link-layer address.
    let ip: [u8; 16] = icmp.get(8..24)?.try_into().ok()?;
    let option = icmp.get(24..32)?;
    (icmp[0] == 136 && option[..2] == [2, 1])
        .then_some((Ipv6Addr::from(ip).into(), option[2..].try_into().ok()?))
}

fn is_ours(mac: [u8; 6]) -> bool {
    let Ok(mut all) = getifaddrs() else {
        return false;
    };
    all.any(|i| i.address.and_then(|a| a.as_link_addr()?.addr()) == Some(mac))
}

/// The router of the default route of IPv4 and its interface, if there is one
/// (`/proc/net/route`: numbers in hexadecimal, the address as the machine has it in memory).
pub fn default_gateway() -> Option<(String, IpAddr)> {
    let table = std::fs::read_to_string("/proc/net/route").ok()?;
    table.lines().skip(1).find_map(|line| {
        let mut field = line.split_whitespace();
        let (interface, to, via) = (field.next()?, field.next()?, field.next()?);
        let via = u32::from_str_radix(via, 16).ok().filter(|v| *v != 0)?;
        let via = Ipv4Addr::from(via.to_ne_bytes());
        (to == "00000000").then(|| (interface.to_owned(), via.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    #[test]
    fn who_speaks_is_found_in_arp() {
        let addr = Ipv4Addr::new(192, 0, 2, 10);
        let frame = frame::arp(MAC, addr, addr);
        assert_eq!(arp_sender(&frame), Some((addr.into(), MAC)));
        for n in 0..frame.len() {
            assert_eq!(arp_sender(&frame[..n]), None, "cut to {n} bytes");
        }
    }

    #[test]
    fn who_speaks_is_found_in_advertisements() {
        let addr: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let frame = frame::advertisement(MAC, addr);
        assert_eq!(advertised(&frame[54..]), Some((addr.into(), MAC)));
        for n in 54..frame.len() {
            assert_eq!(advertised(&frame[54..n]), None, "cut to {n} bytes");
        }
        let question = frame::solicitation(MAC, addr);
        assert_eq!(advertised(&question[54..]), None);
    }
}
