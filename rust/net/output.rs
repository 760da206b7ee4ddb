// SPDX-License-Identifier: GPL-2.0

//! Packets that we make: out to a client past netfilter, or into the local stack as if received.

use super::{
    bindings,
    errno::{errno, ENETUNREACH, ENOBUFS, EOPNOTSUPP},
    lookup::{be32, in6},
    pernet::Net,
    skbuff::{SkBuff, ETH_P_IP, IPPROTO_TCP},
};
use core::{net::IpAddr, ptr::NonNull};
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::rcu,
};

/// Room for the longest link-layer header that we ask for ourselves.
const ETH_HLEN: usize = bindings::ETH_HLEN as usize;

/// A way out of this machine, to be used soon.
///
/// # Invariants
///
/// One count of the `dst_entry` is ours. It is a `rtable` if `to` is IPv4, else a
/// `rt6_info`.
pub(crate) struct Route {
    dst: NonNull<bindings::dst_entry>,
    to: IpAddr,
}

// SAFETY: Routes are counted atomically and bound to no thread.
unsafe impl Send for Route {}

impl Route {
    /// The way from `from` (which this machine need not own) to `to` for TCP, under the policy
    /// rules that `mark` selects. Any context.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the families differ; `ENETUNREACH`, `EHOSTUNREACH` and the like; `EOPNOTSUPP`
    /// if IPsec wants the packets: they must not go out past it.
    pub(crate) fn lookup(net: &Net, from: IpAddr, to: IpAddr, mark: u32) -> Result<Self> {
        let common = bindings::flowi_common {
            flowic_iif: bindings::LOOPBACK_IFINDEX as i32,
            flowic_mark: mark,
            flowic_proto: IPPROTO_TCP,
            flowic_flags: bindings::FLOWI_FLAG_ANYSRC as u8,
            ..Default::default()
        };
        let dst = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut flow = bindings::flowi4 {
                    __fl_common: common,
                    saddr: be32(from),
                    daddr: be32(to),
                    ..Default::default()
                };
                // SAFETY: Valid namespace and flow; no socket.
                let rt = from_err_ptr(unsafe {
                    bindings::ip_route_output_flow(net.as_ptr(), &mut flow, core::ptr::null())
                })?;
                // SAFETY: The route is valid, as it is no error.
                unsafe { bindings::hf_rt_dst(rt) }
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut flow = bindings::flowi6 {
                    __fl_common: common,
                    saddr: in6(from),
                    daddr: in6(to),
                    ..Default::default()
                };
                // SAFETY: Valid namespace and flow; no socket.
                unsafe {
                    bindings::ip6_route_output_flags(net.as_ptr(), core::ptr::null(), &mut flow, 0)
                }
            }
            _ => return Err(EINVAL),
        };
        // INVARIANT: The lookup has taken a count for us, of a route of that family.
        let route = Self {
            dst: NonNull::new(dst).ok_or_else(|| errno(ENETUNREACH))?,
            to,
        };
        // SAFETY: By the type invariant. IPv6 tells errors so.
        to_result(unsafe { bindings::hf_dst_error(dst) })?;
        // SAFETY: By the type invariant.
        if unsafe { bindings::hf_dst_is_xfrm(dst) } {
            return Err(errno(EOPNOTSUPP));
        }
        Ok(route)
    }

    /// The device, which may go (`dst_dev_put()` gives the route the blackhole device then), but
    /// not before the end of the RCU section.
    fn dev(&self, _guard: &rcu::Guard) -> *mut bindings::net_device {
        // SAFETY: By the type invariant; a route has a device as long as it is counted.
        unsafe { bindings::hf_dst_dev(self.dst.as_ptr()) }
    }

    /// Index of the device that leads there, which is where packets from there come in if
    /// routing is symmetric.
    pub(crate) fn ifindex(&self) -> u32 {
        let guard = rcu::read_lock();
        // SAFETY: The device is valid until the guard is dropped.
        unsafe { bindings::hf_dev_ifindex(self.dev(&guard)) as u32 }
    }

    /// The longest packet that goes there, in bytes of IP.
    pub(crate) fn mtu(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_dst_mtu(self.dst.as_ptr()) as usize }
    }

    /// Sends a finished packet this way, past netfilter: it meets no hook, no conntrack, no
    /// filter of this machine, though its qdiscs and taps. Softirq or process context.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` if it is longer than the MTU; what the neighbour or the device says else. The
    /// packet is freed in any case.
    pub(crate) fn send(&self, skb: SkBuff) -> Result {
        if skb.len() > self.mtu() {
            return Err(EMSGSIZE);
        }
        let dst = self.dst.as_ptr();
        let skb = skb.into_raw();
        let guard = rcu::read_lock();
        // SAFETY: The packet is ours until `neigh_xmit()` takes it, and gets a reference of its
        // own to the route; some devices look there. `dst` is of the family of `to` by the type
        // invariant. Keys are valid for the call: `neigh_xmit()` copies them.
        let err = unsafe {
            bindings::hf_dst_hold(dst);
            bindings::hf_skb_dst_set(skb, dst);
            bindings::hf_skb_set_dev(skb, self.dev(&guard));
            match self.to {
                IpAddr::V4(_)
                    if u32::from(bindings::hf_rt_gw_family(dst)) == bindings::AF_INET6 =>
                {
                    let gateway = bindings::hf_rt_gw6(dst);
                    self.xmit(bindings::NEIGH_ND_TABLE, gateway.cast(), skb, &guard)
                }
                IpAddr::V4(to) => {
                    let key = bindings::hf_rt_nexthop(dst, be32(to));
                    self.xmit(
                        bindings::NEIGH_ARP_TABLE,
                        core::ptr::from_ref(&key).cast(),
                        skb,
                        &guard,
                    )
                }
                IpAddr::V6(to) => {
                    let to = in6(to);
                    let key = bindings::hf_rt6_nexthop(dst, &to);
                    self.xmit(bindings::NEIGH_ND_TABLE, key.cast(), skb, &guard)
                }
            }
        };
        // Positive values are congestion notifications (`NET_XMIT_CN`), not losses of ours.
        if err < 0 {
            Err(Error::from_errno(err))
        } else {
            Ok(())
        }
    }

    /// # Safety
    ///
    /// `key` must be valid and as the table has them; `skb` must be the caller's to give.
    unsafe fn xmit(
        &self,
        table: u32,
        key: *const core::ffi::c_void,
        skb: *mut bindings::sk_buff,
        guard: &rcu::Guard,
    ) -> i32 {
        // SAFETY: By the requirements of this function.
        unsafe { bindings::neigh_xmit(table as i32, self.dev(guard), key, skb) }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::dst_release(self.dst.as_ptr()) };
    }
}

/// Source and destination of an IP packet.
///
/// # Errors
///
/// `EINVAL` if there is no header.
fn addresses(skb: &mut SkBuff) -> Result<(IpAddr, IpAddr)> {
    // PANIC: The ranges are as long as the arrays that they become.
    if skb.protocol() == ETH_P_IP {
        let header = skb.header(20)?;
        let at = |from: usize| <[u8; 4]>::try_from(&header[from..from + 4]).unwrap();
        Ok((at(12).into(), at(16).into()))
    } else {
        let header = skb.header(40)?;
        let at = |from: usize| <[u8; 16]>::try_from(&header[from..from + 16]).unwrap();
        Ok((at(8).into(), at(24).into()))
    }
}

/// Sends a packet that we have built, with all its checksums, to where its header says, past
/// netfilter. Softirq or process context.
///
/// # Errors
///
/// Those of [`Route::lookup`] and [`Route::send`]. The packet is freed in any case.
pub(crate) fn send(net: &Net, mut skb: SkBuff, mark: u32) -> Result {
    let (from, to) = addresses(&mut skb)?;
    skb.set_mark(mark);
    Route::lookup(net, from, to, mark)?.send(skb)
}

/// Gives a packet that we have built to the local stack, as if the device `ifindex` had received
/// it. It is queued, and meets taps, netfilter and routing as any other packet, soon, in softirq.
/// Softirq or process context.
///
/// `mark` tells it from others in our own hooks. Its TCP checksum is not looked at, its IPv4
/// header's is. `rp_filter` is content if the route to the source leads out by that device. A
/// source address of this machine would be dropped as martian: so on the loopback device the
/// packet brings its route along, as looped packets do, and IP input routes it no more.
///
/// # Errors
///
/// `ENODEV` if there is no such device, `ENOBUFS` if its queue is full or it is down, else as
/// [`Route::lookup`]. The packet is freed in any case.
pub(crate) fn inject(net: &Net, mut skb: SkBuff, ifindex: u32, mark: u32) -> Result {
    let (from, to) = addresses(&mut skb)?;
    skb.set_mark(mark);
    let _guard = rcu::read_lock();
    // SAFETY: Under RCU, in a valid namespace.
    let dev = unsafe { bindings::dev_get_by_index_rcu(net.as_ptr(), ifindex as i32) };
    if dev.is_null() {
        return Err(ENODEV);
    }
    let ptr = skb.as_ptr();
    // SAFETY: The device is valid under RCU.
    if unsafe { bindings::hf_dev_is_loopback(dev) } {
        let route = Route::lookup(net, from, to, mark)?;
        // SAFETY: The packet is ours, and the reference that it gets is one more.
        unsafe {
            bindings::hf_dst_hold(route.dst.as_ptr());
            bindings::hf_skb_dst_set(ptr, route.dst.as_ptr());
        }
    }
    // SAFETY: The packet is ours, and its data begins with the network header. Taps on Ethernet
    // expect a link-layer header in front of that: a blank one, if there is room.
    unsafe {
        if bindings::hf_dev_is_ether(dev) && bindings::hf_skb_headroom(ptr) as usize >= ETH_HLEN {
            let header = bindings::skb_push(ptr, ETH_HLEN as u32).cast::<u8>();
            header.write_bytes(0, ETH_HLEN);
            let protocol = bindings::hf_skb_protocol(ptr).to_ne_bytes();
            core::ptr::copy_nonoverlapping(protocol.as_ptr(), header.add(ETH_HLEN - 2), 2);
            bindings::hf_skb_reset_mac_header(ptr);
            bindings::skb_pull(ptr, ETH_HLEN as u32);
        } else {
            bindings::hf_skb_reset_mac_header(ptr);
        }
        bindings::hf_skb_set_dev(ptr, dev);
        bindings::hf_skb_set_pkt_type(ptr, bindings::PACKET_HOST as u8);
        bindings::hf_skb_set_ip_summed(ptr, bindings::CHECKSUM_UNNECESSARY as u8);
    }
    // SAFETY: The packet is complete, and ours to give. If the device goes, it flushes the queue.
    if unsafe { bindings::netif_rx(skb.into_raw()) } != bindings::NET_RX_SUCCESS as i32 {
        return Err(errno(ENOBUFS));
    }
    Ok(())
}
