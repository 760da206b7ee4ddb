# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=400
# A daemon that was killed and is started again finds the connections that are there (topology:
# lib/site.sh).
#
# a's daemon dies while it holds the responses of two of three keep-alive connections. These ask
# again, and outlive a from there on; the third one asks nothing and is reset. Then a is back and b
# dies; a's daemon is killed between the takeover and its splice. The record died with it: the client
# is reset by the module.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

session() {
	in_ns client python3 "$LIB/session.py" "$@" 2>&1 &
}

# daemon SIGNAL NODE; server SIGNAL NODE: a signal to all processes of the kind.
processes() {
	local pid
	ip netns pids "$2" | while read -r pid; do
		[[ $(<"/proc/$pid/comm") != "$1" ]] || echo "$pid"
	done
}

daemon() {
	kill "-$1" $(processes holdfastd "$2")
}

server() {
	kill "-$1" $(processes nginx "$2")
}

stopped() {
	local pid
	for pid in $(processes nginx "$1"); do grep -q '^State:.T' "/proc/$pid/status" || return 1; done
}

again() {
	daemon KILL "$1"
	rm -f "$SITE/$1.sock"
	daemon_start "$1"
	until_true 20 test -S "$SITE/$1.sock"
}

# says NODE PATTERN: what its daemon says of itself.
says() {
	prints "$2" in_ns "$1" holdfast status --socket "$SITE/$1.sock" -j
}

linked() {
	local node
	for node; do says "$node" '"linked": ?true' && says "$node" '"alive"' || return 1; done
}

site_up a b
object index.html 100
for name in one two three four; do object $name 30000; done
# More than the client's kernel takes in: a connection whose client has everything is an idle one, and
# joined without asking the server.
object big $((16 << 20))
site_start
until_true 20 linked a b

echo "a's daemon is killed while responses are held"
session "$V4" "$SITE/gate" /one /two /three /four >"$SITE/v4"
v4=$!
session "$V6" "$SITE/gate" /one /two /three /four >"$SITE/v6"
v6=$!
session "$V4" "$SITE/quiet" /one /two >"$SITE/quiet"
quiet=$!
until_true 120 answered 1 "$SITE/v4" "$SITE/v6" "$SITE/quiet"
held=$(count a held)
daemon STOP a
touch "$SITE/gate.1"
until_true 20 reached a held $((held + 2))
answered 2 "$SITE/v4" && fail "the response was not held"
again a
until_true 60 answered 2 "$SITE/v4" "$SITE/v6"
owns a || fail "a has lost the address"
until_true 20 linked a b
says a '"flows-adopted": ?3' || fail "$(in_ns a holdfast status --socket "$SITE/a.sock" -j)"

echo "two ask again; a dies"
touch "$SITE/gate.2"
until_true 60 answered 3 "$SITE/v4" "$SITE/v6"
node_crash a
until_true 20 owns b
touch "$SITE/gate.3" "$SITE/quiet.1"
wait $v4 || fail "IPv4: $(<"$SITE/v4")"
wait $v6 || fail "IPv6: $(<"$SITE/v6")"
for name in one two three four; do echo "200 $(digest "$SITE/www/$name")"; done >"$SITE/wanted"
diff "$SITE/wanted" "$SITE/v4" || fail "wrong bytes over IPv4"
diff "$SITE/wanted" "$SITE/v6" || fail "wrong bytes over IPv6"
wait $quiet && fail "what nobody had recorded was continued"
grep -q ConnectionResetError "$SITE/quiet" || fail "$(<"$SITE/quiet")"
grep -q '^recovery-refused .*why="unprotected (lost)"' "$SITE/b.log" || fail "no reason"

echo "a's daemon is killed between takeover and splice"
ip -n a addr del "$V4/24" dev eth0 2>/dev/null || true
ip -n a addr del "$V6/64" dev eth0 2>/dev/null || true
node_return a
until_true 20 linked a b
in_ns client curl -sS --limit-rate 100k -o "$SITE/got" "http://$V4/big" 2>"$SITE/said" &
curl=$!
until_true 30 size_over "$SITE/got" 100000
# Its server takes the connection of the ghost and says nothing.
server STOP a
until_true 10 stopped a
begun=$(grep -c '^recovering' "$SITE/a.log" || true)
node_crash b
until_true 20 owns a
recovering() {
	(($(grep -c '^recovering' "$SITE/a.log") > begun))
}
until_true 20 recovering
again a
owns a || fail "a has lost the address"
server CONT a
before=$SECONDS
wait $curl && fail "curl has more than anybody knew"
grep -qi reset "$SITE/said" || fail "$(<"$SITE/said")"
# The ghost has ten seconds, and so has the daemon behind it.
((SECONDS - before <= 30 * SLOW)) || fail "the client was left waiting"
reached a not_recovered 1 || fail "not counted"
in_ns client curl -sS -o "$SITE/new" "http://$V4/one" || fail "a new connection does not work"
same one "$SITE/new"
