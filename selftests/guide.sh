# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=none full=stock timeout=700
# Does what the admin guide and the pages of Documentation/front say, word for word, and compares
# what they show (lib/pages.py); then the examples of the manual pages, and the example of a
# configuration (lib/manual.sh). In namespaces of one guest:
#
#     client         router           a           b
#   10.1.0.9   10.1.0.1 | 10.0.0.254  10.0.0.1    10.0.0.2
#      +--------------+ |    |           |           |
#                       +----+-----------+-----------+---- "lan"
#
# Each machine has files of its own below /etc, /run and /srv. There is no service manager: what
# pages tell systemctl is done by the program below.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
CLIENTS=(router)
NUMBER[router]=254
PAGES=$(dirname "$0")/../Documentation
HERE=$(dirname "$0")
. "$HERE/lib/manual.sh"
declare -A HOLDER=()

# A machine's own files: mounts that only its processes see.
furnish() {
	local name=$1 dir=$SITE/root.$1 pid
	mkdir -p "$dir"
	unshare --mount --propagation private bash -c '
		set -e
		dir=$1
		mount -t tmpfs -o mode=755 tmpfs "$dir"
		for part in etc srv; do
			mkdir -p "$dir/$part.new" "$dir/$part.work"
			mount -t overlay overlay -o "lowerdir=/$part,upperdir=$dir/$part.new,workdir=$dir/$part.work" "/$part"
		done
		mount -t tmpfs -o mode=755 tmpfs /run
		touch "$dir/furnished"
		exec sleep infinity' - "$dir" &
	pid=$!
	HOLDER[$name]=$pid
	until_true 20 nsenter -t "$pid" -m test -e "$dir/furnished"
}

# on MACHINE FILE: runs a shell script there.
on() {
	at "$1" bash -euo pipefail "$2"
}

# at MACHINE COMMAND...: runs a command there.
at() {
	local name=$1
	shift
	nsenter -t "${HOLDER[$name]}" -m "--net=/run/netns/$name" \
		env PATH="$SITE/bin:$PATH" LOG="$SITE/$name.log" "$@"
}

# Stands for the service manager.
systemctl_program() {
	cat <<-'SH'
		#!/bin/bash
		# systemctl VERB UNIT, as far as the pages go
		set -euo pipefail
		verb=$1
		shift
		[[ ${1:-} != --now ]] || shift
		for unit; do
			file=/run/unit.$unit
			case $verb in
			enable | start | restart)
				if [[ $verb == restart ]]; then "$0" stop "$unit"; fi
				case $unit in
				holdfastd) holdfastd >>"$LOG" 2>&1 & ;;
				keepalived) keepalived --dont-fork --log-console >>"$LOG" 2>&1 & ;;
				bird) mkdir -p /run/bird && bird -f -c /etc/bird/bird.conf >>"$LOG" 2>&1 & ;;
				nginx) nginx -g 'daemon off;' >>"$LOG" 2>&1 & ;;
				esac
				echo $! >"$file"
				[[ $unit != holdfastd ]] || until [[ -S /run/holdfast.sock ]]; do
					kill -0 "$(<"$file")"
					read -rt 0.05 <> <(:) || true
				done
				;;
			stop)
				kill "$(<"$file")" 2>/dev/null || continue
				while kill -0 "$(<"$file")" 2>/dev/null; do read -rt 0.05 <> <(:) || true; done
				;;
			reload)
				case $unit in
				nginx) nginx -s reload ;;
				*) kill -HUP "$(<"$file")" ;;
				esac
				;;
			esac
		done
	SH
}

# Everything as it is before a page begins.
machines_up() {
	site_up a b
	mkdir -p "$SITE/bin"
	# Machines have a /run of their own.
	for name in holdfast holdfastd; do
		cp "$(command -v "$name")" "$SITE/bin"
	done
	systemctl_program >"$SITE/bin/systemctl"
	chmod +x "$SITE/bin/systemctl"
	ip netns add client
	CLIENTS=(router client)
	ip link add name eth0 netns client type veth peer name eth1 netns router
	ip -n client addr add 10.1.0.9/24 dev eth0
	ip -n router addr add 10.1.0.1/24 dev eth1
	for name in client router; do
		ip -n "$name" link set lo up
		ip -n "$name" link set eth0 up
	done
	ip -n router link set eth1 up
	ip -n client route add default via 10.1.0.1
	in_ns router sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0
	for name in a b; do
		ip -n "$name" route add default via 10.0.0.254
	done
	for name in a b router client; do
		furnish "$name"
	done
	for name in a b; do
		at "$name" rm -f /etc/nginx/sites-enabled/default
		at "$name" sh -c "mkdir -p /srv/www && mount --bind '$SITE/www' /srv/www"
		at "$name" tee /etc/nginx/conf.d/site.conf >/dev/null <<-CONF
			server { listen 80; listen [::]:80; root /srv/www; }
		CONF
		at "$name" mkdir -p /etc/holdfast
		at "$name" install -m 600 "$SITE/secret" /etc/holdfast/secret
		at "$name" systemctl start nginx
	done
}

machines_down() {
	local name
	for name in a b router client; do
		ip netns pids "$name" | xargs -r kill -9 2>/dev/null || true
		kill -9 "${HOLDER[$name]}" 2>/dev/null || true
		wait "${HOLDER[$name]}" 2>/dev/null || true
		umount -l "$SITE/root.$name" 2>/dev/null || true
	done
	for name in a b; do
		while ! holdfast_idle "$name"; do read -rt 0.1 <> <(:) || true; done
	done
	for name in a b router client lan; do
		ip netns del "$name"
	done
	rm -rf "$SITE"
	SITE=$(mktemp -d /tmp/site.XXXXXX)
	chmod 755 "$SITE"
	NODES=()
	CLIENTS=(router)
}

# No process of a machine is left.
holdfast_idle() {
	[[ -z $(ip netns pids "$1") ]]
}

# The configuration that stands for a site without anything in front: plain MACHINE PEER.
plain() {
	cat <<-TOML
		[node]
		name = "$1"
		priority = ${NUMBER[$1]}
		listen = "10.0.0.${NUMBER[$1]}:4870"
		secret-file = "/etc/holdfast/secret"

		[[peer]]
		name = "$2"
		priority = ${NUMBER[$2]}
		address = "10.0.0.${NUMBER[$2]}:4870"

		[[service]]
		address = "10.0.0.80/24"
		interface = "eth0"
		port = 80
	TOML
}

# Two machines that run Holdfast alone.
plain_site() {
	plain a b | at a tee /etc/holdfast/holdfastd.toml >/dev/null
	plain b a | at b tee /etc/holdfast/holdfastd.toml >/dev/null
	slower
	at a systemctl start holdfastd
	until_true 30 has a 10.0.0.80/
	at b systemctl start holdfastd
	until_true 30 ready a
	until_true 30 ready b
}

# A guest under emulation may stand still: heartbeats are slower than a page needs to say.
slower() {
	local name
	for name in a b; do
		at "$name" test -e /etc/holdfast/holdfastd.toml || continue
		at "$name" grep -q '^\[heartbeat\]' /etc/holdfast/holdfastd.toml ||
			printf '\n[heartbeat]\ninterval-ms = 250\nmisses = 6\n' | at "$name" tee -a /etc/holdfast/holdfastd.toml >/dev/null
		at "$name" sed -i 's/^port = 80$/port = 80\nhold-ms = 5000/' /etc/holdfast/holdfastd.toml
	done
}

# A page's downloads: each has its file in /tmp of the client.
downloaded() {
	until_true 60 size_over "$1" "$2"
}

has() {
	prints "$2" ip -n "$1" -o addr show
}

ready() {
	at "$1" holdfast status >/dev/null 2>&1
}

# page NAME [SECTION]: does what it says.
page() {
	local dir step kind machines path line text name said=$SITE/said jobs=()
	dir=$SITE/page.$(basename "$1" .md)
	python3 "$HERE/lib/pages.py" "$PAGES/$1" "$dir" "${@:2}"
	for step in "$dir"/*.step; do
		read -r kind machines path line <"$step"
		text=${step%.step}.text
		[[ $kind == output ]] || echo "$1:$line: $kind $machines"
		case $kind in
		test) eval "$(<"$text")" || fail "$1:$line: $(<"$text")" ;;
		file)
			for name in ${machines//,/ }; do
				at "$name" install -D -m 644 "$text" "$path"
			done
			;;
		run)
			for name in ${machines//,/ }; do
				on "$name" "$text" >"$said" 2>&1 || fail "$1:$line: $(<"$said")"
			done
			;;
		background)
			on "$machines" "$text" >"$SITE/job.$line" 2>&1 &
			jobs+=("$! $line")
			;;
		output)
			python3 "$HERE/lib/pages.py" --fits "$text" "$said" ||
				fail "$1:$line: it shows:"$'\n'"$(<"$text")"$'\n'"but said was:"$'\n'"$(<"$said")"
			;;
		esac
	done
	for step in ${jobs[@]+"${jobs[@]}"}; do
		wait "${step% *}" || fail "$1:${step#* }: $(<"$SITE/job.${step#* }")"
	done
}

for run in "admin-guide.md -Upgrade" front/keepalived.md front/ipvs.md front/anycast.md manual; do
	read -ra words <<<"$run"
	[[ -z ${GUIDE:-} || $run == *"$GUIDE"* ]] || continue
	rm -f /tmp/big /tmp/gate.*
	machines_up
	head -c $((40 << 20)) /dev/urandom >"$SITE/www/big"
	if [[ $run == manual ]]; then manual; else page "${words[@]}"; fi
	[[ ! -e /tmp/big ]] || same big /tmp/big
	machines_down
done
echo ok
