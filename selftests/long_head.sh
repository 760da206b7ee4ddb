# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock timeout=120
# A head of several packets to a client that is far away, from a server without super-packets: the data
# gate holds them all until the head is whole, and they must not stop the server from saying the rest
# (topology: lib/site.sh).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
HOLD_MS=10000

serve() {
	in_ns "$1" python3 "$LIB/answers.py" serve &
}

site_up a
site_start
in_ns a ethtool -K eth0 tso off gso off >/dev/null
in_ns client tc qdisc add dev eth0 root netem limit 1000 delay 100ms
for host in "$V4" "[$V6]"; do
	held=$(count a held) committed=$(count a committed)
	in_ns client curl -sSf -o "$SITE/got" "http://$host/long-head"
	seq -f %07g 0 24999 | cmp - "$SITE/got" || fail "other bytes"
	# Behind this one there is nothing: its last segment is a short one.
	in_ns client curl -sSf -I -o "$SITE/head" "http://$host/long-head"
	grep -q '^X-Pad: yyy' "$SITE/head" || fail "not the head"
	(($(count a held) >= held + 5)) || fail "the head was not held"
	(($(count a committed) >= committed + 2)) || fail "there was no commit"
done
(($(count a hold_timeout) == 0)) || fail "the head waited for hold-ms"
echo "ok"
