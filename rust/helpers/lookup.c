// SPDX-License-Identifier: GPL-2.0

#include <net/inet_sock.h>
#include <net/tcp.h>

bool hf_skb_set_owner_edemux(struct sk_buff *skb, struct sock *sk)
{
	skb_set_owner_edemux(skb, sk);
	return skb->sk;
}

int hf_inet_sk_state_load(const struct sock *sk)
{
	return inet_sk_state_load(sk);
}
