// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Tells the neighbours where an address lives now: gratuitous ARP (RFC 5227, section 3) and
//! unsolicited neighbour advertisements (RFC 4861, section 7.2.6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{sendto, socket, AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType};

/// Announces `addr` once on `interface`.
///
/// # Errors
///
/// No such interface, one without Ethernet address, or no permission (CAP_NET_RAW).
pub fn announce(interface: &str, addr: IpAddr) -> io::Result<()> {
    let link = link_of(interface)?;
    let mac = link.addr().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let frame = match addr {
        IpAddr::V4(a) => arp(mac, a),
        IpAddr::V6(a) => advertisement(mac, a),
    };
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    sendto(fd.as_raw_fd(), &frame, &link, MsgFlags::empty())?;
    Ok(())
}

fn link_of(interface: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|i| i.interface_name == interface)
        .find_map(|i| i.address?.as_link_addr().copied())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn arp(mac: [u8; 6], addr: Ipv4Addr) -> Vec<u8> {
    let ip = addr.octets();
    let mut f = Vec::with_capacity(42);
    f.extend([0xff; 6]);
    f.extend(mac);
    // Ethernet, IPv4, 6 and 4 bytes, request: what old switches and hosts all understand.
    f.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    f.extend(mac);
    f.extend(ip);
    f.extend([0; 6]);
    f.extend(ip);
    f
}

fn advertisement(mac: [u8; 6], addr: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
    // Type 136, override flag, target, option 2: our link-layer address.
    let mut icmp = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    icmp.extend(addr.octets());
    icmp.extend([2, 1]);
    icmp.extend(mac);
    let mut pseudo = addr.octets().to_vec();
    pseudo.extend(all_nodes);
    pseudo.extend([0, 0, 0, icmp.len() as u8, 0, 0, 0, 58]);
    pseudo.extend(&icmp);
    let sum = pseudo
        .chunks(2)
        .fold(0u32, |s, w| s + u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut f = vec![0x33, 0x33, 0, 0, 0, 1];
    f.extend(mac);
    f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 255]);
    f.extend(addr.octets());
    f.extend(all_nodes);
    f.extend(icmp);
    f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_well_formed() {
        let mac = [2, 0, 0, 0, 0, 1];
        let f = arp(mac, Ipv4Addr::new(192, 0, 2, 10));
        assert_eq!(
            (f.len(), &f[28..32], &f[38..42]),
            (42, &f[38..42], &[192, 0, 2, 10][..])
        );
        let f = advertisement(mac, "2001:db8::1".parse().unwrap());
        assert_eq!(f.len(), 14 + 40 + 32);
        // The checksum over pseudo header and message is all ones.
        let mut all = f[22..54].to_vec();
        all.extend([0, 0, 0, 32, 0, 0, 0, 58]);
        all.extend(&f[54..]);
        let sum = all
            .chunks(2)
            .fold(0u32, |s, w| s + u32::from(u16::from_be_bytes([w[0], w[1]])));
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
