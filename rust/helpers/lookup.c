// SPDX-License-Identifier: GPL-2.0

#include <net/inet_sock.h>
#include <net/tcp.h>

int hf_inet_sk_state_load(const struct sock *sk)
{
	return inet_sk_state_load(sk);
}
