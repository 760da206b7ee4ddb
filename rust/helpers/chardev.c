// SPDX-License-Identifier: GPL-2.0

#include <linux/capability.h>
#include <linux/nsproxy.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <net/net_namespace.h>

struct net *hf_current_net(void)
{
	return current->nsproxy->net_ns;
}

bool hf_net_capable(struct net *net, int cap)
{
	return ns_capable(net->user_ns, cap);
}

bool hf_wq_has_sleeper(struct wait_queue_head *wq)
{
	return wq_has_sleeper(wq);
}

void hf_wake_up_poll(struct wait_queue_head *wq, __poll_t mask)
{
	wake_up_interruptible_poll(wq, mask);
}
