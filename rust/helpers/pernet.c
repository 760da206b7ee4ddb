// SPDX-License-Identifier: GPL-2.0

#include <net/net_namespace.h>
#include <net/netns/generic.h>

void *hf_net_generic(const struct net *net, unsigned int id)
{
	return net_generic(net, id);
}

struct net *hf_maybe_get_net(struct net *net)
{
	return maybe_get_net(net);
}

void hf_put_net(struct net *net)
{
	put_net(net);
}

u64 hf_net_cookie(const struct net *net)
{
	return net->net_cookie;
}

unsigned int hf_net_inum(const struct net *net)
{
	return net->ns.inum;
}

struct net *hf_init_net(void)
{
	return &init_net;
}
