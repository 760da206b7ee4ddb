# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug timeout=240
# More connections than the module may know (max_flows; topology: lib/site.sh). One beyond is served as if
# there were no Holdfast, and counted; with room there is protection again. When the server dies,
# those that it knew are continued; the other one finds no room there either, and waits for some.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"

MODULE=(max_flows=6)

# session NAME GATE: three objects over one connection, the second and third once GATE.1 and GATE.2 are there.
declare -A SESSION
session() {
	in_ns client python3 "$LIB/session.py" "$V4" "$SITE/$2" /one /two /three >"$SITE/$1" 2>&1 &
	SESSION[$1]=$!
	until_true 60 answered 1 "$SITE/$1"
}

# ended SESSION...: they have had all three, and they were right.
ended() {
	local name
	for name; do
		wait "${SESSION[$name]}" || fail "$name: $(<"$SITE/$name")"
		diff "$SITE/wanted" "$SITE/$name" || fail "$name: wrong bytes"
	done
}

# protected N: whether a has recorded N responses since the table was full.
protected() {
	(($(count a committed) == full + $1))
}

# room NODE N: whether its module may know N connections more.
room() {
	local known
	known=$(in_ns "$1" holdfast service show -j | grep -oE '"flows": ?[0-9]+' | awk -F: '{ n += $2 } END { print n }')
	((known + $2 <= ${MODULE[0]#*=}))
}

site_up a b
for name in index.html one two three; do object $name 3000; done
for name in one two three; do echo "200 $(digest "$SITE/www/$name")"; done >"$SITE/wanted"
site_start

echo "one more than there is room"
# What has ended a minute ago takes room as well.
within=()
while room a 1; do
	within+=("within.${#within[@]}")
	session "${within[-1]}" early
done
(($(count a flow_limit) == 0)) || fail "full too early"
full=$(count a committed)
session beyond late
reached a flow_limit 1 || fail "not counted"
protected 0 || fail "there is no room, and it is protected"
touch "$SITE/early.1"
until_true 60 answered 2 "${within[@]/#/$SITE/}"
touch "$SITE/late."{1,2}
ended beyond
protected ${#within[@]} || fail "other responses were recorded than of those that there is room for"

echo "room again"
until_true 90 room a 1
session again early
until_true 60 answered 2 "$SITE/again"
protected $((${#within[@]} + 2)) || fail "it is not protected"
session dying dead
protected $((${#within[@]} + 2)) || fail "beyond the limit, and protected"
node_crash a
until_true 30 owns b
until_true 60 reached b spliced $((${#within[@]} + 1))

echo "no room where it is taken over"
! room b 1 || fail "there is room"
touch "$SITE/dead.1"
until_true 60 reached b flow_limit 1
touch "$SITE/early.2"
ended "${within[@]}" again
answered 2 "$SITE/dying" && fail "what was not protected was continued: $(<"$SITE/dying")"
(($(count b client_reset) == 0)) || fail "b has reset a client"
