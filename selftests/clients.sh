# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=180
# Clients with other TCPs and other manners, through the death of their server (topology:
# lib/site.sh). Each TCP is that of a namespace of its own. It dies in the body, while its client
# waits for the first byte, in the head, when all was said, and when the client has said that it leaves, which
# the server never heard; and in the handshake, of which no record tells. A client whose requests come in fragments is
# among them, and no conntrack to put these together.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
. "$(dirname "$0")/lib/split.sh"
lib=$(dirname "$0")/lib

CLIENTS=(client nostamps nosack noscale bare narrow ecn leaving cutter)
NUMBER+=([nostamps]=11 [nosack]=12 [noscale]=13 [bare]=14 [narrow]=15 [ecn]=16 [leaving]=17 [cutter]=18)
PORTS=(80 81 83 84)

# Port 81: a server that minds no half-closed client, as nginx does, and stops in each long
# answer on a. Port 83: another one; nobody gets more than a part of its head until a is dead. Port 84: one
# that hears of nobody more than a SYN until then.
serve() {
	local stall=
	nginx_start "$1"
	[[ $1 != a ]] || stall=stall
	for port in 81 83 84; do
		in_ns "$1" python3 "$lib/answers.py" serve $stall port=$port 2>/dev/null &
	done
}

# Single segments, of which the first ones are less than the head.
narrow_heads() {
	local name
	in_ns a ethtool -K eth0 tso off gso off >/dev/null
	for name in "${CLIENTS[@]}"; do
		in_ns "$name" nft -f - <<-RULES
			table inet head {
				chain in {
					type filter hook prerouting priority mangle
					tcp sport 83 ct reply bytes > 2600 counter drop
				}
			}
		RULES
	done
	in_ns client nft -f - <<-RULES
		table inet handshake {
			chain out {
				type filter hook output priority mangle
				tcp dport 84 tcp flags & (syn | ack) == ack counter drop
			}
		}
	RULES
	in_ns leaving nft -f - <<-RULES
		table inet goodbye {
			chain out {
				type filter hook output priority mangle
				tcp flags & fin == fin counter drop
			}
		}
	RULES
}
in_the_head() {
	local name
	for name in client nostamps nosack noscale bare narrow; do
		prints 'packets [1-9]' in_ns "$name" nft list table inet head || return 1
	done
	prints 'packets [1-9]' in_ns client nft list table inet handshake &&
		prints 'packets [1-9]' in_ns leaving nft list table inet goodbye
}
# Once b has the addresses.
let_through() {
	local name
	until_true 120 test -e "$SITE/go"
	for name in "${CLIENTS[@]}"; do in_ns "$name" nft delete table inet head; done
	in_ns client nft delete table inet handshake
	in_ns leaving nft delete table inet goodbye
}

site_up a b
object index.html 100
object big 900000
touch -d '1 hour ago' "$SITE/www/big"
python3 -c 'print("".join("%07d\n" % n for n in range(25000)), end="")' >"$SITE/www/lines"
off() {
	local client=$1 name
	shift
	for name in "$@"; do in_ns "$client" sysctl -qw "net.ipv4.tcp_$name=0"; done
}
off nostamps timestamps
off nosack sack
off noscale window_scaling
off bare timestamps sack window_scaling
in_ns ecn sysctl -qw net.ipv4.tcp_ecn=1
ip -n narrow route add "$V4" dev eth0 advmss 536
ip -n narrow -6 route add "$V6" dev eth0 advmss 536
split_up
site_start
for name in a b; do
	for port in 81 83 84; do until_true 20 in_ns "$name" curl -sf -o /dev/null "http://localhost:$port/?calm"; done
done
narrow_heads

table() {
	cat <<-TABLE
		ordinary | client | $1 | continued |
		no timestamps | nostamps | $1 | continued |
		no SACK | nosack | $1 | continued |
		no window scale | noscale | $1 | continued |
		none of the three | bare | $1 | continued |
		MSS 536 | narrow | $1 | continued |
		ECN | ecn | $1 | continued |
		window of a few KB | client | $1 | continued | buffer=4096
		closed window | client | $1 | continued | buffer=16384 stops
		closed window, none of the three | bare | $1 | continued | buffer=16384 stops
		half-closed behind the request | client | $1 | continued | port=81 half-close held=90000 get=lines
		keep-alive probes, idle | client | $1 | continued | idle keepalive get=index.html
		none of the three, idle | bare | $1 | continued | idle get=index.html
		leaves | leaving | $1 | continued | leaves get=index.html
		in the handshake | client | $1 | reset | unknown port=84 held=-1 get=lines
	TABLE
	for name in client nostamps nosack noscale bare narrow; do
		cat <<-TABLE
			$name, waiting | $name | $1 | continued | port=81 held=-1 get=never want=lines
			$name, in the head | $name | $1 | continued | port=83 held=300 get=long-head want=lines
		TABLE
	done
}
{
	table $V4
	echo "fragments of the request | split | $V4 | reset | 'unprotected (early)' padding=3000"
	[[ $SIZE == small ]] || table $V6
} >"$SITE/table"
python3 "$lib/download.py" "$SITE/www" "$SITE/ready" "$SITE/go" "$SITE/b.log" <"$SITE/table" &
table=$!
until_true 60 in_the_head
let_through &
matrix_crash a b "$table"
