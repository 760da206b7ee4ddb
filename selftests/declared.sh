# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest kernel=stock sample=next timeout=240
# Answers of a service that is declared deterministic, through the death of its server and without
# (topology: lib/site.sh; outcomes: Documentation/answers.md): what is said again is joined at the
# exact byte, and what is seen to differ is not.
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
. "$LIB/answers.sh"

SERVICE_MORE='deterministic = true'
answers_table declared
reached b replayed 6 || fail "too little was replayed"
