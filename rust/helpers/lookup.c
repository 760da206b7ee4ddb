// SPDX-License-Identifier: GPL-2.0

#include <net/inet_sock.h>
#include <net/tcp.h>

int hf_inet_sk_state_load(const struct sock *sk)
{
	return inet_sk_state_load(sk);
}

bool hf_sk_fullsock(const struct sock *sk)
{
	return sk_fullsock(sk);
}

/* Of a full TCP socket. */
bool hf_tcp_sk_has_md5(const struct sock *sk)
{
#ifdef CONFIG_TCP_MD5SIG
	return rcu_access_pointer(tcp_sk(sk)->md5sig_info);
#else
	return false;
#endif
}

/* Of a full TCP socket. */
bool hf_tcp_sk_has_ao(const struct sock *sk)
{
#ifdef CONFIG_TCP_AO
	return rcu_access_pointer(tcp_sk(sk)->ao_info);
#else
	return false;
#endif
}
