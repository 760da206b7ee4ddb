# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=240
# The server dies between two requests (topology: lib/site.sh): three objects over one connection;
# a dies after the first, b after the second. In the head of a response: head.sh.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

session() {
	in_ns client python3 "$(dirname "$0")/lib/session.py" "$@"
}

answers() {
	(($(wc -l <"$1") >= $2))
}

site_up a b c
object index.html 100
object one 300000
object two 70000
object three 1000
site_start

# One after the other, as each crash needs a machine.
session "$V4" "$SITE/gate" /one /two /three >"$SITE/v4" &
v4=$!
session "$V6" "$SITE/gate" /one /two /three >"$SITE/v6" &
v6=$!
until_true 20 answers "$SITE/v4" 1
until_true 20 answers "$SITE/v6" 1
node_crash a
until_true 20 owns b
touch "$SITE/gate.1"
until_true 60 answers "$SITE/v4" 2
until_true 60 answers "$SITE/v6" 2
node_crash b
until_true 20 owns c
touch "$SITE/gate.2"
wait $v4 || fail "the IPv4 session broke"
wait $v6 || fail "the IPv6 session broke"
for name in one two three; do
	echo "200 $(digest "$SITE/www/$name")"
done >"$SITE/wanted"
diff "$SITE/wanted" "$SITE/v4" || fail "wrong bytes over IPv4"
diff "$SITE/wanted" "$SITE/v6" || fail "wrong bytes over IPv6"
