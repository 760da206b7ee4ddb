// SPDX-License-Identifier: GPL-2.0

#include <net/genetlink.h>
#include <net/netlink.h>

/* What `Policy` in rust/net/genl/policy.rs takes for granted. */
static_assert(sizeof(struct nla_policy) == 16);
static_assert(offsetof(struct nla_policy, type) == 0);
static_assert(offsetof(struct nla_policy, validation_type) == 1);
static_assert(offsetof(struct nla_policy, len) == 2);
static_assert(offsetof(struct nla_policy, min) == 8);
static_assert(offsetof(struct nla_policy, max) == 10);
static_assert(offsetof(struct nla_policy, nested_policy) == 8);

/* Here and not in Rust, because the flags are bit fields. */
void hf_genl_family_init(struct genl_family *family, const char *name, u8 version,
			      const struct genl_split_ops *ops, u8 n_ops,
			      const struct genl_multicast_group *groups, u8 n_groups,
			      struct module *module)
{
	*family = (struct genl_family) {
		.version = version,
		.netnsok = true,
		.parallel_ops = true,
		.split_ops = ops,
		.n_split_ops = n_ops,
		.mcgrps = groups,
		.n_mcgrps = n_groups,
		.module = module,
	};
	strscpy(family->name, name);
}

struct net *hf_genl_info_net(const struct genl_info *info)
{
	return genl_info_net(info);
}

struct genl_info *hf_genl_info_dump(struct netlink_callback *cb)
{
	return (struct genl_info *)genl_info_dump(cb);
}

void hf_nl_set_err_msg_attr(struct netlink_ext_ack *extack, const struct nlattr *attr,
				 const char *msg)
{
	do_trace_netlink_extack(msg);
	if (extack) {
		extack->_msg = msg;
		extack->bad_attr = attr;
		extack->policy = NULL;
	}
}

void hf_nl_set_err_attr_miss(struct netlink_ext_ack *extack, const struct nlattr *nest,
				  u16 type)
{
	NL_SET_ERR_ATTR_MISS(extack, nest, type);
}

struct sk_buff *hf_genlmsg_new(size_t payload, gfp_t flags)
{
	return genlmsg_new(payload, flags);
}

void hf_genlmsg_end(struct sk_buff *skb, void *hdr)
{
	genlmsg_end(skb, hdr);
}

void hf_genlmsg_cancel(struct sk_buff *skb, void *hdr)
{
	genlmsg_cancel(skb, hdr);
}

void hf_nlmsg_free(struct sk_buff *skb)
{
	nlmsg_free(skb);
}

int hf_genlmsg_reply(struct sk_buff *skb, struct genl_info *info)
{
	return genlmsg_reply(skb, info);
}

int hf_genl_has_listeners(const struct genl_family *family, struct net *net,
			       unsigned int group)
{
	return genl_has_listeners(family, net, group);
}

int hf_genlmsg_multicast_netns(const struct genl_family *family, struct net *net,
				    struct sk_buff *skb, unsigned int group, gfp_t flags)
{
	return genlmsg_multicast_netns(family, net, skb, 0, group, flags);
}

void hf_genl_dump_check_consistent(struct netlink_callback *cb, void *hdr)
{
	genl_dump_check_consistent(cb, hdr);
}

struct nlattr *hf_nla_nest_start(struct sk_buff *skb, int type)
{
	return nla_nest_start(skb, type);
}

int hf_nla_nest_end_safe(struct sk_buff *skb, struct nlattr *nest)
{
	return nla_nest_end_safe(skb, nest);
}

void hf_nla_nest_cancel(struct sk_buff *skb, struct nlattr *nest)
{
	nla_nest_cancel(skb, nest);
}
