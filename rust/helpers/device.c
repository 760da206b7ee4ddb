// SPDX-License-Identifier: GPL-2.0

#include <linux/if_arp.h>
#include <linux/netdevice.h>

void hf_dev_hold(struct net_device *dev)
{
	dev_hold(dev);
}

void hf_dev_put(struct net_device *dev)
{
	dev_put(dev);
}

int hf_dev_ifindex(const struct net_device *dev)
{
	return dev->ifindex;
}

struct net *hf_dev_net(const struct net_device *dev)
{
	return dev_net(dev);
}

bool hf_dev_is_loopback(const struct net_device *dev)
{
	return dev->flags & IFF_LOOPBACK;
}

bool hf_dev_is_ether(const struct net_device *dev)
{
	return dev->type == ARPHRD_ETHER;
}

struct net_device *hf_netdev_notifier_info_to_dev(void *info)
{
	return netdev_notifier_info_to_dev(info);
}
