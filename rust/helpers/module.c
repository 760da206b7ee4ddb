// SPDX-License-Identifier: GPL-2.0

#include <linux/module.h>

bool hf_try_module_get(struct module *module)
{
	return try_module_get(module);
}

void hf_module_put(struct module *module)
{
	module_put(module);
}
