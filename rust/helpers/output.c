// SPDX-License-Identifier: GPL-2.0

#include <net/dst.h>
#include <net/ip6_fib.h>
#include <net/ip6_route.h>
#include <net/route.h>

struct dst_entry *hf_rt_dst(struct rtable *rt)
{
	return &rt->dst;
}

u8 hf_rt_gw_family(const struct dst_entry *dst)
{
	return dst_rtable(dst)->rt_gw_family;
}

const struct in6_addr *hf_rt_gw6(const struct dst_entry *dst)
{
	return &dst_rtable(dst)->rt_gw6;
}

__be32 hf_rt_nexthop(const struct dst_entry *dst, __be32 daddr)
{
	return rt_nexthop(dst_rtable(dst), daddr);
}

const struct in6_addr *hf_rt6_nexthop(const struct dst_entry *dst, const struct in6_addr *daddr)
{
	return rt6_nexthop(dst_rt6_info(dst), daddr);
}

struct net_device *hf_dst_dev(const struct dst_entry *dst)
{
	return dst_dev_rcu(dst);
}

u32 hf_dst_mtu(const struct dst_entry *dst)
{
	return dst_mtu(dst);
}

int hf_dst_error(const struct dst_entry *dst)
{
	return dst->error;
}

bool hf_dst_is_xfrm(const struct dst_entry *dst)
{
	return dst_xfrm(dst);
}

void hf_dst_hold(struct dst_entry *dst)
{
	dst_hold(dst);
}
