# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock timeout=600
# An object of 9 GiB, larger than all sequence numbers, whose server dies after 4 GiB
# (topology: lib/site.sh). It is sparse, with a mark of its own in each GiB.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

GIB=$((1 << 30))
site_up a b
object index.html 100
truncate -s $((9 * GIB)) "$SITE/www/huge"
for ((i = 0; i < 9; i++)); do
	echo "mark $i" | dd of="$SITE/www/huge" bs=1 seek=$((i * GIB + 12345)) conv=notrunc status=none
done
site_start

in_ns client python3 "$(dirname "$0")/lib/compare.py" "$V4" /huge "$SITE/www/huge" "$SITE/far" &
client=$!
until_true 400 test -e "$SITE/far"
node_crash a
wait $client || fail "not the same bytes"
