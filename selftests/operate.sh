# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=300
# What who runs Holdfast does with it (topology: lib/site.sh): is the node ready, and why not;
# reload; observe; metrics; a report; a machine that dies and returns.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

eval "$(declare -f node_config | sed '1s/.*/plain_config()/')"
node_config() {
	plain_config "$1"
	printf '\n[metrics]\nlisten = "127.0.0.1:9480"\n\n[readiness]\ninterval-ms = 500\n'
}

# on NODE COMMAND...: a question to the node's daemon.
on() {
	local name=$1
	shift
	in_ns "$name" holdfast "$@" --socket "$SITE/$name.sock"
}

# status_is NODE STATUS: what the exit status of "holdfast status" is.
status_is() {
	local got=0
	on "$1" status --why >"$SITE/why" 2>&1 || got=$?
	((got == $2))
}

says() {
	# It fails where the node is not ready.
	{ on "$1" status --why 2>&1 || true; } | grep -E "$2" >/dev/null
}

metric() {
	in_ns "$1" curl -sf http://127.0.0.1:9480/metrics | sed -nE "s/^$2 ([0-9]+).*/\1/p" | grep .
}

counter() {
	in_ns "$1" holdfast stats --all | awk -v name="$2" '$1 == name { print $2 }'
}

rises() {
	(($(counter "$1" "$2") > $3))
}

reload() {
	on "$1" reload
}

download() {
	in_ns client curl -sS --limit-rate "$2" -o "$SITE/$1" -w '%{num_connects} %{http_code}\n' \
		"http://$V4/big" >"$SITE/$1.out" 2>"$SITE/$1.err" &
	echo $! >"$SITE/$1.pid"
	until_true 30 size_over "$SITE/$1" $((1 << 20))
}

# Without the module there is something to say, too.
if ! prints '^holdfast ' lsmod; then
	got=0
	holdfast status --socket /nonexistent >/dev/null 2>&1 || got=$?
	((got == 3)) || fail "status without the module: $got"
	holdfast bugreport --socket /nonexistent -o - | tar -tz | grep about.txt >/dev/null || fail "no report"
fi

site_up a b
object index.html 100
object big $((24 << 20))
site_start
mkdir "$SITE/www.b"
cp -p "$SITE"/www/* "$SITE/www.b"
sed -i "s#root $SITE/www;#root $SITE/www.b;#" "$SITE/b.conf"
in_ns b nginx -p "$SITE/b.nginx" -c "$SITE/b.conf" -s reload
until_true 30 status_is a 0
until_true 30 status_is b 0

# The idle node asks its own server for what the other one served.
in_ns client curl -sf -o "$SITE/got" "http://$V4/big"
same big "$SITE/got"
until_true 30 says b 'objects_same [1-9]'
touch -d '2001-01-01' "$SITE/www.b/big"
until_true 30 status_is b 5
says b 'object.*GET /big of 10.0.0.80 at 10.0.0.80:80: there 25165824 bytes ".*here status 200, 25165824 bytes "' ||
	fail "$(<"$SITE/why")"
[[ $(metric b holdfast_ready) == 0 ]] || fail "metrics say that b is ready"
touch -r "$SITE/www/big" "$SITE/www.b/big"
until_true 30 status_is b 0

# No server.
in_ns b nginx -p "$SITE/b.nginx" -c "$SITE/b.conf" -s stop
until_true 30 says b 'listener.*no server at 127.0.0.1:80'
in_ns b nginx -p "$SITE/b.nginx" -c "$SITE/b.conf"
until_true 30 status_is b 0

# A bad file changes nothing; what cannot be changed is named.
cp "$SITE/a.toml" "$SITE/a.good"
sed -i 's/^priority = 1/priority = 8/' "$SITE/a.toml"
reload a 2>"$SITE/said" && fail "a priority was changed"
grep -q 'a.toml: line 3: node.priority: cannot be changed' "$SITE/said" || fail "$(<"$SITE/said")"
echo 'nonsense = 1' >>"$SITE/a.toml"
reload a 2>"$SITE/said" && fail "nonsense was taken"
grep -q 'nonsense' "$SITE/said" || fail "$(<"$SITE/said")"
prints 'mode protect' in_ns a holdfast service show || fail "the service has changed"

# Observed from now on, here by a signal and there by a command.
for name in a b; do
	node_config "$name" | sed 's/^port = 80/port = 80\nmode = "observe"/' >"$SITE/$name.toml"
done
ip netns pids a | while read -r pid; do
	[[ $(<"/proc/$pid/comm") != holdfastd ]] || kill -HUP "$pid"
done
observed() {
	! prints 'mode protect' in_ns "$1" holdfast service show
}
until_true 20 observed a
prints 'service 10.0.0.80:80 changed' reload b || fail "nothing was changed on b"
observed b || fail "b still protects"
lowered=$(counter a ack_lowered) held=$(counter a held) swallowed=$(counter a ack_swallowed)
hold=$(counter a would_hold) ranges=$(metric a 'holdfast_responses_total.service="10.0.0.80:80",way="range".')
in_ns client curl -sf -o "$SITE/got" "http://$V4/big"
same big "$SITE/got"
until_true 10 rises a would_hold "$hold"
until_true 10 rises a would_lower 0
[[ "$(counter a ack_lowered) $(counter a held) $(counter a ack_swallowed)" == "$lowered $held $swallowed" ]] ||
	fail "packets of an observed service were changed"
(($(metric a 'holdfast_responses_total.service="10.0.0.80:80",way="range".') > ranges)) ||
	fail "what could be continued was not counted"

mptcp='import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(("10.0.0.80", 80))'
if in_ns client python3 -c "$mptcp" 2>/dev/null; then
	(($(counter a would_blank) > 0 && $(counter a mptcp_blanked) == 0)) || fail "an option was taken"
fi

# A crash is one, and what would have been is counted.
in_ns client python3 "$(dirname "$0")/lib/session.py" "$V4" "$SITE/gate" /index.html /index.html \
	>"$SITE/lost" 2>/dev/null &
lost=$!
has_records() {
	(($(metric b 'holdfast_peer_records.peer="a".') > 0))
}
until_true 20 grep -q 200 "$SITE/lost"
until_true 20 has_records
node_crash a
until_true 20 owns b
touch "$SITE/gate.1"
wait $lost && fail "an observed connection lives on"
until_true 20 rises b would_catch 0
metric b 'holdfast_flow_events_total.service="10.0.0.80:80",event="would-recover".' >/dev/null ||
	fail "b does not say what it would have done"
[[ $(counter b ghost_opened) == 0 && $(counter b orphan) == 0 ]] || fail "b did something"

# Protected again; the dead machine returns, and is ready once it has heard everything.
for name in a b; do
	node_config "$name" >"$SITE/$name.toml"
done
reload b >/dev/null
download kept 600k
ip -n a addr del "$V4/24" dev eth0
ip -n a addr del "$V6/64" dev eth0
ip -n lan link set dev port-a up
rm -f "$SITE/a.sock"
nginx_start a
daemon_start a
until_true 20 test -S "$SITE/a.sock"
until_true 30 status_is a 0
prints 'linked yes' on a status --why || fail "$(on a status --why)"

# A report has much in it, but neither secret nor client.
# Addresses of the configuration stay, and here the client is the gateway, too.
grep -v '^gateway' "$SITE/b.toml" >"$SITE/b.shown"
on b bugreport --config "$SITE/b.shown" -o "$SITE/report.tar.gz"
mkdir "$SITE/report"
tar -xzf "$SITE/report.tar.gz" -C "$SITE/report"
grep -rqF "$(<"$SITE/secret")" "$SITE/report" && fail "the secret is in the report"
grep -rqF 10.0.0.9 "$SITE/report" && fail "the client's address is in the report"
grep -q 'address-1:' "$SITE/report/holdfast-report/flows.json" || fail "no flows in the report"
grep -q '"flow_opened"' "$SITE/report/holdfast-report/stats.json" || fail "no counters in the report"
grep -q 'peer-dead' "$SITE/report/holdfast-report/daemon/timeline.json" || fail "no events in the report"
grep -q '"quorum"\|"heartbeat"' "$SITE/report/holdfast-report/config.json" || fail "no configuration in the report"

# The other one dies, and the one that returned goes on.
node_crash b
until_true 20 owns a
wait "$(<"$SITE/kept.pid")" || fail "curl failed: $(<"$SITE/kept.err")"
[[ $(<"$SITE/kept.out") == "1 200" ]] || fail "$(<"$SITE/kept.out")"
same big "$SITE/kept"
metric a 'holdfast_failover_seconds_count.service="10.0.0.80:80".' >/dev/null || fail "no failover time"
in_ns b holdfast bugreport --socket "$SITE/b.sock" -o - | tar -tz | grep about.txt >/dev/null || fail "no report"
echo ok
