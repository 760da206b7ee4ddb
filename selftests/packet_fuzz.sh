# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=240
# Packets of every wrong kind (lib/hostile.py) at a protected service, while ordinary clients
# download from it: these get their bytes, what was wrong is counted, and the kernel is silent.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

seed=${HOLDFAST_SEED:-$RANDOM}
seconds=${HOLDFAST_FUZZ_SECONDS:-20}
echo "HOLDFAST_SEED=$seed"
site_up a b
object index.html 100
object big $((4 << 20))
site_start

# The hostile client has addresses that no stack has, so that none answers in its place.
mac=$(in_ns client cat /sys/class/net/eth0/address)
for node in a b; do
	ip -n "$node" neigh add 10.0.0.66 lladdr "$mac" dev eth0
	ip -n "$node" neigh add fd00::66 lladdr "$mac" dev eth0
done

in_ns client python3 "$(dirname "$0")/lib/hostile.py" "$seconds" "$seed" &
hostile=$!
round=0
while kill -0 "$hostile" 2>/dev/null || ((round == 0)); do
	for url in "http://$V4/big" "http://[$V6]/big"; do
		in_ns client curl -sSf --max-time 60 --limit-rate 4M -o "$SITE/got" "$url" || fail "round $round: $url"
		same big "$SITE/got"
	done
	round=$((round + 1))
done
wait "$hostile" || fail "the hostile client"
echo "$round rounds of downloads arrived"

in_ns a holdfast stats | tee "$SITE/stats"
counted() {
	grep -qE "^ *$1 +[1-9]|^$1[: ]" "$SITE/stats" || fail "$1 was not counted"
}
counted checksum_bad
counted malformed
counted orphan
counted extension_header
owns a || fail "the owner changed"
in_ns client curl -sf -o /dev/null "http://$V4/"
echo "ok"
