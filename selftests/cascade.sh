# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=240
# One download outlives two servers, a and then b (topology: lib/site.sh).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

site_up a b c
object index.html 100
object big $((24 << 20))
site_start

in_ns client curl -sS --limit-rate 3M -o "$SITE/got" -w '%{num_connects}' "http://$V4/big" >"$SITE/out" &
curl=$!
until_true 30 size_over "$SITE/got" $((6 << 20))
node_crash a
until_true 20 owns b
until_true 60 size_over "$SITE/got" $((14 << 20))
node_crash b
until_true 20 owns c
wait $curl || fail "curl failed"
[[ $(<"$SITE/out") == 1 ]] || fail "more than one connection"
same big "$SITE/got"
