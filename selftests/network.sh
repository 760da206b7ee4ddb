# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug,next timeout=240
# Networks between clients and servers, through the death of a server (topology: lib/site.sh).
# Each client has a path of its own:
#
#   plain, lossy, mixed, far     straight, at 4 Mbit/s; far: 100 ms there and back
#   small                        behind a router whose inner link carries 1400 bytes
#   one, two                     behind a router that has one address for both, and drops
#                                what its conntrack finds invalid
#   mute                         never sees a packet without bytes: no probe, no bare
#                                acknowledgement
#   singles                      neither it nor the second server knows super-packets
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
lib=$(dirname "$0")/lib

CLIENTS=(client plain lossy mixed far mute singles tight masked)
NUMBER+=([plain]=11 [lossy]=12 [mixed]=13 [far]=14 [mute]=15 [singles]=16 [tight]=17 [masked]=18)
INNER=(small one two)

# inner NAME ROUTER NET: a host behind a router.
inner() {
	local name=$1 router=$2 net=$3
	ip netns add "$name"
	ip -n "$name" link set lo up
	ip link add name eth0 netns "$name" type veth peer name "$name" netns "$router"
	ip -n "$router" addr add "10.$net.0.1/24" dev "$name"
	ip -n "$router" addr add "fd0$net::1/64" dev "$name" nodad
	ip -n "$name" addr add "10.$net.0.2/24" dev eth0
	ip -n "$name" addr add "fd0$net::2/64" dev eth0 nodad
	ip -n "$router" link set dev "$name" up
	ip -n "$name" link set dev eth0 up
	ip -n "$name" route add default via "10.$net.0.1"
	ip -n "$name" -6 route add default via "fd0$net::1"
}

# shape NAME NETEM...: both directions of a client's path.
shape() {
	local name=$1
	shift
	ip netns exec lan tc qdisc add dev "port-$name" root netem limit 1000 rate 4mbit "$@"
	in_ns "$name" tc qdisc add dev eth0 root netem limit 1000 "$@"
}

site_up a b
CLIENTS+=("${INNER[@]}")
object index.html 100
object big 1000000
touch -d '1 hour ago' "$SITE/www/big"
shape plain delay 1ms
shape lossy delay 5ms loss 1%
shape mixed delay 10ms reorder 25% 50% duplicate 1%
shape far delay 50ms
for name in tight masked; do
	in_ns "$name" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
done
inner small tight 5
inner one masked 6
inner two masked 7
# Only this link is narrow, and neither end of the connection has it; what it cannot carry, the
# router says by ICMP.
ip -n tight link set dev small mtu 1400
for name in a b; do
	ip -n "$name" route add 10.5.0.0/24 via 10.0.0.17
	ip -n "$name" -6 route add fd05::/64 via fd00::17
done
in_ns masked nft -f - <<-NFT
	table inet router {
		chain forward {
			type filter hook forward priority filter
			ct state invalid tcp sport 80 tcp flags & (fin|syn|rst|ack) == ack meta length <= 72 counter drop
			ct state invalid counter drop
		}
		chain out {
			type nat hook postrouting priority srcnat
			oifname "eth0" masquerade
		}
	}
NFT
ip netns exec lan tc qdisc add dev port-masked root netem limit 1000 rate 8mbit
ip netns exec lan tc qdisc add dev port-tight root netem limit 1000 rate 4mbit
shape mute delay 1ms
in_ns mute nft -f - <<-NFT
	table inet mute {
		chain in {
			type filter hook prerouting priority -350
			tcp sport 80 tcp flags & (fin|syn|rst|ack) == ack meta length <= 72 counter drop
		}
	}
NFT
shape singles delay 1ms
for name in b singles; do
	in_ns "$name" ethtool -K eth0 tso off gso off gro off tx off >/dev/null
done
ip netns exec lan ethtool -K port-singles gro off tso off gso off >/dev/null
site_start

table() {
	cat <<-TABLE
		ordinary | plain | $1 | continued |
		1 % loss | lossy | $1 | continued |
		reordering and copies | mixed | $1 | continued |
		100 ms | far | $1 | continued |
		1400 bytes on the path | small | $1 | continued |
		behind one address, first | one | $1 | continued | held=600000
		behind one address, second | two | $1 | continued |
		no super-packets | singles | $1 | continued |
		idle behind one address | one | $1 | continued | idle get=index.html
		no probes | mute | $1 | continued |
		no probes, idle | mute | $1 | continued | idle get=index.html
	TABLE
}
{
	table $V4
	[[ $SIZE == small ]] || table $V6
} >"$SITE/table"
python3 "$lib/download.py" "$SITE/www" "$SITE/ready" "$SITE/go" "$SITE/b.log" <"$SITE/table" &
matrix_crash a b $!
in_ns mute nft list table inet mute | grep -E 'packets [1-9]' >/dev/null || fail "nothing was kept from the mute client"
in_ns b holdfast stats | grep -E '^icmp_translated +[1-9]' >/dev/null || fail "the narrow link was never noticed"
# Its conntrack finds no probe invalid, nor any other packet without bytes: each client behind it was
# found by what it was asked.
dropped=$(in_ns masked nft list table inet router | grep counter)
echo "the router has dropped: $dropped"
grep -q 'length <= 72 counter packets 0 ' <<<"$dropped" || fail "the router has dropped a probe"
grep -E '^located .*(10\.0\.0\.18|fd00::18)' "$SITE/b.log" || fail "nobody behind it was asked"
# A probe is near the byte that its client expects, also late in a download: what was under way when
# the server died (a window, of twice the receive buffer of lib/matrix.py at most) and what the last
# heartbeat did not tell yet.
in_download=$(sed -nE 's/^located .*below=([0-9]+) .*/\1/p' "$SITE/b.log" | sort -n)
echo "asked so far below: $(tr '\n' ' ' <<<"$in_download")"
(($(tail -1 <<<"$in_download") < 250000)) || fail "a client was asked too far below"
