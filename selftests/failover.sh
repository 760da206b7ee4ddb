# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock,debug sample=next timeout=180
# A download outlives its server, IPv4 and IPv6 (topology: lib/site.sh).
#
# curl fetches an object from the service address; in the middle of it node a dies and
# node b takes over. The object arrives whole, on the same connection.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

site_up a b
object index.html 100
object big $((24 << 20))
site_start

download() {
	local name=$1 url=$2
	in_ns client curl -sS --limit-rate 6M -o "$SITE/$name" \
		-w '%{num_connects} %{http_code}\n' "$url" >"$SITE/$name.out" &
	echo $! >"$SITE/$name.pid"
}

finished() {
	wait "$(<"$SITE/$1.pid")" || fail "curl failed: $1"
	[[ $(<"$SITE/$1.out") == "1 200" ]] || fail "$1: $(<"$SITE/$1.out")"
	same big "$SITE/$1"
}

watch_begin

download v4 "http://$V4/big"
download v6 "http://[$V6]/big"
until_true 20 size_over "$SITE/v4" $((6 << 20))
until_true 20 size_over "$SITE/v6" $((6 << 20))
node_crash a
until_true 10 owns b
finished v4
finished v6
watch_end 2
in_ns b holdfast stats | grep -E 'spliced|client_reset' || true
echo "ok"
