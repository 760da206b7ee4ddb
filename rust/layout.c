// SPDX-License-Identifier: GPL-2.0
/*
 * Sizes and offsets as gcc lays them out, of the structures that Rust code fills in or reads.
 * Compiled to assembler only, in the manner of kernel/bounds.c; Kbuild turns
 * each into an assertion that what bindgen made of the same header, by libclang, is the same.
 */
#define COMPILE_OFFSETS

#include <linux/kbuild.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/skbuff.h>
#include <linux/stddef.h>
#include <net/flow.h>
#include <net/genetlink.h>
#include <net/net_namespace.h>

#define SIZE(s)		DEFINE(SIZE, sizeof(struct s))
#define MEMBER(s, m)	DEFINE(MEMBER, offsetof(struct s, m))
/* As a constant: for members of structures without a name. */
#define AT(s, m)	DEFINE(AT, offsetof(struct s, m))

int main(void)
{
	SIZE(flowi4);
	SIZE(flowi6);
	SIZE(flowi_common);
	SIZE(genl_family);
	MEMBER(genl_family, n_mcgrps);
	SIZE(genl_info);
	MEMBER(genl_info, attrs);
	MEMBER(genl_info, extack);
	SIZE(genl_multicast_group);
	MEMBER(genl_multicast_group, flags);
	SIZE(genl_split_ops);
	MEMBER(genl_split_ops, cmd);
	MEMBER(genl_split_ops, policy);
	SIZE(netlink_range_validation);
	AT(net_device, ifindex);
	MEMBER(nf_hook_entries, hooks);
	SIZE(nf_hook_entry);
	SIZE(nf_hook_ops);
	MEMBER(nf_hook_ops, priority);
	SIZE(nf_hook_state);
	MEMBER(nf_hook_state, okfn);
	SIZE(notifier_block);
	SIZE(pernet_operations);
	MEMBER(pernet_operations, size);
	SIZE(sk_buff);
	MEMBER(sk_buff, data);
	MEMBER(sk_buff, data_len);
	MEMBER(sk_buff, head);
	MEMBER(sk_buff, len);
	AT(sk_buff, mark);
	AT(sk_buff, network_header);
	MEMBER(sk_buff, sk);
	return 0;
}
