# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=240
# A node whose daemon is killed is silent to its peer, although its kernel and web server live
# (topology: lib/site.sh). Its machine answers for its address, so nothing moves. Where nobody
# asks it, both have the address for a while: the download goes on, and once the daemon is back
# the node gives the address up.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

download() {
	rm -f "$SITE/got"
	in_ns client curl -sS --limit-rate 4M -o "$SITE/got" -w '%{num_connects}' "http://$V4/big" >"$SITE/out" &
	curl=$!
	until_true 30 size_over "$SITE/got" $((4 << 20))
}

check() {
	wait $curl || fail "curl failed"
	[[ $(<"$SITE/out") == 1 ]] || fail "more than one connection"
	same big "$SITE/got"
}

daemon_kill() {
	ip netns pids "$1" | while read -r pid; do
		[[ $(<"/proc/$pid/comm") != holdfastd ]] || kill -9 "$pid"
	done
	rm -f "$SITE/$1.sock"
}

health() {
	grep -q "\"$1\"" <<<"$(in_ns b holdfast status --socket "$SITE/b.sock" -j || true)"
}

owns_not() {
	! owns "$1"
}

site_up a b
object index.html 100
object big $((24 << 20))
site_start

download
daemon_kill a
until_true 20 health mute
daemon_start a
until_true 20 test -S "$SITE/a.sock"
until_true 20 health alive
check
owns a || fail "a has lost the address"
owns b && fail "b has taken the address"

for node in a b; do
	daemon_kill $node
done
CHECK=none
for node in a b; do
	daemon_start $node
	until_true 20 test -S "$SITE/$node.sock"
done
until_true 20 health alive
download
daemon_kill a
until_true 20 owns b
daemon_start a
until_true 20 test -S "$SITE/a.sock"
until_true 20 owns_not a
check
in_ns client curl -sS -o "$SITE/new" "http://$V4/index.html" || fail "a new connection does not work"
same index.html "$SITE/new"
