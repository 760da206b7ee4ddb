// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Ethernet frames that tell neighbours where an address lives, or ask them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{sendto, socket, AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType};

/// Sends the frame that `build` makes for the interface's link-layer address.
///
/// # Errors
///
/// No such interface, one without Ethernet address, or no permission (CAP_NET_RAW).
pub fn send(interface: &str, build: impl FnOnce([u8; 6]) -> Vec<u8>) -> io::Result<()> {
    let link = link_of(interface)?;
    let mac = link.addr().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    sendto(fd.as_raw_fd(), &build(mac), &link, MsgFlags::empty())?;
    Ok(())
}

fn link_of(interface: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|i| i.interface_name == interface)
        .find_map(|i| i.address?.as_link_addr().copied())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// An ARP request of `sender` for `target`: what old switches and hosts all understand, also
/// as an announcement, when both are the same (RFC 5227, section 3).
pub fn arp(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut f = Vec::with_capacity(42);
    f.extend([0xff; 6]);
    f.extend(mac);
    // Ethernet, IPv4, 6 and 4 bytes, request.
    f.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    f.extend(mac);
    f.extend(sender.octets());
    f.extend([0; 6]);
    f.extend(target.octets());
    f
}

/// An unsolicited neighbour advertisement to all nodes (RFC 4861, section 7.2.6).
pub fn advertisement(mac: [u8; 6], addr: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // Type 136, override flag, target, option 2: our link-layer address.
    let mut icmp = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    icmp.extend(addr.octets());
    icmp.extend([2, 1]);
    icmp.extend(mac);
    icmp6(mac, addr, all_nodes, icmp)
}

/// A question of nobody in particular for the owner of `target` (RFC 4861, section 4.3).
pub fn solicitation(mac: [u8; 6], target: Ipv6Addr) -> Vec<u8> {
    let last = target.segments();
    let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | last[6] & 0xff, last[7]);
    let mut icmp = vec![135, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend(target.octets());
    icmp6(mac, Ipv6Addr::UNSPECIFIED, solicited, icmp)
}

/// An ICMPv6 message without its checksum, to a multicast address, with hop limit 255.
fn icmp6(mac: [u8; 6], from: Ipv6Addr, to: Ipv6Addr, mut icmp: Vec<u8>) -> Vec<u8> {
    let mut pseudo = from.octets().to_vec();
    pseudo.extend(to.octets());
    pseudo.extend([0, 0, 0, icmp.len() as u8, 0, 0, 0, 58]);
    pseudo.extend(&icmp);
    let sum = pseudo
        .chunks(2)
        .fold(0u32, |s, w| s + u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut f = vec![0x33, 0x33];
    f.extend(&to.octets()[12..]);
    f.extend(mac);
    f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 255]);
    f.extend(from.octets());
    f.extend(to.octets());
    f.extend(icmp);
    f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_well_formed() {
        let mac = [2, 0, 0, 0, 0, 1];
        let addr = Ipv4Addr::new(192, 0, 2, 10);
        let f = arp(mac, addr, addr);
        assert_eq!(
            (f.len(), &f[28..32], &f[38..42]),
            (42, &f[38..42], &[192, 0, 2, 10][..])
        );
        let addr = "2001:db8::1".parse().unwrap();
        assert_eq!(advertisement(mac, addr).len(), 14 + 40 + 32);
        assert_eq!(solicitation(mac, addr).len(), 14 + 40 + 24);
        assert_eq!(solicitation(mac, addr)[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
        sums_up(&advertisement(mac, addr));
        sums_up(&solicitation(mac, addr));
    }

    /// The checksum over pseudo header and message is all ones.
    fn sums_up(f: &[u8]) {
        let mut all = f[22..54].to_vec();
        all.extend([0, 0, 0, f[19], 0, 0, 0, 58]);
        all.extend(&f[54..]);
        let sum = all
            .chunks(2)
            .fold(0u32, |s, w| s + u32::from(u16::from_be_bytes([w[0], w[1]])));
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
