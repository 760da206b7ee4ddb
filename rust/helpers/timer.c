// SPDX-License-Identifier: GPL-2.0

#include <linux/jiffies.h>
#include <linux/timer.h>

unsigned long hf_jiffies(void)
{
	return jiffies;
}
