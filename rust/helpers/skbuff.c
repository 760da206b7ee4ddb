// SPDX-License-Identifier: GPL-2.0

#include <linux/skbuff.h>
#include <net/checksum.h>
#include <net/dst.h>
#include <net/ip6_checksum.h>
#include <net/sock.h>

struct sk_buff *hf_alloc_skb(unsigned int size, gfp_t flags)
{
	return alloc_skb(size, flags);
}

void hf_skb_reserve(struct sk_buff *skb, int len)
{
	skb_reserve(skb, len);
}

unsigned int hf_skb_headroom(const struct sk_buff *skb)
{
	return skb_headroom(skb);
}

void hf_skb_reset_network_header(struct sk_buff *skb)
{
	skb_reset_network_header(skb);
}

void hf_skb_reset_mac_header(struct sk_buff *skb)
{
	skb_reset_mac_header(skb);
}

void hf_skb_set_transport_header(struct sk_buff *skb, int offset)
{
	skb_set_transport_header(skb, offset);
}

void hf_skb_uncharge(struct sk_buff *skb)
{
	/* One of offloaded TLS needs its socket: see sk_validate_xmit_skb(). */
	if (!skb_is_decrypted(skb))
		skb_orphan_partial(skb);
}

bool hf_pskb_may_pull(struct sk_buff *skb, unsigned int len)
{
	return pskb_may_pull(skb, len);
}

static noinline int hf_skb_unclone(struct sk_buff *skb)
{
	int err = pskb_expand_head(skb, 0, 0, GFP_ATOMIC);

	return err ?: skb->ip_summed;
}

/* skb->ip_summed, or an error. In two functions, as the rarer one needs a frame. */
int hf_skb_try_make_writable(struct sk_buff *skb, unsigned int write_len)
{
	if (unlikely(skb_cloned(skb) && !skb_clone_writable(skb, write_len)))
		return hf_skb_unclone(skb);
	return skb->ip_summed;
}

void hf_skb_postpull_rcsum(struct sk_buff *skb, const void *start, unsigned int len)
{
	skb_postpull_rcsum(skb, start, len);
}

void hf_skb_postpush_rcsum(struct sk_buff *skb, const void *start, unsigned int len)
{
	skb_postpush_rcsum(skb, start, len);
}

__be16 hf_skb_protocol(const struct sk_buff *skb)
{
	return skb->protocol;
}

void hf_skb_set_protocol(struct sk_buff *skb, __be16 protocol)
{
	skb->protocol = protocol;
}

u8 hf_skb_ip_summed(const struct sk_buff *skb)
{
	return skb->ip_summed;
}

void hf_skb_set_ip_summed(struct sk_buff *skb, u8 ip_summed)
{
	skb->ip_summed = ip_summed;
}

__wsum hf_skb_csum(const struct sk_buff *skb)
{
	return skb->csum;
}

void hf_skb_set_csum(struct sk_buff *skb, __wsum csum)
{
	skb->csum = csum;
}

void hf_skb_set_mark(struct sk_buff *skb, u32 mark)
{
	skb->mark = mark;
}

u8 hf_skb_pkt_type(const struct sk_buff *skb)
{
	return skb->pkt_type;
}

void hf_skb_set_pkt_type(struct sk_buff *skb, u8 pkt_type)
{
	skb->pkt_type = pkt_type;
}

struct net_device *hf_skb_dev(const struct sk_buff *skb)
{
	return skb->dev;
}

void hf_skb_set_dev(struct sk_buff *skb, struct net_device *dev)
{
	skb->dev = dev;
}

int hf_skb_iif(const struct sk_buff *skb)
{
	return skb->skb_iif;
}

bool hf_skb_is_gso(const struct sk_buff *skb)
{
	return skb_is_gso(skb);
}

u16 hf_skb_gso_size(const struct sk_buff *skb)
{
	return skb_shinfo(skb)->gso_size;
}

u16 hf_skb_gso_segs(const struct sk_buff *skb)
{
	return skb_shinfo(skb)->gso_segs;
}

void hf_skb_gso_reset(struct sk_buff *skb)
{
	skb_gso_reset(skb);
}

struct sk_buff *hf_skb_next(const struct sk_buff *skb)
{
	return skb->next;
}

void hf_skb_set_next(struct sk_buff *skb, struct sk_buff *next)
{
	skb->next = next;
}

bool hf_skb_has_dst(const struct sk_buff *skb)
{
	return skb_dst(skb);
}

bool hf_skb_dst_force(struct sk_buff *skb)
{
	return skb_dst_force(skb);
}

void hf_skb_dst_set(struct sk_buff *skb, struct dst_entry *dst)
{
	skb_dst_set(skb, dst);
}

void hf_kfree_skb_reason(struct sk_buff *skb, enum skb_drop_reason reason)
{
	kfree_skb_reason(skb, reason);
}

void hf_kfree_skb_list_reason(struct sk_buff *segs, enum skb_drop_reason reason)
{
	kfree_skb_list_reason(segs, reason);
}

__sum16 hf_csum_tcpudp_magic(__be32 saddr, __be32 daddr, u32 len, u8 proto, __wsum sum)
{
	return csum_tcpudp_magic(saddr, daddr, len, proto, sum);
}

__sum16 hf_csum_ipv6_magic(const struct in6_addr *saddr, const struct in6_addr *daddr,
			   u32 len, u8 proto, __wsum sum)
{
	return csum_ipv6_magic(saddr, daddr, len, proto, sum);
}
