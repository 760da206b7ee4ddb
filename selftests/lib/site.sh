# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# A site in network namespaces of one kernel, to be sourced.
#
#    client            a               b              c
#   10.0.0.9       10.0.0.1        10.0.0.2       10.0.0.3
#    fd00::9        fd00::1         fd00::2        fd00::3
#       |              |               |              |
#    ---+--------------+---- br0 ------+--------------+---    (namespace "lan")
#
#   service: 10.0.0.80 and fd00::80, the ports of PORTS, on whoever owns it
#
# Each server runs nginx and holdfastd. A crash takes the link first: what a dying kernel
# does not say, a namespace whose processes are killed must not say either.
#
# A scenario may set PORTS, put more into each nginx's server block by NGINX_MORE, have other
# files (WWW) or clients (CLIENTS, each with a number in NUMBER), and define serve() anew.

set -euo pipefail

LIB=$(dirname "${BASH_SOURCE[0]}")
SITE=$(mktemp -d /tmp/site.XXXXXX)
chmod 755 "$SITE" # nginx reads it as another user
V4=10.0.0.80
V6=fd00::80
declare -A NUMBER=([a]=1 [b]=2 [c]=3 [client]=9)
NODES=()
PORTS=(80)
CLIENTS=(client)
NGINX_MORE=
NGINX_CONNECTIONS=4096
# The module's parameters. With any, it does not stay for scenarios that come later.
MODULE=()
# Longer than by default: a guest under emulation may stand still, one with a debug kernel for long.
SLOW=1
[[ ${HOLDFAST_KERNEL:-} != debug ]] || SLOW=4
HOLD_MS=$((SLOW > 1 ? 10000 : 5000))
# Milliseconds between heartbeats, and how many may be missed; what else holdfastd is called with,
# and what else its configuration of the node and of each service says.
HEARTBEAT=($((SLOW > 1 ? 500 : 250)) 6)
DAEMON_ARGS=()
NODE_MORE=
SERVICE_MORE=
# What a table holds: few cases, or all of them.
SIZE=${HOLDFAST_SIZE:-small}

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

# Waits until a command succeeds: until_true SECONDS COMMAND... (on a debug kernel for longer).
until_true() {
	local end=$((SECONDS + $1 * SLOW))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || fail "never came true: $*"
		read -rt 0.05 <> <(:) || true
	done
}

in_ns() {
	ip netns exec "$@"
}

# Whether a command prints what an extended regular expression matches: prints PATTERN COMMAND...
# A pipe to grep -q would let the command die of SIGPIPE, and pipefail take that for its answer.
prints() {
	grep -Eq -- "$1" <<<"$("${@:2}")"
}

site_host() {
	local name=$1 n=${NUMBER[$1]}
	ip netns add "$name"
	ip link add name "port-$name" netns lan type veth peer name eth0 netns "$name"
	ip -n lan link set dev "port-$name" master br0 up
	ip -n "$name" link set lo up
	ip -n "$name" link set eth0 up
	ip -n "$name" addr add "10.0.0.$n/24" dev eth0
	ip -n "$name" addr add "fd00::$n/64" dev eth0 nodad
}

# Takes the module out, once no namespace needs it.
module_unload() {
	! prints '^holdfast ' lsmod || until_true 60 rmmod holdfast
}

# site_up NODE...: builds everything but starts nothing.
site_up() {
	((${#MODULE[@]} == 0)) || module_unload
	prints '^holdfast ' lsmod || insmod "$HOLDFAST_KO" "${MODULE[@]}"
	ip netns add lan
	ip -n lan link add br0 type bridge forward_delay 0 mcast_snooping 0
	ip -n lan link set br0 up
	for name in "${CLIENTS[@]}"; do
		site_host "$name"
	done
	for name in "$@"; do
		site_host "$name"
		NODES+=("$name")
		in_ns "$name" sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1
	done
	mkdir -p "$SITE/www"
	(umask 077 && head -c 32 /dev/urandom | base64 >"$SITE/secret")
	trap site_down EXIT
}

site_down() {
	local status=$?
	for name in "${NODES[@]}" "${CLIENTS[@]}"; do
		ip netns pids "$name" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
	done
	if ((status)); then
		for name in "${NODES[@]}"; do
			echo "--- holdfastd on $name" >&2
			tail -40 "$SITE/$name.log" >&2 || true
			[[ ! -s $SITE/$name.nginx/error.log ]] || tail -5 "$SITE/$name.nginx/error.log" >&2
			in_ns "$name" holdfast stats >&2 2>/dev/null || true
		done
	fi
	for name in "${NODES[@]}" "${CLIENTS[@]}" lan; do
		ip netns del "$name" 2>/dev/null || true
	done
	((${#MODULE[@]} == 0)) || module_unload
	rm -rf "$SITE"
}

node_config() {
	local name=$1 peer port address
	cat <<-TOML
		[node]
		name = "$name"
		priority = ${NUMBER[$name]}
		listen = "10.0.0.${NUMBER[$name]}:7100"
		secret-file = "$SITE/secret"
		control = "$SITE/$name.sock"

		# A guest under emulation may stand still for longer than a real machine does; so are the
		# times below chosen.
		[heartbeat]
		interval-ms = ${HEARTBEAT[0]}
		misses = ${HEARTBEAT[1]}
		gateway = "10.0.0.9"
		check = "${CHECK:-neighbour}"

		$NODE_MORE
	TOML
	for port in "${PORTS[@]}"; do
		for address in "$V4/24" "$V6/64"; do
			cat <<-TOML

				[[service]]
				address = "$address"
				interface = "eth0"
				port = $port
				hold-ms = $HOLD_MS
				$SERVICE_MORE
			TOML
		done
	done
	for peer in "${NODES[@]}"; do
		[[ $peer != "$name" ]] || continue
		cat <<-TOML

			[[peer]]
			name = "$peer"
			priority = ${NUMBER[$peer]}
			address = "10.0.0.${NUMBER[$peer]}:7100"
		TOML
	done
}

nginx_start() {
	local name=$1
	mkdir -p "$SITE/$name.nginx"
	cat >"$SITE/$name.conf" <<-CONF
		worker_processes 1;
		worker_shutdown_timeout 1s;
		pid $SITE/$name.pid;
		error_log $SITE/$name.nginx/error.log;
		worker_rlimit_nofile $((NGINX_CONNECTIONS + 1000));
		events { worker_connections $NGINX_CONNECTIONS; }
		http {
			access_log off;
			client_body_temp_path $SITE/$name.nginx;
			keepalive_timeout 3600;
			# Idle connections that are taken over are new to their server.
			client_header_timeout 3600;
			server {
				listen 80;
				listen [::]:80;
				root ${WWW:-$SITE/www};
				$NGINX_MORE
			}
		}
	CONF
	# By its path, so that it can start a newer one of itself.
	in_ns "$name" "$(command -v nginx)" -p "$SITE/$name.nginx" -c "$SITE/$name.conf"
}

# What a node serves: serve NODE.
serve() {
	nginx_start "$1"
}

daemon_start() {
	local name=$1
	node_config "$name" >"$SITE/$name.toml"
	in_ns "$name" holdfastd --config "$SITE/$name.toml" "${DAEMON_ARGS[@]}" >>"$SITE/$name.log" 2>&1 &
}

# Starts every server; the first one owns the service once this returns.
site_start() {
	local name
	for name in "${NODES[@]}"; do
		serve "$name"
		daemon_start "$name"
		until_true 20 test -S "$SITE/$name.sock"
	done
	until_true 20 owns "${NODES[0]}"
	until_true 20 in_ns client curl -sf -o /dev/null "http://$V4/?calm"
}

owns() {
	prints "$V4/" in_ns "$1" ip -o addr show dev eth0
}

# The machine dies: no packet more, then no process.
node_crash() {
	ip -n lan link set dev "port-$1" down
	# What a dead machine's sockets still want to say keeps its namespace alive.
	in_ns "$1" sysctl -qw net.ipv4.tcp_orphan_retries=1
	ip netns pids "$1" | xargs -r kill -9
}

# Makes a dead machine anew, with nothing of what it was, and starts it: node_return NODE.
node_return() {
	ip -n lan link del dev "port-$1"
	ip netns del "$1"
	site_host "$1"
	in_ns "$1" sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1
	rm -f "$SITE/$1.sock" "$SITE/$1.pid"
	serve "$1"
	daemon_start "$1"
	until_true 20 test -S "$SITE/$1.sock"
}

# Waits until what a driver of lib/matrix.py started is where the server is to die, lets the
# first node die, and waits for the driver's end: matrix_crash NODE SUCCESSOR PROCESS.
matrix_crash() {
	local end=$((SECONDS + 60))
	until [[ -e $SITE/ready ]]; do
		kill -0 "$3" 2>/dev/null || fail "the clients ended early"
		((SECONDS < end)) || fail "the clients are never where the server is to die"
		read -rt 0.05 <> <(:) || true
	done
	node_crash "$1"
	until_true 60 owns "$2"
	touch "$SITE/go"
	wait "$3" || fail "see the table"
}

# A file of random bytes that all servers have: object NAME BYTES.
object() {
	head -c "$2" /dev/urandom >"$SITE/www/$1"
}

# A counter of a node's module: count NODE COUNTER. Whether it is at least N: reached NODE COUNTER N.
count() {
	in_ns "$1" holdfast stats --all | awk -v name="$2" '$1 == name { print $2 }'
}

reached() {
	(($(count "$1" "$2") >= $3))
}

# Whether each of these outputs of lib/session.py has so many answers: answered N FILE...
answered() {
	local file n=$1
	shift
	for file; do (($(grep -c '^200 ' "$file") >= n)) || return 1; done
}

digest() {
	sha256sum "$1" | cut -d' ' -f1
}

same() {
	[[ $(digest "$SITE/www/$1") == "$(digest "$2")" ]] || fail "$2 is not $1"
}

size_over() {
	(($(stat -c %s "$1" 2>/dev/null || echo 0) > $2))
}

# What the client's kernel sees of the begin and the end by reset of its connections: watch_begin. In
# the end, one SYN and one SYN-ACK for each of N connections and not a packet more of that kind:
# watch_end N.
watch_begin() {
	in_ns client tcpdump -qUni eth0 -w "$SITE/watch.pcap" \
		'(host 10.0.0.9 or host fd00::9) and port 80 and
		 (tcp[tcpflags] & (tcp-syn|tcp-rst) != 0 or (ip6[6] == 6 and ip6[53] & 6 != 0))' 2>/dev/null &
	until_true 60 test -s "$SITE/watch.pcap"
}

watch_end() {
	local packets
	packets=$(tcpdump -nr "$SITE/watch.pcap" 2>/dev/null)
	(($(wc -l <<<"$packets") == 2 * $1)) || fail "$packets"
	[[ $packets != *"Flags [R"* ]] || fail "$packets"
}

# A paced download of /big over both families that is to see no failure, and nothing but that:
# steady_begin. Then, how far both are: steady_at MIB. In the end: steady_end.
steady_begin() {
	local family
	watch_begin
	for family in V4 V6; do
		in_ns client python3 "$LIB/steady.py" "${!family}" /big "$SITE/$family" 1500000 \
			>"$SITE/$family.out" &
		echo $! >"$SITE/$family.pid"
	done
}

steady_at() {
	local family
	for family in V4 V6; do
		until_true 120 size_over "$SITE/$family" $(($1 << 20))
	done
}

steady_end() {
	local family status longest
	for family in V4 V6; do
		wait "$(<"$SITE/$family.pid")" || fail "the download $family broke"
		read -r status longest <"$SITE/$family.out"
		[[ $status == 200 ]] || fail "$family: $(<"$SITE/$family.out")"
		same big "$SITE/$family"
		echo "$family: longest wait $longest ms"
	done
	watch_end 2
}
