# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=180
# A client whose packets come in by another device than the one by which the route to it leaves:
# after its server's death the ghost appears where the client is heard, and two downloads go on
# (topology: lib/site.sh, and a second segment).
#
#                           odd: 10.2.0.9, fd02::9
#     its packets out  /                              \  its packets in
#          lan: 10.0.0.0/24, fd00::/64      back: 10.1.0.0/24, fd01::/64
#                      \                              /
#                eth0: 10.0.0.80, fd00::80       eth1 of a, b
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
# Until a server is started again, also on a slow machine.
SERVICE_MORE="restart-ms = 60000"

CLIENTS=(client odd)
NUMBER+=([odd]=8)

site_up a b
object index.html 100
object big $((16 << 20))
ip -n lan link add br1 type bridge forward_delay 0 mcast_snooping 0
ip -n lan link set br1 up
for name in a b odd; do
	n=${NUMBER[$name]}
	ip link add name "back-$name" netns lan type veth peer name eth1 netns "$name"
	ip -n lan link set dev "back-$name" master br1 up
	ip -n "$name" link set eth1 up
	ip -n "$name" addr add "10.1.0.$n/24" dev eth1
	ip -n "$name" addr add "fd01::$n/64" dev eth1 nodad
	for device in all eth0 eth1; do
		# Loose: an address that nowhere leads to would still be refused.
		in_ns "$name" sysctl -qw "net.ipv4.conf.$device.rp_filter=2"
	done
done
ip -n odd addr add 10.2.0.9/32 dev lo
ip -n odd addr add fd02::9/128 dev lo nodad
ip -n odd route replace 10.0.0.0/24 dev eth0 src 10.2.0.9
ip -n odd -6 route add fd00::/64 dev eth0 src fd02::9 metric 100
for name in a b; do
	ip -n "$name" route add 10.2.0.9/32 via 10.1.0.8
	ip -n "$name" -6 route add fd02::9/128 via fd01::8
	# What comes of the client, by device; SYNs are its own, or of its ghost.
	in_ns "$name" nft -f - <<-NFT
		table inet seen {
			counter here {}
			counter ghost {}
			counter elsewhere {}
			chain in {
				type filter hook input priority filter
				ip saddr 10.2.0.9 jump client
				ip6 saddr fd02::9 jump client
			}
			chain client {
				tcp dport != 80 accept
				iifname "eth0" counter name here
				iifname "eth0" tcp flags & (syn|ack) == syn counter name ghost
				iifname != "eth0" counter name elsewhere
			}
		}
	NFT
done
site_start

# seen NODE COUNTER
seen() {
	in_ns "$1" nft list counter inet seen "$2" | awk '/packets/ { print $2 }'
}

# One connection each, at a pace that stays.
steady() {
	in_ns odd python3 "$LIB/steady.py" "$2" /big "$SITE/got.$1" 1000000 >"$SITE/out.$1" &
}
steady 4 "$V4"
first=$!
steady 6 "$V6"
second=$!
both_at() {
	local family
	for family in 4 6; do
		until_true 120 size_over "$SITE/got.$family" $(($1 << 20))
	done
}
both_at 3
(($(seen a here) > 0 && $(seen a elsewhere) == 0)) || fail "routing is not asymmetric"

echo "a dies"
node_crash a
until_true 60 owns b
until_true 60 reached b spliced 2
both_at 7
(($(seen b ghost) >= 2)) || fail "the ghosts are not where the client is heard"

echo "the web server of b dies, and is started again"
ip netns pids b | while read -r pid; do
	[[ $(<"/proc/$pid/comm") != nginx ]] || kill -9 "$pid"
done
until_true 60 reached b close_held 2
nginx_start b
until_true 60 reached b spliced 4
(($(seen b ghost) >= 4)) || fail "the ghosts are not where the client is heard"
wait $first $second || fail "a download broke"
for family in 4 6; do
	[[ $(<"$SITE/out.$family") == "200 "* ]] || fail "$(<"$SITE/out.$family")"
	same big "$SITE/got.$family"
done
(($(seen b elsewhere) == 0)) || fail "a ghost came in where the route leads"
echo "ok"
