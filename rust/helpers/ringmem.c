// SPDX-License-Identifier: GPL-2.0

#include <linux/vmalloc.h>

void *hf_vmalloc_user(unsigned long size)
{
	return vmalloc_user(size);
}
