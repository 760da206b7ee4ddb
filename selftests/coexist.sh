# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=240
# With what else servers and networks do, through two deaths (topology: lib/site.sh).
#
# The servers have a firewall that lets in what conntrack knows and nothing that it finds
# invalid. a dies with SYN cookies as usual, b with a cookie in every SYN-ACK and in a flood.
# Before that, without conntrack: fragments, and connections with MD5 signatures; these are
# reset by b's own TCP, which has the key, when a dies.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
. "$(dirname "$0")/lib/split.sh"
lib=$(dirname "$0")/lib

CLIENTS=(client cutter)
NUMBER[cutter]=17
PORTS=(80 81 82)

# Port 81 speaks MPTCP too, port 82 only to those who sign.
serve() {
	nginx_start "$1"
	in_ns "$1" python3 "$lib/answers.py" serve mptcp port=81 2>/dev/null &
	in_ns "$1" python3 "$lib/signed.py" serve 2>/dev/null &
}
listens() {
	(($(in_ns "$1" ss -Hltn '( sport = :81 or sport = :82 )' | wc -l) >= 2))
}
counted() {
	prints "^$2 +[1-9]" in_ns "$1" holdfast stats || fail "not counted on $1: $2"
}

site_up a b c
object index.html 100
object big 900000
touch -d '1 hour ago' "$SITE/www/big"
python3 -c 'print("".join("%07d\n" % n for n in range(25000)), end="")' >"$SITE/www/lines"
split_up
for name in a b c; do
	in_ns "$name" sysctl -qw net.ipv4.tcp_fastopen=3
done
in_ns client sysctl -qw net.ipv4.tcp_fastopen=1
site_start
for name in a b c; do until_true 20 listens "$name"; done

echo "--- without conntrack"
table() {
	python3 "$lib/download.py" "$SITE/www" "$@"
}
table <<-TABLE
	fragments of the request | split | $V4 | continued | padding=3000
TABLE
counted a fragment
in_ns client python3 "$lib/signed.py" ask "$V4"
in_ns client python3 "$lib/signed.py" ask "$V6"
counted a signed
echo "MD5 signatures"

echo "--- a firewall; a dies"
for name in a b c; do
	in_ns "$name" nft -f - <<-NFT
		table inet firewall {
			chain in {
				type filter hook input priority filter; policy drop
				iifname "lo" accept
				meta l4proto { icmp, icmpv6 } accept
				# The nodes were connected before conntrack was there.
				tcp dport 7100 accept
				tcp sport 7100 accept
				# Here it is not the firewall that keeps silent.
				tcp dport 82 accept
				ct state invalid counter drop
				ct state established,related accept
				ct state new tcp dport { 80, 81 } tcp flags & (syn|ack|rst|fin) == syn accept
				udp dport 7100 accept
				counter
			}
			chain out {
				type filter hook output priority filter; policy drop
				oifname "lo" accept
				meta l4proto { icmp, icmpv6 } accept
				tcp dport 7100 accept
				tcp sport 7100 accept
				tcp sport 82 accept
				ct state invalid counter drop
				ct state established,related accept
				udp dport 7100 accept
				counter
			}
		}
	NFT
	in_ns "$name" sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
done
both() {
	cat <<-TABLE
		ordinary | client | $1 | continued |
		a port used again, TIME_WAIT | client | $1 | continued | local-port=$2 again
		Fast Open offered | client | $1 | continued | fastopen
		MPTCP offered | client | $1 | continued | mptcp port=81 get=lines held=50000
		idle | client | $1 | continued | idle get=index.html
	TABLE
}
cases() {
	both "$V4" "$1"
	echo "fragments of the request | split | $V4 | continued | padding=3000"
	echo "destination options | client | $V6 | continued | options"
	echo "hop-by-hop options | client | $V6 | continued | hops"
	[[ $SIZE == small ]] || both "$V6" $(($1 + 1))
}
LOST=()
for address in $V4 $V6; do
	in_ns client python3 "$lib/signed.py" lose "$address" "$SITE/ready.$address" "$SITE/go" >"$SITE/lost.$address" &
	LOST+=($!)
	until_true 30 test -e "$SITE/ready.$address"
done
cases 46001 | table "$SITE/ready" "$SITE/go" "$SITE/b.log" &
matrix_crash a b $!
counted b spliced
for n in 0 1; do wait "${LOST[n]}" || fail "a signed connection: $(cat "$SITE"/lost.*)"; done
for address in $V4 $V6; do
	[[ $(<"$SITE/lost.$address") == reset ]] || fail "a signed connection to $address: $(<"$SITE/lost.$address")"
	echo "MD5 signatures, its server dies: reset, $address"
done

echo "--- a cookie in every SYN-ACK, and a flood; b dies"
rm "$SITE/ready" "$SITE/go"
for name in b c; do in_ns "$name" sysctl -qw net.ipv4.tcp_syncookies=2; done
in_ns client python3 "$lib/signed.py" flood "$V4" &
flood=$!
cases 46003 | table "$SITE/ready" "$SITE/go" "$SITE/c.log" &
matrix_crash b c $!
kill $flood
prints 'SyncookiesSent +[1-9]' in_ns c nstat -asz TcpExtSyncookiesSent || fail "there was no cookie"
for name in fastopen_blanked mptcp_blanked; do counted b $name; done
