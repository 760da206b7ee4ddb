// SPDX-License-Identifier: GPL-2.0

#include <linux/err.h>
#include <linux/jhash.h>
#include <linux/rhashtable.h>

/*
 * What C sees of `Link` in rust/net/rhashtable.rs. The parameters are constant, so that the
 * compiler folds them into the inlined lookup, without indirect calls. The key is `Key` of
 * rust/core/wire.rs: an IPv4 address is the first word of its room, and the rest is zero.
 */
#define HF_RHASH_KEY_LEN 40

struct hf_rhash_link {
	struct rhash_head head;
	u8 key[HF_RHASH_KEY_LEN] __aligned(8);
};

#define HF_RHASH_FAMILY 36

/*
 * Of the five words of an IPv6 key. A client chooses its port and the second half of its address. What else
 * differs is folded to a word as in __ipv6_addr_jhash() (the service's address is nobody's to choose), and
 * multiplied by an odd number that nobody knows: jhash adds the seed to each of its words, and two
 * prefixes must not make up for two known differences there. One round less that way.
 */
static __always_inline u32 hf_rhash_hash_ipv6(u64 c0, u64 c1, u64 s0, u64 s1, u64 rest, u32 seed)
{
	u64 fold = c0 ^ s0 ^ s1;

	seed += ((u32)fold ^ (u32)(fold >> 32)) * (seed | 1);
	return jhash_3words((u32)c1, (u32)(c1 >> 32), *(const u32 *)&rest, seed);
}

static __always_inline u32 hf_rhash_hash(const void *key, u32 len, u32 seed)
{
	const u32 *word = key;
	const u64 *w = key;

	/* Both addresses and both ports: all that differs. */
	if (((const u8 *)key)[HF_RHASH_FAMILY] == 4)
		return jhash_3words(word[0], word[4], word[8], seed);
	return hf_rhash_hash_ipv6(w[0], w[1], w[2], w[3], w[4], seed);
}

/* 0 if they are the same. */
static __always_inline int hf_rhash_compare(struct rhashtable_compare_arg *arg, const void *obj)
{
	const struct hf_rhash_link *link = obj;
	const u64 *a = (const u64 *)link->key;
	const u64 *b = arg->key;

	if ((a[0] ^ b[0]) | (a[2] ^ b[2]) | (a[4] ^ b[4]))
		return 1;
	/* Both are of one family. */
	return ((const u8 *)b)[HF_RHASH_FAMILY] != 4 && ((a[1] ^ b[1]) | (a[3] ^ b[3]));
}

static const struct rhashtable_params hf_rhash_params = {
	.head_offset = offsetof(struct hf_rhash_link, head),
	.key_offset = offsetof(struct hf_rhash_link, key),
	.key_len = HF_RHASH_KEY_LEN,
	.hashfn = hf_rhash_hash,
	.obj_cmpfn = hf_rhash_compare,
	.automatic_shrinking = true,
};

/* rhashtable rounds its limits to powers of two; `max_elems` afterwards is the exact one. */
int hf_rhashtable_init(struct rhashtable *ht, u32 max_elems)
{
	struct rhashtable_params params = hf_rhash_params;
	int err;

	params.max_size = roundup_pow_of_two(max_elems);
	err = rhashtable_init(ht, &params);
	if (!err)
		ht->max_elems = max_elems;
	return err;
}

void *hf_rhashtable_lookup(struct rhashtable *ht, const void *key)
{
	return rhashtable_lookup(ht, key, hf_rhash_params);
}

/* As hf_rhashtable_lookup() for an IPv4 key, of which the words that differ are given. */
static noinline void *hf_rhash_lookup_words(struct rhashtable *ht, u32 client, u32 service,
					    u32 ports)
{
	u32 key[HF_RHASH_KEY_LEN / sizeof(u32)] __aligned(8) = {
		[0] = client, [4] = service, [8] = ports,
	};

	((u8 *)key)[HF_RHASH_FAMILY] = 4;
	return hf_rhashtable_lookup(ht, key);
}

/*
 * The same. Nearly always the link is in the chain where one looks first; whatever else there may be is
 * left to rhashtable. So no key has to lie in memory, and nothing is called.
 */
void *hf_rhashtable_lookup_ipv4(struct rhashtable *ht, u32 client, u32 service, u32 ports)
{
	struct bucket_table *tbl = rht_dereference_rcu(ht->tbl, ht);
	u32 hash = rht_bucket_index(tbl, jhash_3words(client, service, ports, tbl->hash_rnd));
	struct hf_rhash_link *link;
	struct rhash_head *pos;

	if (unlikely(tbl->nest))
		return hf_rhash_lookup_words(ht, client, service, ports);
	rht_for_each_entry_rcu_from(link, pos, rht_ptr_rcu(&tbl->buckets[hash]), tbl, hash, head) {
		const u32 *word = (const u32 *)link->key;

		if (((word[0] ^ client) | (word[4] ^ service) | (word[8] ^ ports)) == 0 &&
		    link->key[HF_RHASH_FAMILY] == 4)
			return link;
	}
	return hf_rhash_lookup_words(ht, client, service, ports);
}

static noinline void *hf_rhash_lookup_key(struct rhashtable *ht, u64 c0, u64 c1, u64 s0, u64 s1,
					  u64 rest)
{
	u64 key[HF_RHASH_KEY_LEN / sizeof(u64)] = { c0, c1, s0, s1, rest };

	return hf_rhashtable_lookup(ht, key);
}

/* As hf_rhashtable_lookup_ipv4(), of the five words of an IPv6 key. */
void *hf_rhashtable_lookup_ipv6(struct rhashtable *ht, u64 c0, u64 c1, u64 s0, u64 s1, u64 rest)
{
	struct bucket_table *tbl = rht_dereference_rcu(ht->tbl, ht);
	u32 hash = rht_bucket_index(tbl, hf_rhash_hash_ipv6(c0, c1, s0, s1, rest, tbl->hash_rnd));
	struct hf_rhash_link *link;
	struct rhash_head *pos;

	if (unlikely(tbl->nest))
		return hf_rhash_lookup_key(ht, c0, c1, s0, s1, rest);
	rht_for_each_entry_rcu_from(link, pos, rht_ptr_rcu(&tbl->buckets[hash]), tbl, hash, head) {
		const u64 *w = (const u64 *)link->key;

		if (((w[0] ^ c0) | (w[1] ^ c1) | (w[2] ^ s0) | (w[3] ^ s1) | (w[4] ^ rest)) == 0)
			return link;
	}
	return hf_rhash_lookup_key(ht, c0, c1, s0, s1, rest);
}

/* NULL when `link` was inserted, the link in its place, or an error pointer. */
void *hf_rhashtable_lookup_get_insert(struct rhashtable *ht, void *link)
{
	return rhashtable_lookup_get_insert_fast(ht, link, hf_rhash_params);
}

int hf_rhashtable_remove(struct rhashtable *ht, void *link)
{
	return rhashtable_remove_fast(ht, link, hf_rhash_params);
}

u32 hf_rhashtable_nelems(const struct rhashtable *ht)
{
	return atomic_read(&ht->nelems);
}
