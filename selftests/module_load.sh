# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock full=debug,next
# The module goes in and out, again and again, of the kernel that it was built for.
set -eu

for _ in 1 2 3; do
	insmod "$HOLDFAST_KO"
	grep -q '^holdfast ' /proc/modules
	rmmod holdfast
done
