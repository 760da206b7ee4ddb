// SPDX-License-Identifier: GPL-2.0

#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/timekeeping.h>

s64 hf_ktime_get_ms(void)
{
	return ktime_to_ms(ktime_get());
}

s64 hf_ktime_get_ns(void)
{
	return ktime_get_ns();
}
