# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=180
# holdfastd may be killed at any time: connections go on, new ones work, the module can be removed.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

site_up a
object index.html 100
object big $((16 << 20))
site_start

in_ns client curl -sS --limit-rate 4M -o "$SITE/got" "http://$V4/big" &
curl=$!
until_true 30 size_over "$SITE/got" $((4 << 20))
ip netns pids a | while read -r pid; do
	[[ $(<"/proc/$pid/comm") != holdfastd ]] || kill -9 "$pid"
done
in_ns client curl -sS -o "$SITE/new" "http://$V4/index.html" || fail "a new connection does not work"
same index.html "$SITE/new"
wait $curl || fail "the old connection broke"
same big "$SITE/got"

prints "$V4" in_ns a holdfast service show || fail "the kernel forgot its services"
rmmod holdfast || fail "the module is in use"
in_ns client curl -sS -o "$SITE/after" "http://$V4/index.html" || fail "no connection without the module"
same index.html "$SITE/after"
insmod "$HOLDFAST_KO"
