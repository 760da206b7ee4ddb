# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock timeout=300
# Three nodes: a drain chooses the first peer by priority that is ready, and none that is drained,
# has no link or no web server; --to chooses another. Two downloads go on through three drains
# (topology: lib/site.sh). One connection each, no reset, every byte right.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

# holdfast COMMAND... on a node: ask NODE COMMAND...
ask() {
	local name=$1
	shift
	in_ns "$name" holdfast "$@" --socket "$SITE/$name.sock"
}

# drains FROM TO OPTION...: hands over, to whom it should.
drains() {
	local from=$1 to=$2
	shift 2
	prints "drained to $to" ask "$from" drain --deadline 5 "$@" && owns "$to"
}

# refused NODE OPTION...: has nobody to hand over to, and goes on.
refused() {
	local name=$1
	shift
	if ask "$name" drain --deadline 1 "$@" 2>"$SITE/why"; then
		fail "$name is drained: $*"
	fi
	grep -q "no peer is ready" "$SITE/why" || fail "$(<"$SITE/why")"
	owns "$name" || fail "$name gave the address up"
}

# What NODE knows of PEER: sees NODE PEER PATTERN. That NODE itself is not ready is no failure.
sees() {
	(ask "$1" -j status || true) | tr '{' '\n' | grep -E "\"name\":\"$2\"" | grep -E "$3"
}

site_up a b c
object index.html 100
object big $((44 << 20))
site_start
for peer in b c; do
	until_true 60 sees a $peer '"fitness":"ready"'
done
steady_begin
steady_at 2

echo "b has no web server: a to c"
in_ns b nginx -p "$SITE/b.nginx" -c "$SITE/b.conf" -s stop
until_true 60 sees a b '"fitness":"unfit"'
until_true 60 drains a c
steady_at 8

echo "a is drained, b was told to: c to b"
nginx_start b
until_true 60 sees c b '"fitness":"ready"'
ask a undrain
until_true 60 sees c a '"willing":true'
until_true 60 drains c b --to b
steady_at 14

echo "a has no link, c is drained: b to nobody"
in_ns a nft -f - <<-NFT
	table inet links {
		chain in {
			type filter hook input priority filter
			tcp dport 7100 reject with tcp reset
			tcp sport 7100 reject with tcp reset
		}
	}
NFT
until_true 60 sees b a '"linked":false'
prints '"health":"alive"' sees b a . || fail "a is not alive"
refused b
refused b --to a
refused b --to c
ask c undrain
until_true 60 sees b c '"willing":true'
until_true 60 drains b c
steady_end
# Two downloads, each over each of the three.
for name in a b c; do
	in_ns "$name" holdfast stats | grep -E 'spliced|client_reset|unlocated' || true
	(($(count "$name" client_reset) == 0)) || fail "$name has reset a client"
done
for name in c b; do
	reached "$name" spliced 2 || fail "$name has not continued both downloads"
done
echo "ok"
