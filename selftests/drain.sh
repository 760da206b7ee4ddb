# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=next timeout=300
# Planned hand-overs in the middle of downloads, and of a handshake: a to b, b to a, and a daemon
# that is stopped (topology: lib/site.sh, and other clients at 10.0.0.8 and 10.0.0.7). One connection, no reset,
# every byte right; the stall is printed. Before that, a client whose response cannot be handed over, and which only
# listens, is told so, though its acknowledgements are late.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

# holdfast COMMAND... on a node: ask NODE COMMAND...
ask() {
	local name=$1
	shift
	in_ns "$name" holdfast "$@" --socket "$SITE/$name.sock"
}

drained_to() {
	ask "$1" drain --deadline 5 && owns "$2"
}

CLIENTS=(client slow far)
NUMBER+=([slow]=8 [far]=7)
# With this nobody knows where a response ends.
NGINX_MORE=$'location /endless/ { alias '"$SITE/www/"$'; gzip on; gzip_types *; gzip_min_length 0; }'
site_up a b
object index.html 100
object big $((30 << 20))
for name in a b; do
	nginx_start "$name"
done
daemon_start a
until_true 20 owns a
until_true 20 in_ns client curl -sf -o /dev/null "http://$V4/"

echo "without a peer: refused, and nothing changes"
if ask a drain --deadline 1 2>"$SITE/why"; then
	fail "drained to nobody"
fi
grep -q "no peer is ready" "$SITE/why" || fail "$(<"$SITE/why")"
owns a || fail "a gave the address up"

daemon_start b
until_true 20 test -S "$SITE/b.sock"
ready() {
	prints '"linked":true[^}]*"willing":true' ask "$1" -j status
}
until_true 20 ready b

echo "a client that cannot be handed over"
in_ns far tc qdisc add dev eth0 root netem limit 1000 delay 200ms
in_ns far curl -sS --compressed --limit-rate 1M -o "$SITE/far" "http://$V4/endless/big" 2>"$SITE/told" &
far=$!
until_true 30 size_over "$SITE/far" 1000000
until_true 20 drained_to a b
# It waits for no more than that: nobody would tell it later.
until_true 10 grep -qi reset "$SITE/told"
wait "$far" && fail "it was continued"
in_ns a holdfast stats | grep -E '^client_reset '
ask a undrain
until_true 20 ready a
until_true 20 drained_to b a
ask b undrain
until_true 20 ready b

steady_begin
steady_at 3

# A connection in its handshake: what its client sends after the SYN is lost, as yet.
handshaking() {
	prints 'phase opening' in_ns a holdfast flow show
}
in_ns slow nft -f - <<-END
	table ip lossy {
		chain out {
			type filter hook output priority 0
			tcp flags & syn == 0 drop
		}
	}
END
in_ns slow python3 "$LIB/session.py" "$V4" - /index.html >"$SITE/shaken" &
shaking=$!
until_true 20 handshaking

echo "a to b"
until_true 20 drained_to a b
if owns a; then
	fail "both own it"
fi
prints "drained to b" ask a status --why || fail "the status of a does not say so"
ask a undrain
in_ns slow nft delete table ip lossy
wait "$shaking" || fail "a connection ended in its handshake"
prints "200 $(sha256sum <"$SITE/www/index.html" | cut -d' ' -f1)" cat "$SITE/shaken"
steady_at 10

echo "b to a"
until_true 20 drained_to b a
steady_at 16
ask b undrain

echo "the daemon on a is stopped"
until_true 20 ready a
ip netns pids a | while read -r pid; do
	[[ $(<"/proc/$pid/comm") != holdfastd ]] || kill -TERM "$pid"
done
until_true 20 owns b
if grep -q peer-dead "$SITE/b.log"; then
	fail "b had to find out"
fi
steady_end
in_ns client curl -sS -o "$SITE/new" "http://$V4/index.html" || fail "a new connection does not work"
same index.html "$SITE/new"
in_ns b holdfast stats | grep -E 'spliced|client_reset|unlocated' || true
echo "ok"
