# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock timeout=600
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

received() {
	(($(in_ns client cat /sys/class/net/eth0/statistics/rx_bytes) > $1))
}

in_ns client curl -sS -o - "http://$V4/huge" | cmp - "$SITE/www/huge" &
curl=$!
until_true 300 received $((4 * GIB + GIB / 4))
node_crash a
wait $curl || fail "not the same bytes"
