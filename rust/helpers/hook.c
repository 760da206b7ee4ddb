// SPDX-License-Identifier: GPL-2.0

#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <net/inet_sock.h>
#include <net/request_sock.h>
#include <net/sock.h>

/* The hooks of a point, as nf_hook() finds them. Under RCU. */
const struct nf_hook_entries *hf_nf_hooks_ipv4(const struct net *net, unsigned int hook)
{
	return rcu_dereference(net->nf.hooks_ipv4[hook]);
}

const struct nf_hook_entries *hf_nf_hooks_ipv6(const struct net *net, unsigned int hook)
{
	return rcu_dereference(net->nf.hooks_ipv6[hook]);
}

bool hf_sk_get(struct sock *sk)
{
	return refcount_inc_not_zero(&sk->sk_refcnt);
}

bool hf_skb_sk_is_prefetched(struct sk_buff *skb)
{
	return skb_sk_is_prefetched(skb);
}

bool hf_sk_is_refcounted(struct sock *sk)
{
	return sk_is_refcounted(sk);
}

void hf_skb_set_destructor(struct sk_buff *skb, void (*destructor)(struct sk_buff *))
{
	skb->destructor = destructor;
}

void hf_local_bh_disable(void)
{
	local_bh_disable();
}

void hf_local_bh_enable(void)
{
	local_bh_enable();
}
