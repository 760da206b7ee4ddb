# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=240
# The second server dies while it recovers what the first one left, and the third one goes on
# (topology: lib/site.sh). Two downloads: of one, b has the record and has not heard the client
# yet; of the other, it has heard where the client stands, and waits for its own server's answer.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

said() {
	grep -Eq "$1" "$SITE/b.log"
}

site_up a b c
object index.html 100
object big $((12 << 20))
site_start
steady_begin
steady_at 2

# b's server accepts and never answers; nothing of the IPv4 client reaches b.
ip netns pids b | while read -r pid; do
	[[ $(<"/proc/$pid/comm") != nginx ]] || kill -STOP "$pid"
done
in_ns b nft -f - <<-RULES
	table inet deaf {
		chain in {
			type filter hook prerouting priority -500
			ip daddr $V4 tcp dport 80 drop
		}
	}
RULES
node_crash a
until_true 20 owns b
until_true 20 said "^takeover .*$V4"
until_true 20 said "^located .*$V6"
until_true 20 said "^recovering .*$V6"
said "^(located|recovering) .*$V4" && fail "b has heard the IPv4 client"
said "^(spliced|recovery-refused)" && fail "$(<"$SITE/b.log")"
node_crash b
until_true 20 owns c
steady_end
for family in V4 V6; do
	grep -q "^spliced .*${!family}" "$SITE/c.log" || fail "c has not continued $family"
done
