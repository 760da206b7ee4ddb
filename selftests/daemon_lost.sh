# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=240
# A node whose daemon is killed looks dead to its peer, although its kernel and web server live:
# for a while both have the address. The download goes on, and once the daemon is back the node
# gives the address up (topology: lib/site.sh).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

site_up a b
object index.html 100
object big $((24 << 20))
site_start

in_ns client curl -sS --limit-rate 4M -o "$SITE/got" -w '%{num_connects}' "http://$V4/big" >"$SITE/out" &
curl=$!
until_true 30 size_over "$SITE/got" $((4 << 20))
ip netns pids a | while read -r pid; do
	[[ $(<"/proc/$pid/comm") != holdfastd ]] || kill -9 "$pid"
done
rm "$SITE/a.sock"
until_true 20 owns b
daemon_start a
until_true 20 test -S "$SITE/a.sock"
not_owner() {
	! owns a
}
until_true 20 not_owner
wait $curl || fail "curl failed"
[[ $(<"$SITE/out") == 1 ]] || fail "more than one connection"
same big "$SITE/got"
in_ns client curl -sS -o "$SITE/new" "http://$V4/index.html" || fail "a new connection does not work"
same index.html "$SITE/new"
