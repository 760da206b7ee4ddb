// SPDX-License-Identifier: GPL-2.0

#include <linux/spinlock.h>

void hf_spin_lock_bh(spinlock_t *lock)
{
	spin_lock_bh(lock);
}

void hf_spin_unlock_bh(spinlock_t *lock)
{
	spin_unlock_bh(lock);
}

int hf_spin_trylock_bh(spinlock_t *lock)
{
	return spin_trylock_bh(lock);
}
