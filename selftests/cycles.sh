# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=400
# The module goes and comes beside 200 connections, none of which notices; and beside 200 connections
# that a server is taking over its namespace ends, and that of the dead one, and the module goes
# (topology: lib/site.sh). Again and again; what it leaves behind, a debug kernel says at its end.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

ROUNDS=2
[[ $SIZE == small ]] || ROUNDS=5
DOWNLOADS=50 IDLE=150

crowd_start() {
	rm -f "$SITE/ready" "$SITE/go"
	in_ns client python3 "$LIB/crowd.py" "$V4" 10.0.0.9 $DOWNLOADS $IDLE "$SITE/www" "$SITE/ready" "$SITE/go" &
	crowd=$!
	until_true 120 test -e "$SITE/ready"
	kill -0 $crowd || fail "the clients ended early"
}

# Starts all that a site has but its web servers: the module, and the daemons.
protect() {
	local name
	insmod "$HOLDFAST_KO"
	for name in "${NODES[@]}"; do
		rm -f "$SITE/$name.sock"
		daemon_start "$name"
		until_true 60 test -S "$SITE/$name.sock"
	done
	until_true 60 owns a
	until_true 60 protected
}

# A new connection is protected again; the counters are those of a new module.
protected() {
	in_ns client curl -sf -o /dev/null "http://$V4/index.html" && reached a committed 1
}

# Whether b could continue all of them.
told() {
	local records
	records=$(in_ns b holdfast status -j --socket "$SITE/b.sock" | grep -o '"records_of_peers":[0-9]*')
	((${records#*:} >= DOWNLOADS + IDLE))
}

unload() {
	until_true 60 rmmod holdfast
	! prints '^holdfast ' lsmod || fail "the module is still there"
}

site_up a b
object index.html 100
object some $((400 << 10))
site_start
for ((round = 1; round <= ROUNDS; round++)); do
	echo "round $round: the module goes"
	crowd_start
	until_true 60 reached a flow_opened $((DOWNLOADS + IDLE))
	for name in "${NODES[@]}"; do
		ip netns pids "$name" | while read -r pid; do
			[[ $(<"/proc/$pid/comm") != holdfastd ]] || kill -9 "$pid"
		done
	done
	unload
	touch "$SITE/go"
	wait $crowd || fail "round $round: a connection has noticed"
	protect

	echo "round $round: the namespaces go"
	crowd_start
	until_true 60 told
	node_crash a
	until_true 60 reached b spliced 10
	ip netns pids b | xargs -r kill -9
	for name in a b; do
		# What their sockets have to say goes nowhere; until they give up, they keep their namespace.
		in_ns "$name" sysctl -qw net.ipv4.tcp_orphan_retries=2
		ip -n lan link del dev "port-$name"
		ip netns del "$name"
	done
	kill $crowd 2>/dev/null || true
	wait $crowd 2>/dev/null || true
	unload
	for name in a b; do
		site_host "$name"
		in_ns "$name" sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1
		rm -f "$SITE/$name.pid"
		serve "$name"
	done
	protect
done
echo "ok"
