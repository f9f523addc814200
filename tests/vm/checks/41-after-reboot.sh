#!/usr/bin/env bash
# After the restart: the instance had ended by itself and is reported as drained; everything is in service again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$PAYLOAD/tests/vm/checks/lib.sh"

await 60 "all units" active berth-supervisor berth-agent berth-node berth-edge
log=$STATE/logs/$(cat /var/lib/vm/shut-instance).log
grep -q "ended in good order" "$log" || die "the app was not asked to end: $(cat "$log")"
drained() { [ "$(reason shut)" = drained ]; }
await 30 "the reason of the end" drained
answers() { get /container/shut/ >/dev/null 2>&1; }
await 60 "an instance after the restart" answers
journalctl --boot=-1 --unit=berth-node --no-pager | grep -q "the node is empty" || die "the node was not emptied"
echo cut >/var/lib/vm/reboot-wanted
