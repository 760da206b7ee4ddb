# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug,next timeout=240
# A router translates connections from their SYN on, and both ends notice nothing.
#
#   client ---- h1 ---- h2 ---- router ---- server
#     10.1.0.2 .1  10.3.0.1 .2  10.4.0.1 .2   10.2.0.1 .2     port 5000; IPv6: fd01::2 ...
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
	for name in "${HOSTS[@]}"; do
		ip netns pids "$name" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
		ip netns del "$name" 2>/dev/null || true
	done
	rm -rf "$WORK"
}
trap cleanup EXIT
in_ns() {
	ip netns exec "$@"
}

grep -q '^holdfast ' /proc/modules || insmod "$HOLDFAST_KO"
HOSTS=(client h1 h2 router server)
for name in "${HOSTS[@]}"; do
	ip netns add "$name"
	ip -n "$name" link set lo up
	in_ns "$name" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
done
# link NET A NUMBER B NUMBER: devices are named after the other side.
link() {
	local net=$1 a=$2 na=$3 b=$4 nb=$5
	ip link add name "$b" netns "$a" type veth peer name "$a" netns "$b"
	ip -n "$a" addr add "10.$net.0.$na/24" dev "$b"
	ip -n "$a" addr add "fd0$net::$na/64" dev "$b" nodad
	ip -n "$b" addr add "10.$net.0.$nb/24" dev "$a"
	ip -n "$b" addr add "fd0$net::$nb/64" dev "$a" nodad
	ip -n "$a" link set dev "$b" up
	ip -n "$b" link set dev "$a" up
}
link 1 client 2 h1 1
link 3 h1 1 h2 2
link 4 h2 1 router 2
link 2 router 1 server 2
# route HOST NET VIA-NET NUMBER
route() {
	ip -n "$1" route add "10.$2.0.0/24" via "10.$3.0.$4"
	ip -n "$1" -6 route add "fd0$2::/64" via "fd0$3::$4"
}
for net in 2 3 4; do route client $net 1 1; done
for net in 2 4; do route h1 $net 3 2; done
route h2 1 3 1
route h2 2 4 2
for net in 1 3; do route router $net 4 1; done
for net in 1 3 4; do route server $net 2 1; done
head -c $((3 << 20)) /dev/urandom >"$WORK/up"
head -c $((5 << 20)) /dev/urandom >"$WORK/down"

PORT=40000
# exchange CLIENT SERVER: one connection with deltas of its own, checked to the last byte.
exchange() {
	local client=$1 server=$2 c s
	PORT=$((PORT + 1))
	[[ $client == *:* ]] && c="[$client]" s="[$server]" || c=$client s=$server
	in_ns router holdfast splice add "$c:$PORT" "$s:5000" \
		--delta-c2s $(((0xfffff000 + PORT) & 0xffffffff)) --delta-s2c 123456789 --delta-ts $((0x80000001)) >/dev/null
	in_ns server timeout 100 python3 "$(dirname "$0")/lib/exchange.py" serve "$server" "$WORK/down" >"$WORK/served" &
	local serving=$!
	in_ns client timeout 100 python3 "$(dirname "$0")/lib/exchange.py" call "$client:$PORT" "$server" "$WORK/up" >"$WORK/called" ||
		fail "the client's connection broke: $*"
	wait $serving || fail "the server's connection broke: $*"
	[[ $(<"$WORK/served") == "$(sha256sum <"$WORK/up" | cut -d' ' -f1)" ]] || fail "wrong bytes to the server: $*"
	[[ $(<"$WORK/called") == "$(sha256sum <"$WORK/down" | cut -d' ' -f1)" ]] || fail "wrong bytes to the client: $*"
	grep -q "$PORT" <<<"$(in_ns router holdfast flow show)" || fail "there was no flow: $*"
	in_ns router holdfast splice del "$c:$PORT" "$s:5000" >/dev/null
}
both() {
	exchange 10.1.0.2 10.2.0.2
	exchange fd01::2 fd02::2
}

# Who has no right hears nothing of it.
nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
in_ns router python3 "$(dirname "$0")/lib/join.py" | grep -qx joined || fail "root cannot hear events"
in_ns router "${nobody[@]}" python3 "$(dirname "$0")/lib/join.py" >"$WORK/join" || true
[[ $(<"$WORK/join") == EPERM ]] || fail "anybody may hear events: $(<"$WORK/join")"
got=0
in_ns router "${nobody[@]}" holdfast monitor >"$WORK/nobody" 2>&1 || got=$?
[[ $got == 1 && $(<"$WORK/nobody") == *ermi* ]] || fail "monitor, to anybody: $got: $(<"$WORK/nobody")"
in_ns router holdfast monitor >"$WORK/events" &
in_ns router holdfast -j monitor >"$WORK/json" &
# event PATTERN: whether both have told of it, here and to programs.
event() {
	grep -Eq "$1" "$WORK/events" && grep -Eq "$2" "$WORK/json"
}
until_event() {
	local end=$((SECONDS + 30))
	until event "$@"; do
		((SECONDS < end)) || fail "no event $1: $(cat "$WORK/events" "$WORK/json")"
		# They may not listen yet.
		in_ns router holdfast service add 10.2.0.2:5000 --mode observe >/dev/null
		sleep 0.2
	done
}
until_event ' service 10\.2\.0\.2:5000 ' '"service": ?\{.*10\.2\.0\.2:5000'

in_ns router holdfast service add 10.2.0.2:5000 --mode observe >/dev/null
in_ns router holdfast service add '[fd02::2]:5000' --mode observe >/dev/null
echo "super-packets, partial checksums"
both
until_event " closed 10\\.1\\.0\\.2:$((PORT - 1)) > 10\\.2\\.0\\.2:5000" "\"flow\".*10\\.1\\.0\\.2:$((PORT - 1))"
in_ns client ethtool -K h1 tso off gso off tx off >/dev/null
in_ns server ethtool -K router tso off gso off tx off >/dev/null
echo "single packets, full checksums"
both
in_ns router tc qdisc add dev h2 root netem loss 2% delay 2ms reorder 10%
in_ns router tc qdisc add dev server root netem loss 2% delay 2ms reorder 10%
echo "loss and reordering: SACK"
both
in_ns router tc qdisc del dev h2 root
in_ns router tc qdisc del dev server root
# The server learns of it only by ICMP errors that quote translated packets.
ip -n h1 link set dev h2 mtu 1300
ip -n h2 link set dev h1 mtu 1300
echo "a narrow link: path MTU discovery"
both
in_ns router holdfast stats | grep -E '^icmp_translated +[1-9]' || fail "no ICMP error was translated"
