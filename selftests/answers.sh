# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=debug,next timeout=240
# Every kind of answer, through the death of its server and without (topology: lib/site.sh;
# outcomes: Documentation/answers.md). Those of a service that is declared deterministic: declared.sh.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
. "$LIB/answers.sh"

HOLD_MS=1000
answers_table any
