# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# Everything needs only root, make, Debian's mmdebstrap, python3 and util-linux; the toolchain, the
# kernels and the guests come from a Debian root that is made on first use (scripts/in-root).

# stock: Debian 13's backports kernel. next: one of the next series. debug: the same source, looking for mistakes.
KERNEL ?= stock
# A kernel build tree of your own; builds with this machine's own toolchain.
KDIR ?=

.DEFAULT_GOAL := all
.PHONY: all
all: module tools		## the module for KERNEL and the tools

.PHONY: module
module:				## build/KERNEL/holdfast.ko; KERNEL=stock|next|debug, or KDIR=tree
	@scripts/build-module $(or $(KDIR),$(KERNEL))

.PHONY: tools
tools:				## build/tools/release: the programs of userspace-tools/
	@[ ! -e userspace-tools/Cargo.lock ] || scripts/cargo build --release --locked --quiet

.PHONY: deb
deb:				## build/deb: Debian packages
	@scripts/build-deb

.PHONY: kernel-metadata
kernel-metadata:		## a build tree with Rust metadata for a distribution kernel; RELEASE=
	@scripts/kernel-metadata $(RELEASE)

.PHONY: kernel-debug
kernel-debug:			## build the debug kernel (a quarter of an hour, once)
	@scripts/kernel-debug

.PHONY: test
test:				## the usual tests
	@selftests/run

.PHONY: test-full
test-full:			## every test on every kernel; goes on where it was interrupted
	@selftests/run --full

.PHONY: bench
bench:				## measure what has no result for this tree yet; BENCH='failover load' only these
	@selftests/bench/run $(BENCH)

.PHONY: bench-report
bench-report:			## Documentation/benchmarks.md of the results that there are
	@selftests/bench/run --report

.PHONY: check
check:				## formatting, lints, generated files, rules of the tree
	@scripts/check

.PHONY: vm
vm:				## a guest: CMD='command', or a shell; KERNEL=stock|next|debug
	@selftests/vm/run --kernel $(KERNEL) $(if $(CMD),-- "$$CMD")
export CMD

.PHONY: demo
demo: module tools		## watch a server die and its connections live; MODE=off without us
	@selftests/vm/cluster selftests/demo.py $(MODE)

.PHONY: clean
clean:				## remove build/; the cache of kernels and roots stays
	rm -rf build

.PHONY: clean-cache
clean-cache: clean		## the cache too
	rm -rf --one-file-system "$${HOLDFAST_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/holdfast}"

.PHONY: help
help:				## this list
	@sed -nE 's/^([a-z-]+):.*## *(.*)/\1\t\2/p' Makefile | column -t -s "$$(printf '\t')"
