# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug,next timeout=120
# A successor whose copy of the object is another one, or is none: a clean reset, never a file of
# two halves (topology: lib/site.sh).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
lib=$(dirname "$0")/lib

serve() {
	WWW=$SITE/$1.www nginx_start "$1"
}
NGINX_MORE='location ~ -dated$ { etag off; }'

site_up a b
object index.html 100
for name in same changed touched longer shorter missing forbidden moved same-dated touched-dated; do
	object $name 900000
	touch -d '1 day ago' "$SITE/www/$name"
done
cp -a "$SITE/www" "$SITE/a.www"
cp -a "$SITE/www" "$SITE/b.www"
cd "$SITE/b.www"
head -c 900000 /dev/urandom >changed
touch touched touched-dated
echo more >>longer
truncate -s 800000 shorter
rm missing moved
chmod 0 forbidden
mkdir moved
cd - >/dev/null
site_start

table() {
	cat <<-TABLE
		the same | client | $1 | continued | get=same
		the same, by date | client | $1 | continued | get=same-dated
		other bytes | client | $1 | reset | get=changed "not-partial (status 200)"
		written again | client | $1 | reset | get=touched "not-partial (status 200)"
		written again, by date | client | $1 | reset | get=touched-dated "not-partial (status 200)"
		longer | client | $1 | reset | get=longer "not-partial (status 200)"
		shorter | client | $1 | reset | get=shorter "not-partial (status 200)"
		not there | client | $1 | reset | get=missing "missing (status 404)"
		not allowed | client | $1 | reset | get=forbidden "not-partial (status 403)"
		a folder | client | $1 | reset | get=moved "not-partial (status 301)"
	TABLE
}
{
	table $V4
	[[ $SIZE == small ]] || table $V6
} >"$SITE/table"
python3 "$lib/download.py" "$SITE/www" "$SITE/ready" "$SITE/go" "$SITE/b.log" <"$SITE/table" &
matrix_crash a b $!
