// SPDX-License-Identifier: GPL-2.0

//! Which packets belong to a socket of this machine.
//!
//! Known are connections, TIME_WAIT and half-open requests ([`established`]). A listener is
//! another matter: it answers everything, but accepts an acknowledgement of
//! nothing only if that carries a valid SYN cookie ([`cookie_mss`]).

use super::{bindings, errno::ECONNABORTED, pernet::Net, skbuff::Skb};
use core::{
    net::{IpAddr, SocketAddr},
    ptr::NonNull,
};
use kernel::{error::to_result, prelude::*, sync::rcu};

/// A TCP socket, of any kind: full, TIME_WAIT (`inet_timewait_sock`) or request
/// (`request_sock`).
///
/// # Invariants
///
/// The pointer is valid while the value, or the reference to it, is.
pub(crate) struct Sock(NonNull<bindings::sock>);

impl Sock {
    /// `TCP_ESTABLISHED` and so on, as in `/proc/net/tcp`; 6 is TIME_WAIT, 12 a request.
    pub(crate) fn state(&self) -> u8 {
        // SAFETY: By the type invariant; the state is common to all kinds.
        unsafe { bindings::hf_inet_sk_state_load(self.0.as_ptr()) as u8 }
    }
}

/// A counted reference to a socket.
///
/// # Invariants
///
/// One count of the socket is ours.
pub(crate) struct SockRef(Sock);

// SAFETY: Sockets are counted atomically, and what `Sock` reads may be read anywhere.
unsafe impl Send for SockRef {}
// SAFETY: As above.
unsafe impl Sync for SockRef {}

impl SockRef {
    /// Ends the connection as `ss -K` does: the application sees `ECONNABORTED`, and the peer
    /// **would** see a reset: it goes out through LOCAL_OUT and POST_ROUTING before this returns,
    /// where a hook of ours may swallow it. May sleep (takes the socket lock).
    ///
    /// # Errors
    ///
    /// `ENOENT` if it was closed already.
    pub(crate) fn abort(&self) -> Result {
        // SAFETY: By the type invariant. `tcp_abort()` does with each kind of socket what it
        // takes, and the reference is still ours afterwards.
        to_result(unsafe { bindings::tcp_abort(self.0 .0.as_ptr(), ECONNABORTED as i32) })
    }
}

impl core::ops::Deref for SockRef {
    type Target = Sock;

    fn deref(&self) -> &Sock {
        &self.0
    }
}

impl Drop for SockRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; this is right for all kinds of sockets.
        unsafe { bindings::sock_gen_put(self.0 .0.as_ptr()) };
    }
}

/// The socket of a connection: established, closing, TIME_WAIT, or half open.
///
/// `ifindex` is the device on which its packets come in (sockets may be bound to one). Any
/// context. `None` too if the addresses are not of one family.
pub(crate) fn established(
    net: &Net,
    remote: SocketAddr,
    local: SocketAddr,
    ifindex: u32,
) -> Option<SockRef> {
    let (sport, hnum, dif) = (remote.port().to_be(), local.port(), ifindex as i32);
    let _guard = rcu::read_lock();
    let sk = match (remote.ip(), local.ip()) {
        (IpAddr::V4(saddr), IpAddr::V4(daddr)) => {
            let (saddr, daddr) = (be32(saddr), be32(daddr));
            // SAFETY: Under RCU, in a valid namespace.
            unsafe {
                bindings::__inet_lookup_established(net.as_ptr(), saddr, sport, daddr, hnum, dif, 0)
            }
        }
        (IpAddr::V6(saddr), IpAddr::V6(daddr)) => {
            let (saddr, daddr) = (in6(saddr), in6(daddr));
            // SAFETY: Under RCU, in a valid namespace; the addresses live for the call.
            unsafe {
                bindings::__inet6_lookup_established(
                    net.as_ptr(),
                    &saddr,
                    sport,
                    &daddr,
                    hnum,
                    dif,
                    0,
                )
            }
        }
        _ => return None,
    };
    // INVARIANT: The lookup has taken a count for us.
    NonNull::new(sk).map(|sk| SockRef(Sock(sk)))
}

/// Gives a packet from `remote` that was just received to the socket that listens at `listener`,
/// whatever its destination says, in the manner of TPROXY: what it opens is a connection of the
/// packet's own addresses and ports, which later packets find by themselves. To be called before
/// routing. Any context.
///
/// Says whether there is such a socket. `false` too if the addresses are not of one family.
pub(crate) fn give_to(
    skb: &mut Skb<'_>,
    net: &Net,
    remote: SocketAddr,
    listener: SocketAddr,
    ifindex: u32,
) -> bool {
    let (sport, hnum, dif) = (remote.port().to_be(), listener.port(), ifindex as i32);
    let none = core::ptr::null_mut();
    let _guard = rcu::read_lock();
    let sk = match (remote.ip(), listener.ip()) {
        (IpAddr::V4(saddr), IpAddr::V4(daddr)) => {
            let (saddr, daddr) = (be32(saddr), be32(daddr));
            // SAFETY: Under RCU, in a valid namespace. A packet is asked for only to choose among
            // several sockets of one port, and need not be there.
            unsafe {
                bindings::__inet_lookup_listener(
                    net.as_ptr(),
                    none,
                    0,
                    saddr,
                    sport,
                    daddr,
                    hnum,
                    dif,
                    0,
                )
            }
        }
        (IpAddr::V6(saddr), IpAddr::V6(daddr)) => {
            let (saddr, daddr) = (in6(saddr), in6(daddr));
            // SAFETY: As above; the addresses live for the call.
            unsafe {
                bindings::inet6_lookup_listener(
                    net.as_ptr(),
                    none,
                    0,
                    &saddr,
                    sport,
                    &daddr,
                    hnum,
                    dif,
                    0,
                )
            }
        }
        _ => return false,
    };
    // SAFETY: The packet is ours to change. A listener stays until the end of the RCU section, and
    // the packet takes a count of it, unless it is going.
    !sk.is_null() && unsafe { bindings::hf_skb_set_owner_edemux(skb.as_ptr(), sk) }
}

/// The MSS in the SYN cookie that this acknowledgement echoes, if it echoes one that this machine
/// could have made in the last two minutes. Any context.
///
/// `ip` and `tcp` begin with the headers, in local space (the listener's sequence numbers). The
/// kernel asks this only while cookies are in use; a guess succeeds once in some millions.
///
/// # Errors
///
/// `EINVAL` if the headers are not there.
pub(crate) fn cookie_mss(ip: &[u8], tcp: &[u8]) -> Result<Option<u16>> {
    let tcp = Aligned::<20>::new(tcp)?;
    let mss = match ip.first().map(|byte| byte >> 4) {
        Some(4) => {
            let ip = Aligned::<20>::new(ip)?;
            // SAFETY: Both headers are complete and aligned.
            unsafe { bindings::__cookie_v4_check(ip.0.as_ptr().cast(), tcp.0.as_ptr().cast()) }
        }
        Some(6) => {
            let ip = Aligned::<40>::new(ip)?;
            // SAFETY: Both headers are complete and aligned.
            unsafe { bindings::__cookie_v6_check(ip.0.as_ptr().cast(), tcp.0.as_ptr().cast()) }
        }
        _ => return Err(EINVAL),
    };
    Ok((mss != 0).then_some(mss as u16))
}

/// A header, aligned as C expects it.
#[repr(align(8))]
struct Aligned<const N: usize>([u8; N]);

impl<const N: usize> Aligned<N> {
    fn new(bytes: &[u8]) -> Result<Self> {
        let header = bytes.get(..N).ok_or(EINVAL)?;
        Ok(Self(header.try_into().map_err(|_| EINVAL)?))
    }
}

/// An address as C has it.
pub(super) fn be32(addr: core::net::Ipv4Addr) -> u32 {
    u32::from_ne_bytes(addr.octets())
}

/// An address as C has it.
pub(super) fn in6(addr: core::net::Ipv6Addr) -> bindings::in6_addr {
    bindings::in6_addr {
        in6_u: bindings::in6_addr__bindgen_ty_1 {
            u6_addr8: addr.octets(),
        },
    }
}
