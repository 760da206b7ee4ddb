/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Read by bindgen only: the headers of the C functions and types that rust/net/ uses (which of
 * them it generates, rust/bindgen_parameters says), constants that it cannot evaluate, and the
 * helpers themselves, whose definitions serve as declarations.
 */

#include <linux/if_ether.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/rhashtable.h>
#include <linux/skbuff.h>
#include <linux/vmalloc.h>
#include <net/dst.h>
#include <net/genetlink.h>
#include <net/inet6_hashtables.h>
#include <net/inet_hashtables.h>
#include <net/ip6_route.h>
#include <net/neighbour.h>
#include <net/net_namespace.h>
#include <net/route.h>
#include <net/tcp.h>

const u8 HF_CONST_GENL_MCAST_CAP_NET_ADMIN = GENL_MCAST_CAP_NET_ADMIN;

#include "helpers.c"
