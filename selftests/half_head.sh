# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock timeout=120
# A web server dies inside the head of its response, and starts again: the client gets the whole
# answer of the new one, long before hold-ms, and nothing of the old one (topology: lib/site.sh).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
lib=$(dirname "$0")/lib
HOLD_MS=10000

# Its answer to /half stops behind 30 bytes.
serve() {
	in_ns "$1" python3 "$lib/answers.py" serve stall &
}

# What the old one has left may keep the port for a moment: then it fails, with status 1.
serve_again() {
	in_ns a bash -c "until python3 $lib/answers.py serve $*; do ((\$? == 1)) || exit; done" 2>/dev/null &
}

server_dies() {
	ip netns pids a | while read -r pid; do
		[[ $(<"/proc/$pid/comm") != python3 ]] || kill -9 "$pid"
	done
}

site_up a
site_start
for host in "$V4" "[$V6]"; do
	held=$(count a held) lost=$(count a close_held) spliced=$(count a spliced)
	in_ns client curl -sS -o "$SITE/got" "http://$host/half" &
	client=$!
	until_true 20 reached a held $((held + 1))
	server_dies
	until_true 5 reached a close_held $((lost + 1))
	serve_again
	wait $client || fail "the client got no answer"
	seq -f %07g 0 24999 | cmp - "$SITE/got" || fail "the answer is another one"
	until_true 5 reached a spliced $((spliced + 1))
	if [[ $host == "$V4" ]]; then
		server_dies
		serve_again stall
		until_true 20 in_ns client curl -sf -o /dev/null "http://$V4/?calm"
	fi
done
(($(count a hold_timeout) == 0)) || fail "something waited for hold-ms"
in_ns a holdfast stats | grep -E '^close_'
