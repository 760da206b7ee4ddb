# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=240
# rmmod in the middle of everything: of a flow whose server is gone, of a translated one, of held
# packets (topology: lib/site.sh). It is refused as long as a connection needs the module or a daemon
# reads the log; once neither does, the module goes and nothing of it stays.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
# Until a server is started again, also on a slow machine.
SERVICE_MORE="restart-ms = 60000"

refused() {
	if rmmod holdfast 2>"$SITE/why"; then
		fail "$1: the module is gone"
	fi
	grep -q "in use" "$SITE/why" || fail "$1: $(<"$SITE/why")"
}

# Kills, or stops, what is called so on a: signal SIGNAL NAME.
signal() {
	ip netns pids a | while read -r pid; do
		[[ $(<"/proc/$pid/comm") != "$2" ]] || kill "-$1" "$pid"
	done
}

# Asks for the object on one connection, at a pace that stays: what was missed while the server was
# away is not made up for, so that it takes its time afterwards, too.
fetch() {
	rm -f "$SITE/got"
	in_ns client python3 "$LIB/steady.py" "$V4" /big "$SITE/got" 1000000 >"$SITE/out" 2>"$SITE/err" &
	client=$!
}

fetched() {
	wait $client || fail "the download broke: $(<"$SITE/err")"
	same big "$SITE/got"
}

begun() {
	until_true 120 size_over "$SITE/got" $((2 << 20))
}

# A download whose server is gone, the first one since the module came.
lose() {
	fetch
	begun
	signal KILL nginx
	until_true 60 reached a close_held 1
}

# It goes on with the server's successor, translated.
rejoin() {
	serve a
	until_true 60 reached a spliced 1
}

# A download whose first bytes nobody lets go.
hold() {
	local before
	before=$(count a held)
	signal STOP holdfastd
	fetch
	until_true 60 reached a held $((before + 1))
}

# The client was told that its download broke, and what it has is a part of it.
broken() {
	local size
	! wait $client || fail "the download went on without a server"
	size=$(stat -c %s "$SITE/got")
	cmp -n "$size" "$SITE/www/big" "$SITE/got" || fail "wrong bytes"
}

# From here on everything is as after boot: again.
again() {
	insmod "$HOLDFAST_KO"
	serve a 2>/dev/null || true
	rm -f "$SITE/a.sock"
	daemon_start a
	until_true 60 test -S "$SITE/a.sock"
	until_true 60 owns a
	until_true 60 in_ns client curl -sf -o /dev/null "http://$V4/index.html"
	reads
}

reads() {
	until_true 60 prints '"unread":0' in_ns a holdfast status -j --socket "$SITE/a.sock"
}

site_up a
object index.html 100
object big $((16 << 20))
in_ns a sysctl -qw net.ipv4.tcp_wmem='4096 65536 262144'
site_start

echo "the server is gone, and the flow waits for it"
lose
refused "a lost flow"
signal KILL holdfastd
broken
until_true 60 rmmod holdfast
again

echo "a translated flow, with a daemon and without"
lose
rejoin
refused "a translated flow"
signal KILL holdfastd
refused "a translated flow without a daemon"
fetched
until_true 60 rmmod holdfast
again

echo "a translated flow loses its server again"
lose
rejoin
size=$(stat -c %s "$SITE/got")
until_true 120 size_over "$SITE/got" $((size + (1 << 20)))
signal KILL nginx
until_true 60 reached a close_held 2
refused "a translated flow that is lost"
signal KILL holdfastd
broken
until_true 60 rmmod holdfast
again

echo "held packets: nobody reads the log"
hold
refused "held packets"
signal KILL holdfastd
until_true 60 rmmod holdfast
fetched
again

echo "held packets, and their device and namespace go"
hold
ip -n lan link del dev port-a
until_true 60 reached a held_freed 1
refused "a reader of the log"
ip netns pids a | xargs -r kill -9
ip netns del a
kill $client
until_true 60 rmmod holdfast
insmod "$HOLDFAST_KO"
echo "ok"
