# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=240
# Downloads over both families outlive two servers, a and then b (topology: lib/site.sh).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

site_up a b c
object index.html 100
object big $((24 << 20))
site_start

steady_begin
steady_at 6
node_crash a
until_true 20 owns b
steady_at 14
node_crash b
until_true 20 owns c
steady_end
for family in V4 V6; do
	grep -q "^spliced .*${!family}" "$SITE/c.log" || fail "c has not continued $family"
done
