# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock timeout=180
# The successor's copy of the object is another one, or is none, and a third node has the right
# one: the download goes on with that, on the same connection, and so does the next one. Where
# nobody has it: a clean reset (topology: lib/site.sh).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
lib=$(dirname "$0")/lib

serve() {
	WWW=$SITE/$1.www nginx_start "$1"
}

site_up a b c
object index.html 100
for name in same changed shorter missing lost altered; do
	object $name 900000
	touch -d '1 day ago' "$SITE/www/$name"
done
for name in a b c; do
	cp -a "$SITE/www" "$SITE/$name.www"
done
head -c 900000 /dev/urandom >"$SITE/b.www/changed"
truncate -s 800000 "$SITE/b.www/shorter"
rm "$SITE/b.www/missing" "$SITE"/[bc].www/lost
for name in b c; do
	head -c 900000 /dev/urandom >"$SITE/$name.www/altered"
done
site_start

table() {
	cat <<-TABLE
		the same | client | $1 | continued | get=same
		missing, the third node has it | client | $1 | continued | get=missing
		the same, and another request | client | $1 | continued | get=missing twice
		other bytes, the third node's right | client | $1 | continued | get=changed
		shorter, the third node's right | client | $1 | continued | get=shorter
		missing on both | client | $1 | reset | get=lost "missing (status 404)"
		other bytes on both | client | $1 | reset | get=altered "not-partial (status 200)"
	TABLE
}
{
	table $V4
	table $V6
} >"$SITE/table"
python3 "$lib/download.py" "$SITE/www" "$SITE/ready" "$SITE/go" "$SITE/b.log" <"$SITE/table" &
matrix_crash a b $!
(($(grep -c '^relayed ' "$SITE/b.log") == 8)) || fail "not eight flows went to the third node"
(($(grep -c '^next-node ' "$SITE/b.log") == 12)) || fail "not twelve were tried there"
in_ns b holdfast stats | grep -E '^ghost_directed +[1-9]' || fail "no ghost was given to the relay"
