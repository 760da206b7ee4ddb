# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug,next timeout=240
# Answers of a service that is declared deterministic, through the death of its server and without
# (topology: lib/site.sh; outcomes: Documentation/answers.md): what is said again is joined at the
# exact byte, and what is seen to differ is not.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
lib=$(dirname "$0")/lib

serve() {
	local stall=
	[[ $1 != a ]] || stall=stall
	in_ns "$1" python3 "$lib/answers.py" serve $stall 2>/dev/null &
}

SERVICE_MORE='deterministic = true'
site_up a b
site_start
echo "--- nobody dies"
in_ns client python3 "$lib/answers.py" ask declared small
echo "--- the server dies"
in_ns client nft -f - <<-NFT
	table inet narrow {
		chain in {
			type filter hook prerouting priority -350
			tcp dport { 45001, 45002 } meta length > 100 counter drop
		}
	}
NFT
in_ns client python3 "$lib/answers.py" ask declared "$SIZE" "$SITE/ready" "$SITE/go" "$SITE/b.log" &
table=$!
dropped() {
	prints 'packets [1-9]' in_ns client nft list table inet narrow
}
until_true 30 dropped
until_true 60 test -e "$SITE/ready"
in_ns client nft delete table inet narrow
matrix_crash a b $table
reached b replayed 6 || fail "too little was replayed"
