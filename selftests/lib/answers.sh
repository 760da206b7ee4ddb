# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# The table of answers (answers.py), through the death of its server and without, to be sourced
# behind site.sh: answers_table KIND.

serve() {
	local stall=
	[[ $1 != a ]] || stall=stall
	in_ns "$1" python3 "$LIB/answers.py" serve $stall 2>/dev/null &
}

dropped() {
	prints 'packets [1-9]' in_ns client nft list table inet narrow
}

answers_table() {
	local kind=$1 table
	site_up a b
	site_start
	echo "--- nobody dies"
	in_ns client python3 "$LIB/answers.py" ask "$kind" small
	echo "--- the server dies"
	in_ns client nft -f - <<-NFT
		table inet narrow {
			chain in {
				type filter hook prerouting priority -350
				tcp dport { 45001, 45002 } meta length > 100 counter drop
			}
		}
	NFT
	in_ns client python3 "$LIB/answers.py" ask "$kind" "$SIZE" "$SITE/ready" "$SITE/go" "$SITE/b.log" &
	table=$!
	until_true 30 dropped
	until_true 60 test -e "$SITE/ready"
	in_ns client nft delete table inet narrow
	matrix_crash a b "$table"
}
