# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock timeout=600
# The web server dies, restarts and is upgraded in the middle of two downloads, while its machine
# lives; at last it stays away, and the downloads go on with b (topology: lib/site.sh). One
# connection each, no reset, every byte right.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

# What a case is, and how many downloads had gone on before it on a.
begin() {
	echo "$1"
	before=$(count a spliced)
}

went_on() {
	until_true 60 reached a spliced $((before + 2))
}

nginx_dies() {
	ip netns pids a | while read -r pid; do
		[[ $(<"/proc/$pid/comm") != nginx ]] || kill -9 "$pid"
	done
}

# A new server takes its time to start, and all who start it.
SERVICE_MORE="restart-ms = $((SLOW * 3000))"

site_up a b
object index.html 100
object big $((96 << 20))
for name in a b; do
	# What is in its socket still arrives after a server has died: a little.
	in_ns "$name" sysctl -qw net.ipv4.tcp_wmem='4096 65536 262144'
done
site_start
steady_begin
steady_at 2

begin "the worker is killed, the master starts another one"
kill -9 $(pgrep -P "$(<"$SITE/a.pid")")
went_on

begin "master and worker are killed, and started again later"
held=$(count a close_held)
nginx_dies
until_true 30 reached a close_held $((held + 2))
nginx_start a
went_on

begin "nginx is stopped and started"
in_ns a nginx -p "$SITE/a.nginx" -c "$SITE/a.conf" -s stop
until_true 10 test ! -e "$SITE/a.pid"
nginx_start a
went_on

begin "nginx leaves in order, and is started again"
in_ns a nginx -p "$SITE/a.nginx" -c "$SITE/a.conf" -s quit
until_true 10 test ! -e "$SITE/a.pid"
nginx_start a
went_on

begin "nginx is restarted, as its unit does"
in_ns a start-stop-daemon --quiet --stop --retry QUIT/5 --pidfile "$SITE/a.pid"
nginx_start a
went_on

begin "nginx takes another configuration: its old workers leave after a second"
workers=$(pgrep -P "$(<"$SITE/a.pid")")
in_ns a nginx -p "$SITE/a.nginx" -c "$SITE/a.conf" -s reload
went_on
for worker in $workers; do until_true 10 test ! -e "/proc/$worker"; done

begin "nginx is upgraded: its old workers leave after a second"
old=$(<"$SITE/a.pid")
kill -USR2 "$old"
until_true 20 test -e "$SITE/a.pid.oldbin"
new_master() {
	[[ -e $SITE/a.pid && $(<"$SITE/a.pid") != "$old" ]]
}
until_true 20 new_master
kill -WINCH "$old"
went_on
kill -QUIT "$old"

echo "nginx dies and stays away"
nginx_dies
until_true 60 owns b
until_true 60 reached b spliced 2
# It is not ready, and its exit status says so.
status=$(in_ns a holdfast status --socket "$SITE/a.sock" || true)
grep -q "drained to b" <<<"$status" || fail "a is not drained: $status"

steady_end
for name in a b; do
	(($(count "$name" client_reset) == 0)) || fail "$name has reset a client"
done
in_ns a holdfast stats | grep -E 'close_|spliced|late_socket|ghost_lost' || true
echo "ok"
