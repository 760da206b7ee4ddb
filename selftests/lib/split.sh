# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# A host "split" behind a router that cuts its large packets to the site to pieces, and tells it nothing of that; to be
# sourced behind lib/site.sh. The router is "cutter", one of the scenario's CLIENTS.

# split_up: behind site_up.
split_up() {
	local name
	ip netns add split
	CLIENTS+=(split)
	ip -n split link set lo up
	ip link add name eth0 netns split type veth peer name split netns cutter
	ip -n cutter addr add 10.8.0.1/24 dev split
	ip -n split addr add 10.8.0.2/24 dev eth0
	ip -n cutter link set dev split up
	ip -n split link set dev eth0 up
	ip -n split route add default via 10.8.0.1
	in_ns cutter sysctl -qw net.ipv4.ip_forward=1
	ip -n cutter route add "$V4" dev eth0 mtu lock 600
	in_ns split sysctl -qw net.ipv4.ip_no_pmtu_disc=1
	in_ns split ethtool -K eth0 tso off gso off >/dev/null
	for name in "${NODES[@]}"; do ip -n "$name" route add 10.8.0.0/24 via "10.0.0.${NUMBER[cutter]}"; done
}
