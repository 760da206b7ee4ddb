# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=300
# Planned hand-overs in the middle of downloads: a to b, b to a, and a daemon that is stopped
# (topology: lib/site.sh). One connection, no reset, every byte right; the stall is printed.
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

steady() {
	in_ns client python3 "$(dirname "$0")/lib/steady.py" "$2" /big "$SITE/$1" 1500000 >"$SITE/$1.out" &
	echo $! >"$SITE/$1.pid"
}

finished() {
	wait "$(<"$SITE/$1.pid")" || fail "the download $1 broke"
	read -r status longest <"$SITE/$1.out"
	[[ $status == 200 ]] || fail "$1: $(<"$SITE/$1.out")"
	same big "$SITE/$1"
	echo "$1: longest wait $longest ms"
}

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
in_ns client tcpdump -qUni eth0 -w "$SITE/client.pcap" \
	'tcp[tcpflags] & (tcp-syn|tcp-rst) != 0 or (ip6[6] == 6 and ip6[53] & 6 != 0)' 2>/dev/null &
until_true 10 test -s "$SITE/client.pcap"
steady v4 "$V4"
steady v6 "$V6"
until_true 30 size_over "$SITE/v4" $((3 << 20))
until_true 30 size_over "$SITE/v6" $((3 << 20))

echo "a to b"
until_true 20 drained_to a b
if owns a; then
	fail "both own it"
fi
ask a status --why | grep -q "drained to b" || fail "the status of a does not say so"
ask a undrain
until_true 30 size_over "$SITE/v4" $((10 << 20))
until_true 30 size_over "$SITE/v6" $((10 << 20))

echo "b to a"
until_true 20 drained_to b a
until_true 30 size_over "$SITE/v4" $((16 << 20))
until_true 30 size_over "$SITE/v6" $((16 << 20))
ask b undrain

echo "the daemon on a is stopped"
ready() {
	ask a -j status | grep -q '"linked":true[^}]*"willing":true'
}
until_true 20 ready
ip netns pids a | while read -r pid; do
	[[ $(<"/proc/$pid/comm") != holdfastd ]] || kill -TERM "$pid"
done
until_true 20 owns b
if grep -q peer-dead "$SITE/b.log"; then
	fail "b had to find out"
fi
finished v4
finished v6
# One SYN and one SYN-ACK for each family, nothing else.
packets=$(tcpdump -nr "$SITE/client.pcap" 2>/dev/null)
(($(wc -l <<<"$packets") == 4)) || fail "$packets"
if grep -q 'Flags \[R' <<<"$packets"; then
	fail "$packets"
fi
in_ns client curl -sS -o "$SITE/new" "http://$V4/index.html" || fail "a new connection does not work"
same index.html "$SITE/new"
in_ns b holdfast stats | grep -E 'spliced|client_reset|unlocated' || true
echo "ok"
