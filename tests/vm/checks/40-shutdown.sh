#!/usr/bin/env bash
# The machine is restarted while containers run: each is asked to end first, and has the time for it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$PAYLOAD/tests/vm/checks/lib.sh"

get /container/shut/ >/dev/null
object shut .instance >/var/lib/vm/shut-instance
touch /var/lib/vm/reboot-wanted
