// SPDX-License-Identifier: GPL-2.0

#include <linux/err.h>
#include <linux/rhashtable.h>

/*
 * What C sees of `Link` in rust/net/rhashtable.rs. The parameters are constant, so that the
 * compiler folds them into the inlined lookup: one jhash2 over ten words, no indirect call.
 */
#define HF_RHASH_KEY_LEN 40

struct hf_rhash_link {
	struct rhash_head head;
	u8 key[HF_RHASH_KEY_LEN] __aligned(8);
};

static const struct rhashtable_params hf_rhash_params = {
	.head_offset = offsetof(struct hf_rhash_link, head),
	.key_offset = offsetof(struct hf_rhash_link, key),
	.key_len = HF_RHASH_KEY_LEN,
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
