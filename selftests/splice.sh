# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock,debug timeout=240
# A router translates connections from their SYN on, and both ends notice nothing.
#
#   client ------------- router ------------- server
#     10.1.0.2   10.1.0.1      10.2.0.1   10.2.0.2     port 5000
#     fd01::2    fd01::1       fd02::1    fd02::2
#
# Bytes go both ways at once and are compared; with super-packets and without, with packets
# lost on the way, and behind a link that is too narrow for what the ends agreed on.
set -euo pipefail

WORK=$(mktemp -d /tmp/splice.XXXXXX)
fail() {
	echo "FAIL: $*" >&2
	exit 1
}
cleanup() {
	local name
	for name in client router server; do
		ip netns pids "$name" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
		ip netns del "$name" 2>/dev/null || true
	done
	rm -rf "$WORK"
}
trap cleanup EXIT
in_ns() {
	ip netns exec "$@"
}

lsmod | grep -q '^holdfast ' || insmod "$HOLDFAST_KO"
for name in client router server; do
	ip netns add "$name"
	ip -n "$name" link set lo up
done
wire() {
	local name=$1 n=$2
	ip link add name eth0 netns "$name" type veth peer name "$name" netns router
	ip -n "$name" addr add "10.$n.0.2/24" dev eth0
	ip -n "$name" addr add "fd0$n::2/64" dev eth0 nodad
	ip -n router addr add "10.$n.0.1/24" dev "$name"
	ip -n router addr add "fd0$n::1/64" dev "$name" nodad
	ip -n "$name" link set eth0 up
	ip -n router link set dev "$name" up
	ip -n "$name" route add default via "10.$n.0.1"
	ip -n "$name" -6 route add default via "fd0$n::1"
}
wire client 1
wire server 2
in_ns router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
head -c $((3 << 20)) /dev/urandom >"$WORK/up"
head -c $((5 << 20)) /dev/urandom >"$WORK/down"

PORT=40000
# exchange CLIENT SERVER: one connection with deltas of its own, checked to the last byte.
exchange() {
	local client=$1 server=$2 c s
	PORT=$((PORT + 1))
	[[ $client == *:* ]] && c="[$client]" s="[$server]" || c=$client s=$server
	in_ns router holdfast splice add "$c:$PORT" "$s:5000" \
		--delta-c2s $((0xfffff000 + PORT)) --delta-s2c 123456789 --delta-ts $((0x80000001)) >/dev/null
	in_ns server timeout 100 python3 "$(dirname "$0")/lib/exchange.py" serve "$server" "$WORK/down" >"$WORK/served" &
	local serving=$!
	in_ns client timeout 100 python3 "$(dirname "$0")/lib/exchange.py" call "$client:$PORT" "$server" "$WORK/up" >"$WORK/called" ||
		fail "the client's connection broke: $*"
	wait $serving || fail "the server's connection broke: $*"
	[[ $(<"$WORK/served") == "$(sha256sum <"$WORK/up" | cut -d' ' -f1)" ]] || fail "wrong bytes to the server: $*"
	[[ $(<"$WORK/called") == "$(sha256sum <"$WORK/down" | cut -d' ' -f1)" ]] || fail "wrong bytes to the client: $*"
	in_ns router holdfast flow show | grep -q "$PORT" || fail "there was no flow: $*"
	in_ns router holdfast splice del "$c:$PORT" "$s:5000" >/dev/null
}
both() {
	exchange 10.1.0.2 10.2.0.2
	exchange fd01::2 fd02::2
}

in_ns router holdfast service add 10.2.0.2:5000 --mode observe >/dev/null
in_ns router holdfast service add '[fd02::2]:5000' --mode observe >/dev/null
echo "super-packets, partial checksums"
both
for name in client server; do
	in_ns "$name" ethtool -K eth0 tso off gso off tx off >/dev/null
	in_ns router ethtool -K "$name" gro on >/dev/null
done
echo "single packets, full checksums"
both
in_ns router tc qdisc add dev client root netem loss 2% delay 2ms reorder 10%
in_ns router tc qdisc add dev server root netem loss 2% delay 2ms reorder 10%
echo "loss and reordering: SACK"
both
in_ns router tc qdisc del dev client root
in_ns router tc qdisc del dev server root
# The server learns of it only by ICMP errors that quote translated packets.
ip -n router link set dev client mtu 1300
echo "a narrow link: path MTU discovery"
both
in_ns router holdfast stats | grep -E '^icmp_translated +[1-9]' || fail "no ICMP error was translated"
