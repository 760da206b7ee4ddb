# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# shellcheck shell=bash
# Sourced by the scripts beside it: where things are, and artefacts that are built once.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${HOLDFAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/holdfast}
# shellcheck source=scripts/versions
. "$TOP/scripts/versions"

# Where the work tree and the cache appear inside the root and inside guests. They are fixed
# because kernel build trees remember absolute paths.
ROOT_TOP=/holdfast
ROOT_CACHE=/var/cache/holdfast

say() { echo "holdfast: $*" >&2; }
die() { say "$*"; exit 1; }

# key_of FILE-OR-STRING...: a short hash of contents; an argument that is no file counts as text.
key_of() {
	local arg
	for arg; do
		if [[ -f $arg ]]; then cat "$arg"; else printf '%s\n' "$arg"; fi
	done | sha256sum | cut -c1-12
}

# build_once NAME FUNCTION: make $CACHE/NAME by calling FUNCTION with a fresh temporary path
# beside it, unless it exists. Of two builders one waits; an interrupted one leaves only a *.tmp,
# which the next one clears. Sets BUILT to the path.
build_once() {
	local name=$1 make=$2 lock status
	BUILT=$CACHE/$name
	[[ -e $BUILT ]] && return
	mkdir -p "$CACHE/lock"
	exec {lock}>"$CACHE/lock/$name"
	flock "$lock"
	if [[ ! -e $BUILT ]]; then
		rm -rf --one-file-system "$BUILT.tmp"
		# Not a condition, in which `set -e` would not hold.
		set +e
		(set -e; "$make" "$BUILT.tmp")
		status=$?
		set -e
		((status == 0)) || die "could not make $name"
		mv "$BUILT.tmp" "$BUILT"
	fi
	exec {lock}>&-
}

# Run the calling script inside the Debian root, where the toolchain is, unless it already is
# there or the host is to be used as it is (HOLDFAST_NATIVE=1).
enter_root() {
	if [[ -n ${HOLDFAST_IN_ROOT:-} || ${HOLDFAST_NATIVE:-} == 1 ]]; then return; fi
	exec "$TOP/scripts/in-root" -- "$(realpath --relative-to="$TOP" "$0" | sed "s,^,$ROOT_TOP/,")" "$@"
}
