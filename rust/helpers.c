// SPDX-License-Identifier: GPL-2.0
/*
 * Static inlines and macros of the C headers, made callable from Rust. Each helper is one call or
 * one access, named `hf_` and what it wraps; logic belongs into Rust. One file beside each file
 * of rust/net/ that needs any. bindgen reads this file too, so that the declarations cannot
 * differ from the definitions.
 *
 * Sorted alphabetically.
 */

#include <linux/types.h>

#include "helpers/chardev.c"
#include "helpers/counters.c"
#include "helpers/device.c"
#include "helpers/genl.c"
#include "helpers/hook.c"
#include "helpers/lock.c"
#include "helpers/lookup.c"
#include "helpers/module.c"
#include "helpers/output.c"
#include "helpers/pernet.c"
#include "helpers/rhashtable.c"
#include "helpers/ringmem.c"
#include "helpers/skbuff.c"
#include "helpers/slab.c"
#include "helpers/time.c"
#include "helpers/timer.c"
#include "helpers/work.c"
