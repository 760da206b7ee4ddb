# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock full=debug,next
# The module goes in and out, again and again, of the kernel that it was built for.
set -eu

for _ in 1 2 3; do
	insmod "$HOLDFAST_KO"
	grep -q '^holdfast ' /proc/modules
	rmmod holdfast
done

# Less than one connection is none that it could protect.
if insmod "$HOLDFAST_KO" max_flows=0; then exit 1; fi

# Another build of the same release may have other structures: it is refused, and why is said.
build=$(modinfo -F built_for "$HOLDFAST_KO")
[ "$build" = "$(uname -v)" ] || [ "$HOLDFAST_KERNEL" = debug ]
if [ -n "$build" ]; then
	sed "s/$build/X${build#?}/" "$HOLDFAST_KO" >/tmp/other.ko
	if insmod /tmp/other.ko; then exit 1; fi
	dmesg | grep -F "made for the kernel's build \"X${build#?}\", and this is \"$build\""
fi
