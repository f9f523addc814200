#!/usr/bin/env bash
# The machine sleeps for longer than a term, and its edge says nothing: when it wakes, what ran there is paused, and goes on only
# once the edge has it go on. Before the edge is ever restarted: the one that ends gives longer terms, for two minutes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$PAYLOAD/tests/vm/checks/lib.sh"

# Longer than the 15 s of a term, by the clock that goes on while a machine sleeps.
readonly ASLEEP_S=20

instance() { get /container/sleeper/env/BERTH_DEPLOYMENT_ID; }
same() { [ "$(instance 2>/dev/null)" = "$before" ]; }
# How long the machine is up, what it slept included.
up_s() { cut -d. -f1 /proc/uptime; }
paused() { grep -q '^frozen 1$' "$group/cgroup.events"; }

before=$(instance)
pid=$(grep -lzE "^BERTH_DEPLOYMENT_ID=$before$" /proc/[0-9]*/environ 2>/dev/null | head -n 1 | cut -d/ -f3)
[ -n "$pid" ] || die "no process has the id of the instance"
group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
! paused || die "it is paused already"

edge=$(systemctl show -p MainPID --value berth-edge.service)
kill -STOP "$edge"
trap 'kill -CONT "$edge"' EXIT
began=$(up_s)
rtcwake --utc --mode mem --seconds "$ASLEEP_S"
slept=$(($(up_s) - began))
[ "$slept" -ge $((ASLEEP_S - 2)) ] || die "the machine slept for $slept s only"
await 10 "the pause of the container when the machine is back" paused
sleep 3
paused || die "it goes on, and its edge has said nothing"
kill -CONT "$edge"
await 60 "the same instance after the machine slept" same
! paused || die "it is paused still"
note "asleep for $slept s"
