#!/usr/bin/env bash
# The power was cut while an instance ran: the edge knows that, disks are empty, and everything starts by itself.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$PAYLOAD/tests/vm/checks/lib.sh"

await 60 "all units" active berth-supervisor berth-agent berth-node berth-edge
answers() { get /container/shut/ >/dev/null 2>&1; }
await 60 "an instance after the power cut" answers
[ "$(object shut .generation)" -ge 3 ] || die "it is not a new instance: $(berth containers list)"
note "after the cut: $(berth containers list | grep shut)"
