# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=400
# Packets of every wrong kind (lib/hostile.py) at a protected service, while ordinary clients
# download from it, and while its server dies and b takes over: lies meet flows in each phase, also
# those that are located, joined or waited for. The downloads get their bytes, what was wrong is
# counted, and the kernel is silent.
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

# hostile SECONDS SEED, and rounds of downloads until it ends.
hostile() {
	in_ns client python3 "$LIB/hostile.py" "$@" &
	hostile=$!
}
URLS=("http://$V4/big" "http://[$V6]/big")
round=0
rounds() {
	local url
	while kill -0 "$hostile" 2>/dev/null; do
		for url in "${URLS[@]}"; do
			in_ns client curl -sSf --max-time 60 --limit-rate 4M -o "$SITE/got" "$url" || fail "round $round: $url"
			same big "$SITE/got"
		done
		round=$((round + 1))
	done
	wait "$hostile" || fail "the hostile client"
}
hostile $((seconds / 2)) "$seed"
rounds
echo "$round rounds of downloads arrived"

# At this pace they last until b has taken over.
hostile "$seconds" "$seed-again"
downloads=()
for n in "${!URLS[@]}"; do
	in_ns client curl -sSf --max-time 240 --limit-rate 300k -o "$SITE/got.$n" "${URLS[n]}" &
	downloads+=($!)
done
for n in "${!URLS[@]}"; do
	until_true 60 size_over "$SITE/got.$n" 1500000
done
node_crash a
until_true 60 owns b
for n in "${!URLS[@]}"; do
	wait "${downloads[n]}" || fail "through the death of the server: ${URLS[n]}"
	same big "$SITE/got.$n"
done
rounds
echo "$round rounds in all"

for name in a b; do
	in_ns $name holdfast stats
	for counter in checksum_bad malformed orphan extension_header; do
		reached $name $counter 1 || fail "$counter was not counted on $name"
	done
done
for counter in probe_sent located spliced; do
	reached b $counter 2 || fail "$counter: nothing was recovered on b"
done
owns b || fail "the owner changed again"
in_ns client curl -sf -o /dev/null "http://$V4/"
echo "ok"
