# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=240
# The kernel runs out of memory and kills the web server in the middle of two downloads, while its
# machine lives: first a worker, which the master replaces; then all of it, and nobody starts it
# again: the downloads go on with b (topology: lib/site.sh). One connection each, no reset, every
# byte right.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

kills() {
	awk '$1 == "oom_kill" { print $2 }' /proc/vmstat
}

killed_over() {
	(($(kills) > $1))
}

# The kernel looks for what to kill, as it does when no page is left, and finds PID: oom_kill PID.
oom_kill() {
	local before
	before=$(kills)
	echo 1000 >"/proc/$1/oom_score_adj"
	echo "<3>holdfast-test: out of memory is to kill: $(<"/proc/$1/comm")" >/dev/kmsg
	echo f >/proc/sysrq-trigger
	until_true 60 killed_over "$before"
	until_true 60 gone "$1"
	(($(kills) == before + 1)) || fail "more than one was killed"
}

# An orphan that nobody waits for is gone, too.
gone() {
	[[ ! -e /proc/$1 ]] || grep -q '^State:.*zombie' "/proc/$1/status"
}

worker_of() {
	pgrep -P "$1"
}

site_up a b
object index.html 100
object big $((40 << 20))
for name in a b; do
	# What is in its socket still arrives after a server has died: a little.
	in_ns "$name" sysctl -qw net.ipv4.tcp_wmem='4096 65536 262144'
done
# The list of all tasks is long on a slow console.
sysctl -qw vm.oom_dump_tasks=0
site_start
steady_begin
steady_at 1

echo "a worker is killed, the master starts another one"
master=$(<"$SITE/a.pid")
before=$(count a spliced)
oom_kill "$(worker_of "$master")"
until_true 60 reached a spliced $((before + 2))
steady_at 3

echo "master and worker are killed, and nobody starts them again"
until_true 60 worker_of "$master"
worker=$(worker_of "$master")
oom_kill "$master"
oom_kill "$worker"
until_true 60 owns b
until_true 60 reached b spliced 2

steady_end
for name in a b; do
	(($(count "$name" client_reset) == 0)) || fail "$name has reset a client"
done
in_ns a holdfast stats | grep -E 'close_|spliced|late_socket|ghost_lost' || true
echo "ok"
