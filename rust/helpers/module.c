// SPDX-License-Identifier: GPL-2.0

#include <linux/module.h>
#include <linux/utsname.h>

/* Of the kernel's build that this module is for, if scripts/build-module knows it. */
#ifdef UTS_VERSION
MODULE_INFO(built_for, UTS_VERSION);
#else
#define UTS_VERSION ""
#endif

const char *hf_built_for(void)
{
	return UTS_VERSION;
}

const char *hf_kernel_build(void)
{
	return init_utsname()->version;
}

bool hf_try_module_get(struct module *module)
{
	return try_module_get(module);
}

void hf_module_put(struct module *module)
{
	module_put(module);
}
