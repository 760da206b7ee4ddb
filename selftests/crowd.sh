# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock full=stock timeout=2400 mem=2048
# Many downloads at once and many idle connections outlive their server: 100 and 1,000, or with
# HOLDFAST_SIZE=full 1,000 and 20,000 (topology: lib/site.sh). Every download has the right bytes, and
# every idle connection the answer to its next request. Few are recovered at once: the others wait, some
# of them for longer than an orphan may.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
lib=$(dirname "$0")/lib

case $SIZE in
small) downloads=100 idle=1000 concurrency=2 ;;
full) downloads=1000 idle=20000 concurrency=16 ;;
esac
NODE_MORE=$'[recovery]\nconcurrency = '$concurrency
# With fewer than a sixteenth of them free, nginx closes those that are idle (ngx_drain_connections).
NGINX_CONNECTIONS=$(((downloads + idle) * 5 / 4 + 1000))
site_up a b
object index.html 100
object some $((400 << 10))
sources=10.0.0.9
for ((i = 101; i <= 104; i++)); do
	ip -n client addr add "10.0.0.$i/24" dev eth0
	sources+=,10.0.0.$i
done
site_start

in_ns client python3 "$lib/crowd.py" "$V4" "$sources" $downloads $idle "$SITE/www" "$SITE/ready" "$SITE/go" &
crowd=$!
end=$((SECONDS + 1500))
until [[ -e $SITE/ready ]]; do
	kill -0 $crowd 2>/dev/null || fail "the clients ended early"
	((SECONDS < end)) || fail "the clients are never where the server is to die"
	read -rt 0.1 <> <(:) || true
done
# All that b needs must have been told.
told() {
	local records
	records=$(in_ns b holdfast status -j --socket "$SITE/b.sock" | grep -o '"records_of_peers":[0-9]*')
	((${records#*:} >= downloads + idle))
}
until_true 30 told
grep -E '^(MemTotal|MemAvailable)' /proc/meminfo
node_crash a
until_true 30 owns b
touch "$SITE/go"
wait $crowd || fail "see above"
in_ns b holdfast stats | grep -E '^(located|spliced|client_reset|orphan_limit|ghost_lost) ' || true
(($(count b client_reset) == 0)) || fail "b has reset a client"
