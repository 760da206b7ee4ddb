# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=300
# Servers and clients as they are, in each phase (topology: lib/site.sh).
#
#   port 80 nginx, 81 Apache, 82 lighttpd, on each node
#
# In the body: curl, wget, aria2 with four connections, and curl through two TLS endpoints in front
# of the site, nginx and HAProxy. Between two requests: a keep-alive client, and those endpoints,
# which keep their connections to the site. In the head: curl, with segments of 100 bytes. Small: not
# each client with each server.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
lib=$(dirname "$0")/lib

PORTS=(80 81 82)
declare -A SERVER=([80]=nginx [81]=Apache [82]=lighttpd)

apache_start() {
	local folder=$SITE/$1.apache module
	mkdir -p "$folder"
	{
		for module in mpm_event authz_core unixd; do
			[[ ! -e /usr/lib/apache2/modules/mod_$module.so ]] ||
				echo "LoadModule ${module}_module /usr/lib/apache2/modules/mod_$module.so"
		done
		cat <<-CONF
			ServerName site
			ServerRoot $folder
			PidFile $folder/pid
			ErrorLog $folder/error.log
			Mutex file:$folder
			User www-data
			Group www-data
			Listen 81
			KeepAliveTimeout 600
			MaxKeepAliveRequests 0
			StartServers 1
			FileETag MTime Size
			DocumentRoot $SITE/www
			<Directory $SITE/www>
			Require all granted
			</Directory>
		CONF
	} >"$folder/conf"
	in_ns "$1" apache2 -f "$folder/conf"
}

lighttpd_start() {
	cat >"$SITE/$1.lighttpd" <<-CONF
		server.document-root = "$SITE/www"
		server.port = 82
		\$SERVER["socket"] == "[::]:82" { }
		server.errorlog = "$SITE/$1.lighttpd.log"
		server.max-keep-alive-idle = 600
		server.max-keep-alive-requests = 1000
		static-file.etags = "enable"
		etag.use-inode = "disable"
	CONF
	in_ns "$1" lighttpd -f "$SITE/$1.lighttpd"
}

serve() {
	nginx_start "$1"
	apache_start "$1"
	lighttpd_start "$1"
}

# The endpoints of TLS, in the client's namespace: nginx on 900P for port P of the site, HAProxy on
# 910P; for IPv6 920P and 930P.
fronts_start() {
	local port address family
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=site \
		-keyout "$SITE/key" -out "$SITE/certificate" 2>/dev/null
	cat "$SITE/certificate" "$SITE/key" >"$SITE/both.pem"
	mkdir -p "$SITE/front"
	{
		cat <<-CONF
			worker_processes 1;
			pid $SITE/front/pid;
			error_log $SITE/front/error.log;
			events { worker_connections 1024; }
			http {
			access_log off;
			proxy_temp_path $SITE/front;
			proxy_buffering off;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_next_upstream off;
			proxy_read_timeout 75s;
			ssl_certificate $SITE/certificate;
			ssl_certificate_key $SITE/key;
		CONF
		for port in "${PORTS[@]}"; do
			for family in 0 2; do
				((family)) && address="[$V6]" || address=$V4
				cat <<-CONF
					upstream u$family$port { server $address:$port max_fails=0; keepalive 1; keepalive_timeout 600s; }
					server { listen 9$family$port ssl; location / { proxy_pass http://u$family$port; } }
				CONF
			done
		done
		echo "}"
	} >"$SITE/front/nginx.conf"
	in_ns client nginx -p "$SITE/front" -c "$SITE/front/nginx.conf"
	{
		cat <<-CONF
			global
			  user www-data
			defaults
			  mode http
			  retries 0
			  timeout connect 20s
			  timeout client 75s
			  timeout server 75s
			  http-reuse always
		CONF
		for port in "${PORTS[@]}"; do
			for family in 1 3; do
				((family == 3)) && address="[$V6]" || address=$V4
				cat <<-CONF
					listen l$family$port
					  bind 127.0.0.1:9$family$port ssl crt $SITE/both.pem
					  server s $address:$port pool-purge-delay 600s
				CONF
			done
		done
	} >"$SITE/front/haproxy.cfg"
	in_ns client haproxy -q -D -p "$SITE/front/haproxy.pid" -f "$SITE/front/haproxy.cfg"
}

CLIENTS=(client narrow)
NUMBER[narrow]=11
site_up a b c
# Until a is dead no connection gets more than this: whatever is in the body stays there. And how
# many connections to the site the endpoints of TLS begin, which alone are of that user.
in_ns client nft -f - <<-RULES
	table inet middle {
		chain in {
			type filter hook prerouting priority mangle
			tcp sport { 80, 81, 82 } ct reply bytes > 700000 drop
		}
	}
	table inet fronts {
		counter upstream { }
		chain out {
			type filter hook output priority mangle
			meta skuid www-data tcp dport { 80, 81, 82 } tcp flags & (syn | ack) == syn counter name upstream
		}
	}
RULES
upstream() {
	in_ns client nft list counter inet fronts upstream | sed -nE 's/.*packets ([0-9]+).*/\1/p'
}
in_ns client sysctl -qw net.netfilter.nf_conntrack_acct=1
object index.html 100
object big 1500000
object bigger 16000000
object one 300000
object two 70000
touch -d '1 hour ago' "$SITE"/www/*
site_start
for name in a b c; do
	for port in 81 82; do
		until_true 20 in_ns "$name" curl -sf -o /dev/null "http://localhost:$port/index.html"
	done
done
fronts_start

# begin NAME FILE BYTES COMMAND...: starts a client that writes an object to FILE, and is in the middle
# of it once BYTES are there.
NAMES=() FILES=() MIDDLES=() PROCESSES=()
begin() {
	NAMES+=("$1") FILES+=("$2") MIDDLES+=("$3")
	ip netns exec client "${@:4}" >"$2.said" 2>&1 &
	PROCESSES+=($!)
}
# bodies FAMILY PORT CLIENT...
bodies() {
	local family=$1 port=$2 name=${SERVER[$2]}, out=$SITE/got.$1.$2 address=$V4 what
	[[ $family == 4 ]] || address="[$V6]"
	shift 2
	for what; do
		local to=("$out.$what" 200000)
		local front=("${to[@]}" curl -sSk -o "$out.$what")
		case $what in
		curl) begin "$name curl" "${front[@]}" "http://$address:$port/big" ;;
		wget) begin "$name wget" "${to[@]}" wget -q --tries=1 -O "$out.$what" "http://$address:$port/big" ;;
		# So much are more than two of its four connections: each stops before its quarter ends.
		aria2) begin "$name aria2" "$out.$what" 1600000 aria2c -q --no-conf --disk-cache=0 -x4 -s4 -k1M --max-tries=1 \
			--file-allocation=none --allow-overwrite=true -d "$SITE" -o "${out##*/}.$what" "http://$address:$port/bigger" ;;
		# Another request follows over the connection.
		keep-alive) begin "$name keep-alive" "${to[@]}" curl -sS -w '%{num_connects} ' -o "$out.$what" \
			"http://$address:$port/big" -o "$out.$what.2" "http://$address:$port/one" ;;
		nginx) begin "$name TLS by nginx" "${front[@]}" "https://127.0.0.1:9$((family == 4 ? 0 : 2))$port/big" ;;
		haproxy) begin "$name TLS by HAProxy" "${front[@]}" "https://127.0.0.1:9$((family == 4 ? 1 : 3))$port/big" ;;
		esac
		NAMES[-1]+=", IPv$family"
	done
}
idle() {
	local family=$1 port=$2 address=$V4
	[[ $family == 4 ]] || address=$V6
	in_ns client python3 "$lib/session.py" "$address,$port" "$SITE/gate" /one /two /index.html >"$SITE/idle.$family.$port" &
	SESSIONS+=("$family.$port") SESSION_PROCESSES+=($!)
}
# through PORT PATH: fetched by an endpoint of TLS from the site.
through() {
	in_ns client curl -sSfk -o "$SITE/through" "https://127.0.0.1:$1$2" || fail "through port $1: $2"
	same "${2#/}" "$SITE/through"
}
in_the_middle() {
	local n
	for n in "${!FILES[@]}"; do
		(($(stat -c %b "${FILES[n]}" 2>/dev/null || echo 0) * 512 > MIDDLES[n])) || return 1
	done
}
answered() {
	local name
	for name in "${SESSIONS[@]}"; do
		(($(wc -l <"$SITE/idle.$name") >= $1)) || return 1
	done
}

SESSIONS=() SESSION_PROCESSES=() FRONTS=()
if [[ $SIZE == small ]]; then
	FRONTS=(9080 9182)
	families=(4)
	idle 4 80
	idle 6 81
	idle 4 82
else
	families=(4 6)
	for port in "${PORTS[@]}"; do
		FRONTS+=(9{0,1,2,3}"$port")
		idle 4 "$port"
		idle 6 "$port"
	done
fi
until_true 30 answered 1
if [[ $SIZE == small ]]; then
	bodies 4 80 curl wget aria2 haproxy keep-alive
	bodies 6 81 curl nginx keep-alive
	bodies 4 82 curl aria2 keep-alive
else
	for port in "${PORTS[@]}"; do
		bodies 4 "$port" curl wget aria2 nginx haproxy keep-alive
		bodies 6 "$port" curl wget aria2 nginx haproxy keep-alive
	done
fi
until_true 60 in_the_middle
# Each has a connection to the site that is idle now.
for port in "${FRONTS[@]}"; do through "$port" /one; done
begun=$(upstream)
((begun >= ${#FRONTS[@]})) || fail "the endpoints have begun $begun connections"
for n in "${!NAMES[@]}"; do
	kill -0 "${PROCESSES[n]}" || fail "it ended too early: ${NAMES[n]}: $(<"${FILES[n]}.said")"
done
node_crash a
in_ns client nft delete table inet middle
until_true 20 owns b
touch "$SITE/gate.1"
until_true 60 answered 2
for port in "${FRONTS[@]}"; do through "$port" /two; done
(($(upstream) == begun)) || fail "the endpoints have begun $(($(upstream) - begun)) new connections"
for n in "${!NAMES[@]}"; do
	wait "${PROCESSES[n]}" || fail "in the body, ${NAMES[n]}: $(<"${FILES[n]}.said")"
	[[ ${NAMES[n]} == *aria2* ]] && same bigger "${FILES[n]}" || same big "${FILES[n]}"
	if [[ ${NAMES[n]} == *keep-alive* ]]; then
		same one "${FILES[n]}.2"
		[[ $(<"${FILES[n]}.said") == "1 0 " ]] || fail "${NAMES[n]}: another connection"
	fi
	echo "in the body, ${NAMES[n]}"
done
! grep -E '^(recovery-refused|failed)' "$SITE/b.log" || fail "a flow was not continued"

moved=$(in_ns b holdfast stats | sed -nE 's/^spliced +//p')
several=$(grep -c aria2 <<<"${NAMES[*]/%/$'\n'}")
((moved >= ${#NAMES[@]} + ${#SESSIONS[@]} + several)) || fail "only $moved flows were continued"

# Heads: a client that takes 100 bytes at most in a segment, and whose firewall lets through
# no more than the first of them until b is dead.
in_ns b ethtool -K eth0 tso off gso off >/dev/null
in_ns narrow sysctl -qw net.ipv4.route.min_adv_mss=88 net.ipv6.route.min_adv_mss=88
ip -n narrow route add "$V4" dev eth0 advmss 100
ip -n narrow -6 route add "$V6" dev eth0 advmss 100
{
	printf 'table inet narrow {\nchain in {\n'
	echo "type filter hook prerouting priority mangle"
	for port in "${PORTS[@]}"; do
		echo "meta nfproto ipv4 tcp sport $port ct reply bytes > 350 counter drop"
		echo "meta nfproto ipv6 tcp sport $port ct reply bytes > 400 counter drop"
	done
	printf '}\n}\n'
} | in_ns narrow nft -f -
in_ns narrow sysctl -qw net.netfilter.nf_conntrack_acct=1
HEADS=()
for family in "${families[@]}"; do
	[[ $family == 4 ]] && address=$V4 || address="[$V6]"
	for port in "${PORTS[@]}"; do
		out=$SITE/head.$family.$port
		in_ns narrow curl -sS -D "$out" -o "$out.got" "http://$address:$port/one" &
		HEADS+=("$out:$!:${SERVER[$port]}, IPv$family")
	done
done
held_back() {
	(($(in_ns narrow nft list table inet narrow | grep -Ec 'packets [1-9]') == ${#HEADS[@]}))
}
until_true 30 held_back
node_crash b
until_true 20 owns c
in_ns narrow nft delete table inet narrow
touch "$SITE/gate.2"
for head in "${HEADS[@]}"; do
	IFS=: read -r out process name <<<"$head"
	wait "$process" || fail "in the head, $name"
	same one "$out.got"
	grep -q '^HTTP/1.1 200 OK' "$out" || fail "not the first server's head: $(<"$out")"
	! grep -qi '^content-range' "$out" || fail "the second server's head shows"
	echo "in the head, $name"
done
for n in "${!SESSIONS[@]}"; do
	wait "${SESSION_PROCESSES[n]}" || fail "idle, ${SESSIONS[n]}"
	for name in one two index.html; do echo "200 $(digest "$SITE/www/$name")"; done |
		diff - "$SITE/idle.${SESSIONS[n]}" || fail "idle, ${SESSIONS[n]}: other bytes"
	echo "twice idle, ${SERVER[${SESSIONS[n]#*.}]}, IPv${SESSIONS[n]%.*}"
done
