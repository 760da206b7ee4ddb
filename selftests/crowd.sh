# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock timeout=300
# A hundred downloads at once outlive their server (topology: lib/site.sh).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

COUNT=100
site_up a b
object index.html 100
object some $((1 << 20))
site_start

urls=()
for ((i = 0; i < COUNT; i++)); do
	urls+=(-o "$SITE/got.$i" "http://$V4/some")
done
in_ns client curl -sS -Z --parallel-immediate --parallel-max $COUNT --limit-rate 200K \
	-w '%{num_connects} %{http_code}\n' "${urls[@]}" >"$SITE/out" &
crowd=$!

all_begun() {
	local i
	for ((i = 0; i < COUNT; i++)); do
		size_over "$SITE/got.$i" 100000 || return 1
	done
}
until_true 120 all_begun
node_crash a
wait $crowd || fail "curl failed"
[[ $(grep -c '^1 200$' "$SITE/out") == "$COUNT" ]] || fail "not one connection each: $(sort "$SITE/out" | uniq -c)"
for ((i = 0; i < COUNT; i++)); do
	same some "$SITE/got.$i"
done
