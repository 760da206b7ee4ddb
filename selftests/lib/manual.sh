# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# The examples that the help of holdfast and its manual pages have, each of them run, on the machines
# of guide.sh, by which this is sourced; and what is generated together with the pages.
#
# Addresses of examples are those of documentation; here they become those of the site: the service
# is 10.0.0.80:80, its client 10.1.0.9:40000.

# subcommands COMMAND...: their names.
subcommands() {
	at a holdfast "$@" --help | sed -n '/^Commands:/,/^$/p' | awk '/^  [a-z]/ && $1 != "help" { print $1 }'
}

# examples COMMAND...: one a line, without the words behind them.
examples() {
	at a holdfast "$@" --help | sed -n '/^Example/,/^$/p' | sed -n '/^  /p' |
		sed -e ':more' -e '/\\$/{N;s/ *\\\n */ /;b more' -e '}' -e 's/^  //' -e 's/   .*//'
}

# Everything that has a page: COMMAND... a line, the innermost first.
all_commands() {
	local name
	for name in $(subcommands "$@"); do
		all_commands "$@" "$name"
		echo "$* $name"
	done
}

# A connection with a download that lasts: from port 40000 of the client.
connect() {
	at client curl -s --local-port 40000 --limit-rate 100k -o /dev/null http://10.0.0.80/big &
	CONNECTION=$!
	until_true 20 at a holdfast status --why 10.1.0.9:40000
}

# example TEXT: does it on machine a.
example() {
	local text=$1 want=0 got=0 said=$SITE/example how=(bash -c)
	text=${text//192.0.2.1:80/10.0.0.80:80}
	text=${text//192.0.2.10:80/10.0.0.80:80}
	text=${text//192.0.2.7/10.1.0.9}
	case $text in
	# Those that know the connection already would be refused.
	*" splice "* | *" recover "*) text=${text//:40000/:40001} ;;
	esac
	case $text in
	# It draws on a terminal until it is interrupted.
	"holdfast top" | "holdfast top --sort"*) want=124 how=(env TERM=xterm script -qec) text="timeout --foreground -k 5 -s INT 5 $text" ;;
	*monitor* | *" log"*) want=124 how=(timeout -k 5 -s INT 5 bash -c) ;;
	# The answer of the server is another one than the example's, so that it is not joined.
	*" recover "*) want=1 ;;
	esac
	how+=("cd $SITE/here && $text")
	[[ ${how[*]} != *script* ]] || how+=(/dev/null)
	at a "${how[@]}" >"$said" 2>&1 </dev/null || got=$?
	# It may have an end.
	[[ $got == "$want" || $want-$got == 124-0 ]] || fail "example: $1: exit status $got: $(<"$said")"
	case $1 in
	*recover*) prints 'flow-join: ' cat "$said" || fail "example: $1: $(<"$said")" ;;
	*top* | *"show --service"* | *stats* | *status*) [[ -s $said ]] || fail "example: $1: it says nothing" ;;
	esac
	echo "example: $1"
}

manual() {
	local command text dir=$SITE/pages name
	mkdir -p "$SITE/here"
	printf 'GET /big HTTP/1.1\r\nHost: h\r\nRange: bytes=5000-\r\n\r\n' >"$SITE/here/range-request.http"
	# Stands for a way to another machine.
	printf '#!/bin/bash\nshift\nexec bash -c "$*"\n' >"$SITE/bin/ssh"
	chmod +x "$SITE/bin/ssh"
	plain_site
	connect

	# What only looks comes first, then what changes something, in an order in which it can be done.
	all_commands | sed 's/^ //' >"$SITE/commands"
	examples >"$SITE/all"
	while read -ra command; do
		case ${command[*]} in
		"splice del" | "flow end" | drain | undrain | reload | "service del" | "service add" | recover | log*) ;;
		*) examples "${command[@]}" >>"$SITE/all" ;;
		esac
	done <"$SITE/commands"
	for command in "splice del" recover "flow end" "service add" reload; do
		# shellcheck disable=SC2086
		examples $command >>"$SITE/all"
	done
	[[ $(wc -l <"$SITE/all") -ge 30 ]] || fail "there are more examples: $(<"$SITE/all")"
	while read -r text; do
		example "$text" </dev/null
	done <"$SITE/all"
	kill "$CONNECTION" 2>/dev/null || true
	wait "$CONNECTION" 2>/dev/null || true
	for command in drain undrain; do
		while read -r text; do
			until_true 60 ready b
			example "$text" </dev/null
		done < <(examples "$command")
	done
	# The log has one reader. Without the daemon nothing is drained: the address is there still.
	at a systemctl stop holdfastd
	grep ^log "$SITE/commands" >"$SITE/logs"
	while read -ra command; do
		while read -r text; do
			example "$text" </dev/null
		done < <(examples "${command[@]}")
	done <"$SITE/logs"
	example "$(examples service del)"

	# One page for each of them, with its examples; each shell completes all of them.
	cp "$HERE/../build/tools/release/holdfast-pages" "$SITE/bin"
	at a holdfast-pages "$dir"
	while read -r text; do
		[[ -s $dir/man/holdfast-${text// /-}.8 ]] || fail "$text has no page"
		for name in bash/holdfast.bash zsh/_holdfast fish/holdfast.fish; do
			grep -qw -- "${text##* }" "$dir/$name" || fail "$name does not know $text"
		done
	done <"$SITE/commands"
	prints 'holdfast drain .*to b' sed 's/\\//g' "$dir/man/holdfast-drain.8"
	# shellcheck disable=SC1090,SC2016
	prints '^undrain$' bash -c '. "$1"; COMP_WORDS=(holdfast und) COMP_CWORD=1; _holdfast holdfast und holdfast; echo "${COMPREPLY[@]}"' - "$dir/bash/holdfast.bash"

	# The example of a configuration, as it is.
	at a install -m 644 "$(realpath "$HERE/../userspace-tools/holdfastd/holdfastd.toml")" /etc/holdfast/holdfastd.toml
	at b systemctl stop holdfastd
	at a systemctl start holdfastd
	until_true 30 has a 192.0.2.10/
	at a systemctl stop holdfastd
	echo "the example of a configuration"
}
