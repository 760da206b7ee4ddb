# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=300
# Two long downloads of which no range can be asked for, through the deaths of a process and of two
# machines: the service is declared deterministic, and each time the answer is said again from its
# first byte (topology: lib/site.sh). One connection each, no reset, every byte right.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

NGINX_MORE='etag off; max_ranges 0; add_header Last-Modified "";'
SERVICE_MORE='deterministic = true'

replayed() {
	until_true 60 reached "$1" spliced "$2"
	reached "$1" replayed "$2" || fail "$1 has not replayed"
}

site_up a b c
object index.html 100
object big $((40 << 20))
for name in a b c; do
	# What is in its socket still arrives after a server has died: a little.
	in_ns "$name" sysctl -qw net.ipv4.tcp_wmem='4096 65536 262144'
done
site_start
head=$(in_ns client curl -sD - -o /dev/null -r 0-9 "http://$V4/index.html")
[[ $head == *"200 OK"* && ${head,,} != *etag* && ${head,,} != *last-modified* ]] || fail "$head"
steady_begin

echo "a process dies"
steady_at 5
kill -9 $(pgrep -P "$(<"$SITE/a.pid")")
replayed a 2

echo "its machine dies"
steady_at 13
node_crash a
until_true 60 owns b
replayed b 2

echo "the next one dies"
steady_at 24
node_crash b
until_true 60 owns c
replayed c 2
prints 'replaying .*bytes' cat "$SITE/c.log"

steady_end
for name in a b c; do
	(($(count "$name" client_reset) == 0)) || fail "$name has reset a client"
done
in_ns c holdfast stats | grep -E 'replayed|straddle|spliced|ghost_' || true
echo "ok"
