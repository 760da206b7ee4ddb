# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=none full=debug timeout=300
# Allocations that must not wait fail, as where softirqs find no memory: first only those of flows, then
# of anything (topology: lib/site.sh). Downloads get every byte; whose flow there was no memory for is
# an ordinary connection, and is counted. The server dies beside it, too: who is continued or not,
# nobody gets a wrong byte. Then those of netlink requests (lib/starve.py).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

DEBUG=/sys/kernel/debug
SLAB=/sys/kernel/slab
seed=${HOLDFAST_SEED:-$RANDOM}
echo "HOLDFAST_SEED=$seed"
[[ -d $DEBUG/failslab ]] || {
	echo "this kernel does not let allocations fail"
	exit 4
}

# set_fail NAME=VALUE...: of failslab.
set_fail() {
	local one
	for one; do
		echo "${one#*=}" >"$DEBUG/failslab/${one%%=*}"
	done
}

calm() {
	set_fail probability=0
	! [[ -d $DEBUG/fail_page_alloc ]] || echo 0 >"$DEBUG/fail_page_alloc/probability"
}

# Allocations from these caches may fail: fail_of CACHE...
fail_of() {
	local cache
	for cache in "$SLAB"/*/failslab; do
		echo 0 >"$cache" 2>/dev/null || true
	done
	for cache; do
		echo 1 >"$SLAB/$cache/failslab"
	done
}

# N downloads of each family, one after the other.
downloads() {
	local n url
	for ((n = 0; n < $1; n++)); do
		for url in "http://$V4/some" "http://[$V6]/some"; do
			in_ns client curl -sSf --max-time 120 -o "$SITE/got" "$url" || fail "$2: $url"
			same some "$SITE/got"
		done
	done
}

site_up a b
object index.html 100
object some $((400 << 10))
object big $((4 << 20))
site_start
ends() {
	local status=$?
	set +e
	calm
	(exit $status)
	site_down
}
trap ends EXIT
# All that may wait for memory gets it.
set_fail probability=0 interval=1 times=-1 space=0 verbose=0 task-filter=N ignore-gfp-wait=Y cache-filter=Y

echo "flows"
fail_of holdfast_flow
opened=$(count a flow_opened)
set_fail probability=50
downloads 10 "half of all flows"
calm
short=$(count a no_memory)
opened=$(($(count a flow_opened) - opened))
echo "$opened of 20 were followed, $short times there was no memory"
((short > 0 && opened > 0 && opened < 20 && short >= 20 - opened)) || fail "the counters say otherwise"

echo "anything"
# But what finds mistakes needs its own.
caches=()
for cache in "$SLAB"/kmalloc-[0-9]* "$SLAB"/skbuff_* "$SLAB"/holdfast_flow; do
	# One of several names of one cache cannot be marked.
	! echo 1 >"$cache/failslab" 2>/dev/null || caches+=("${cache##*/}")
done
echo "${#caches[@]} caches"
fail_of "${caches[@]}"
echo 1 >"$DEBUG/fail_page_alloc/interval"
echo -1 >"$DEBUG/fail_page_alloc/times"
echo 0 >"$DEBUG/fail_page_alloc/verbose"
echo 0 >"$DEBUG/fail_page_alloc/min-order"
echo Y >"$DEBUG/fail_page_alloc/ignore-gfp-wait"
set_fail probability=10
echo 3 >"$DEBUG/fail_page_alloc/probability"
downloads 8 "a few of all allocations"
(($(count a no_memory) + $(count a emit_failed) + $(count a log_full) > short)) || fail "nothing of the module has failed"

echo "the server dies"
curls=()
for url in "http://$V4/big" "http://[$V6]/big"; do
	in_ns client curl -sS --max-time 200 --limit-rate 1M -o "$SITE/got.${#curls[@]}" "$url" &
	curls+=($!)
done
for n in 0 1; do
	until_true 60 size_over "$SITE/got.$n" 500000
done
node_crash a
until_true 60 owns b
for n in 0 1; do
	if wait "${curls[n]}"; then
		same big "$SITE/got.$n"
		echo "continued"
	else
		cmp -n "$(stat -c %s "$SITE/got.$n")" "$SITE/www/big" "$SITE/got.$n" || fail "wrong bytes"
		echo "not continued"
	fi
done
calm
downloads 1 "after all"
in_ns b holdfast stats

echo "requests"
set_fail task-filter=Y ignore-gfp-wait=N probability=15
python3 "$LIB/starve.py" $((SLOW * 5)) "$seed" || fail "requests"
calm
echo "ok"
