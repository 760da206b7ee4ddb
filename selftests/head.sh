# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock,debug timeout=180
# The server dies in the head of a response (topology: lib/site.sh).
#
# The client says that it takes 100 bytes at most in a segment, and its firewall lets through
# no more than the first of them until a is dead. The rest of the head that curl sees must be
# that of a, not that of b's partial response.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

site_up a b
object index.html 100
object some 200000
site_start
for name in a b; do
	in_ns "$name" ethtool -K eth0 tso off gso off >/dev/null
done
in_ns client sysctl -qw net.ipv4.route.min_adv_mss=88
ip -n client route add "$V4" dev eth0 advmss 100
in_ns client nft -f - <<-NFT
	table inet narrow {
		chain in {
			type filter hook prerouting priority -350
			ip saddr $V4 tcp sport 80 quota over 350 bytes counter drop
		}
	}
NFT

in_ns client curl -sS -D "$SITE/head" -o "$SITE/got" "http://$V4/some" &
curl=$!
dropped() {
	prints 'packets [1-9]' in_ns client nft list table inet narrow
}
until_true 20 dropped
node_crash a
in_ns client nft delete table inet narrow
wait $curl || fail "curl failed"
same some "$SITE/got"
grep -q '^HTTP/1.1 200 OK' "$SITE/head" || fail "not the first server's head: $(<"$SITE/head")"
! grep -qi '^content-range' "$SITE/head" || fail "the second server's head shows"
