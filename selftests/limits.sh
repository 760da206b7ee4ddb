# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=400
# More than the module keeps of what anybody can send (topology: lib/site.sh): more orphans than may
# wait for a verdict, more handshakes than may be under way, more packets than a flow may hold; a
# flow whose socket goes without a word, and packets that cannot leave. Each is counted, no connection
# breaks by it, and later ones are protected as ever. A debug kernel is too slow for that many
# handshakes in the minute that each may take: there they only end.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

# Of namespace.rs.
MAX_ORPHANS=4096
MAX_OPENINGS=65536
# Long enough for all orphans to come in it.
VERDICT_MS=$((8000 * SLOW))
SERVICE_MORE="verdict-ms = $VERDICT_MS"

# Stops, or lets go on, the daemon of a.
signal() {
	ip netns pids a | while read -r pid; do
		[[ $(<"/proc/$pid/comm") != holdfastd ]] || kill "-$1" "$pid"
	done
}

# flood KIND FIRST COUNT
flood() {
	in_ns client python3 "$LIB/flood.py" "$@" "$GATE"
}

# A download that is protected, from its record on.
protected() {
	local before
	before=$(count a committed)
	in_ns client curl -sSf --max-time 60 -o "$SITE/got" "http://$V4/big" || fail "$1: the download"
	same big "$SITE/got"
	reached a committed $((before + 1)) || fail "$1: a download is not protected"
}

site_up a
object index.html 100
object big $((1 << 20))
site_start
GATE=$(in_ns a cat /sys/class/net/eth0/address)
protected "before all"

echo "more packets than a flow may hold"
# Each segment is a packet, and the first window has more than 32; nor does the socket wait until
# some of them are gone (TCP small queues): its pace allows for them.
ip -n a link set dev eth0 gso_max_segs 1
in_ns a sysctl -qw net.ipv4.tcp_pacing_ss_ratio=1000
ip -n a route change 10.0.0.0/24 dev eth0 src 10.0.0.1 initcwnd 1000
ip -n client route change 10.0.0.0/24 dev eth0 src 10.0.0.9 initrwnd 100
signal STOP
in_ns client curl -sSf --max-time 60 -o "$SITE/got" "http://$V4/big" &
curl=$!
until_true 30 reached a hold_limit 1
signal CONT
wait $curl || fail "the download that waited"
same big "$SITE/got"
protected "after what was held"

echo "packets that cannot leave"
in_ns a python3 "$LIB/flood.py" locate
until_true 30 reached a emit_failed 1
echo "more orphans than may wait"
signal STOP
flood ack 0 $((MAX_ORPHANS + 500))
until_true 30 reached a orphan_limit 500
(($(count a orphan) == MAX_ORPHANS)) || fail "$(count a orphan) orphans wait"
signal CONT
# Each gets a verdict or goes to the stack: there is room for others.
sent=$((MAX_ORPHANS + 500))
room() {
	flood ack $sent 10
	sent=$((sent + 10))
	(($(count a orphan) >= MAX_ORPHANS + 10))
}
until_true 60 room
before=$(count a orphan_limit)
flood ack $sent 10
(($(count a orphan_limit) == before)) || fail "orphans are dropped for ever"
protected "after the orphans"

echo "a flow whose socket goes without a word"
in_ns client python3 -c '
import socket, time
s = socket.create_connection(("10.0.0.80", 80))
s.sendall(b"GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n")
s.recv(4096)
print("idle", flush=True)
time.sleep(600)' >"$SITE/idle" &
idle=$!
until_true 30 grep -q idle "$SITE/idle"
in_ns a nft -f - <<-NFT
	table inet mute {
		chain out {
			type filter hook output priority filter
			tcp flags & rst == rst counter drop
		}
	}
NFT
in_ns a ss -Kt state established dport = :"$(in_ns client ss -Htn state established dst "$V4" | awk '{ sub(/.*:/, "", $3); print $3 }' | head -1)" >/dev/null
in_ns a nft list table inet mute | grep -q 'packets [1-9]' || fail "the socket is still there"
in_ns a nft delete table inet mute

echo "more handshakes than may be under way"
half=$((SLOW == 1 ? MAX_OPENINGS / 2 + 300 : 2000))
flood syn 0 $half &
other=$!
flood syn $half $half
wait $other
if ((SLOW == 1)); then
	reached a opening_limit 500 || fail "$(count a opening_limit) beyond the limit"
	before=$(count a opening_limit)
	in_ns client curl -sSf --max-time 60 -o "$SITE/got" "http://$V4/big" || fail "a download beside the flood"
	same big "$SITE/got"
	reached a opening_limit $((before + 1)) || fail "the download had a place in the table"
fi
(($(count a flow_limit) == 0)) || fail "the table is full"
until_true 90 reached a handshake_timeout $((SLOW == 1 ? MAX_OPENINGS : 2 * half))
protected "after the flood"
until_true 60 reached a flow_expired 1
kill $idle

protected "after all"
in_ns a holdfast stats
echo "ok"
